package dedup

import (
	"slices"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// chainIterator merges replicas by timestamp. At equal timestamps the sample of the
// first replica is kept, so that identical replicas give exactly the first one.
//
// Replicas are few: a scan over their current timestamps beats a heap.
type chainIterator struct {
	replicas []replica
	cur      int // index of the current sample's replica; -1 before the first sample
	adjacent bool
	done     bool
	lastT    int64
	err      error
}

func (c *chainIterator) reset(its []chunkenc.Iterator) {
	clear(c.replicas) // drop references to the series before
	rs := slices.Grow(c.replicas[:0], len(its))
	for _, it := range its {
		rs = append(rs, replica{it: it})
	}
	*c = chainIterator{replicas: rs, cur: -1}
}

func (c *chainIterator) Next() chunkenc.ValueType {
	if c.done {
		return chunkenc.ValNone
	}
	first := c.cur < 0
	for i := range c.replicas {
		r := &c.replicas[i]
		if !first && (r.typ == chunkenc.ValNone || r.t > c.lastT) {
			continue
		}
		if r.next(); !c.ok(r) {
			return chunkenc.ValNone
		}
	}
	return c.pick(true)
}

// Seek moves all replicas straight to t: what is returned at a time depends on the
// samples at that time alone, so jumping is safe here.
func (c *chainIterator) Seek(t int64) chunkenc.ValueType {
	switch {
	case c.done:
		return chunkenc.ValNone
	case c.cur >= 0 && c.lastT >= t:
		return c.replicas[c.cur].typ
	}
	first := c.cur < 0
	for i := range c.replicas {
		r := &c.replicas[i]
		if first {
			r.load(r.it.Seek(t))
		} else {
			r.seek(t)
		}
		if !c.ok(r) {
			return chunkenc.ValNone
		}
	}
	return c.pick(false)
}

// ok reports whether r may be used; if not, the merge has ended with r's error.
func (c *chainIterator) ok(r *replica) bool {
	if r.typ != chunkenc.ValNone {
		return true
	}
	if c.err = r.it.Err(); c.err != nil {
		c.done = true
		return false
	}
	return true
}

// pick makes the earliest sample the current one. stepped: every replica was moved by
// at most one sample since the last pick.
func (c *chainIterator) pick(stepped bool) chunkenc.ValueType {
	best := -1
	for i := range c.replicas {
		r := &c.replicas[i]
		if r.typ != chunkenc.ValNone && (best < 0 || r.t < c.replicas[best].t) {
			best = i
		}
	}
	if best < 0 {
		c.done = true
		return chunkenc.ValNone
	}
	c.adjacent = stepped && best == c.cur
	c.cur, c.lastT = best, c.replicas[best].t
	return c.replicas[best].typ
}

// at returns the current replica; the first one while there is no current sample,
// where the promise of chunkenc.Iterator is merely not to be asked.
func (c *chainIterator) at() *replica { return &c.replicas[max(c.cur, 0)] }

func (c *chainIterator) At() (int64, float64) { r := c.at(); return r.t, r.v }

func (c *chainIterator) AtT() int64 { return c.at().t }

func (c *chainIterator) AtHistogram(h *histogram.Histogram) (int64, *histogram.Histogram) {
	return atHistogram(c.at().it, c.adjacent, h)
}

func (c *chainIterator) AtFloatHistogram(fh *histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
	return atFloatHistogram(c.at().it, c.adjacent, fh)
}

func (c *chainIterator) Err() error { return c.err }
