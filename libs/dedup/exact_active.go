package dedup

import (
	"math"
	"slices"

	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/promontory-io/promontory/libs/chunks"
)

// load makes pieces of all chunks that begin at or before t.
func (e *exactIterator) load(t int64) {
	if t >= e.nextMin {
		e.loadTo(t)
	}
}

func (e *exactIterator) loadTo(t int64) {
	for e.next < len(e.chks) && e.chks[e.next].MinTime <= t {
		i := e.next
		c := &e.chks[i]
		e.next++
		if c.MaxTime <= minus(e.x, lookAround) {
			continue // passed over by a Seek
		}
		part, ok := e.part(c)
		if !ok || e.known(c) {
			continue
		}
		p := take(&e.freePieces)
		p.describe(c, part)
		p.index = i
		at, _ := slices.BinarySearchFunc(e.active, p, func(q, p *piece) int {
			if q.better(p) {
				return -1
			}
			return 1
		})
		e.active = slices.Insert(e.active, at, p)
		e.loaded = true
	}
	e.nextMin = math.MaxInt64
	if e.next < len(e.chks) {
		e.nextMin = e.chks[e.next].MinTime
	}
}

// part returns the part of c that tells its number of samples.
func (e *exactIterator) part(c *chunks.AggrChunk) (chunks.Chunk, bool) {
	// One of count and sum is as good as the other.
	if part, ok := c.Of(e.aggrs[0]); ok {
		return part, true
	}
	return c.Of(chunks.Raw)
}

// known reports whether a loaded chunk has the same bytes as c: two copies of one replica.
func (e *exactIterator) known(c *chunks.AggrChunk) bool {
	for _, p := range e.active {
		if q := p.chunk; q.MinTime == c.MinTime && q.Equal(c) {
			return true
		}
	}
	return false
}

// retire forgets the pieces that ended too long ago to matter.
func (e *exactIterator) retire() {
	e.loaded = false
	old := minus(e.x, lookAround)
	e.active = slices.DeleteFunc(e.active, func(p *piece) bool {
		if p == e.owner || p.maxt > old {
			return false
		}
		e.free(p)
		return true
	})
}

func (e *exactIterator) free(p *piece) {
	if p.cur != nil {
		e.freeCurs = append(e.freeCurs, p.cur)
	}
	if p.probe != nil {
		e.freeProbes = append(e.freeProbes, p.probe)
	}
	*p = piece{}
	e.freePieces = append(e.freePieces, p)
}

func (e *exactIterator) cursor() *cursor { return take(&e.freeCurs) }

// one returns the chunk of p as a list.
func (e *exactIterator) one(p *piece) []chunks.AggrChunk { return e.chks[p.index : p.index+1] }

// take removes the last element of a free list, or makes one.
func take[T any](free *[]*T) *T {
	n := len(*free)
	if n == 0 {
		return new(T)
	}
	x := (*free)[n-1]
	*free = (*free)[:n-1]
	return x
}

// gather collects the staleness markers between x and next's sample at hand, of the pieces
// that were asked for samples there.
func (e *exactIterator) gather(next *piece) {
	for _, p := range e.active {
		if p.cur == nil {
			continue
		}
		for _, m := range p.cur.marks {
			if m.t > e.x && (next == nil || m.t < next.cur.t) {
				e.marks = append(e.marks, m)
			}
		}
	}
	slices.SortFunc(e.marks, func(a, b mark) int {
		switch {
		case a.t < b.t:
			return -1
		case a.t > b.t:
			return 1
		}
		return 0
	})
	e.marks = slices.CompactFunc(e.marks, func(a, b mark) bool { return a.t == b.t })
}

// markBefore makes the first marker the current sample; next's comes after the last one.
func (e *exactIterator) markBefore(next *piece) {
	e.after, e.onMark, e.typ = next, true, e.marks[0].typ
}

// afterMark goes on to the next marker, or to the sample after them.
func (e *exactIterator) afterMark() chunkenc.ValueType {
	e.marks = e.marks[1:]
	if len(e.marks) > 0 {
		e.typ = e.marks[0].typ
		return e.typ
	}
	e.onMark = false
	if e.after == nil {
		return e.end()
	}
	e.settle(e.after)
	return e.typ
}
