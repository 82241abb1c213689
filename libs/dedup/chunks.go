package dedup

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/promontory-io/promontory/libs/chunks"
	"github.com/promontory-io/promontory/libs/downsample"
)

// LookAround returns by how much a reader has to widen the time range it asks stores
// for, at both ends, when it merges with Exact: then, and if stores send whole chunks,
// the samples inside the range do not depend on where the range begins and ends.
// resolution is the coarsest downsampled data that may come, 0 for raw only. The other
// functions need no widening, and none helps them.
func LookAround(resolution time.Duration) time.Duration {
	return lookAround*time.Millisecond + 2*resolution
}

// Widened returns mint and maxt, Unix milliseconds, moved apart by LookAround where fn
// is Exact, and as they are otherwise. Times at the ends of the scale stay there.
func Widened(fn Func, mint, maxt int64, resolution time.Duration) (int64, int64) {
	if fn != Exact {
		return mint, maxt
	}
	d := LookAround(resolution).Milliseconds()
	return minus(mint, d), plus(maxt, d)
}

// chunkBounds is the time, in milliseconds, at whose multiples Prometheus ends all chunks.
const chunkBounds = 2 * 60 * 60 * 1000

// Uncut returns mint and maxt, Unix milliseconds, moved apart to times where Prometheus never has
// a chunk on both sides. It is for stores that cut chunks to the range asked for, as Prometheus' remote read and
// so the sidecar does: of such a range they send whole ones, and so what Exact chooses does not depend on it.
func Uncut(mint, maxt int64) (int64, int64) {
	before := mint % chunkBounds
	if before < 0 {
		before += chunkBounds
	}
	behind := maxt % chunkBounds
	if behind < 0 {
		behind += chunkBounds
	}
	return minus(mint, before), plus(maxt, chunkBounds-1-behind)
}

// MergeChunks merges the chunks of one series, those of all replicas in one list, into
// its samples.
//
// chks must be sorted by chunks.AggrChunk.Compare, as SortUnique leaves them, raw ones and
// downsampled ones in any mix. aggrs is what downsample.AggregatesFor returned, or {Raw}:
// which aggregate to read. Chunks are decoded when the result reaches them, and with Exact only
// where they are needed; chks is kept until the iterator is no longer used, and not written to.
//
// The result has timestamps strictly ascending and keeps the promises that are written
// at Merge. A chunk that cannot be decoded ends the series with an error that names it.
func MergeChunks(fn Func, chks []chunks.AggrChunk, aggrs []chunks.Aggr, opts Options) chunkenc.Iterator {
	return new(Merger).MergeChunks(fn, chks, aggrs, opts)
}

// MergeChunks is like the function MergeChunks. The returned iterator is valid until the
// next call of any method.
func (m *Merger) MergeChunks(fn Func, chks []chunks.AggrChunk, aggrs []chunks.Aggr, opts Options) chunkenc.Iterator {
	counter := slices.Equal(aggrs, onlyCounter)
	evened := counter && !allRaw(chks)
	switch fn {
	case Exact:
		if counter && !evened {
			// The engine sees the true values, and with them the resets.
			aggrs = onlyRaw
		}
		if !overlap(chks) {
			return m.reader(0).Iterator(chks, aggrs)
		}
		m.exact.reset(chks, aggrs, evened)
		return &m.exact
	case Penalty, Chain:
		lanes := SplitOverlaps(chks, bounds)
		if counter && !evened && (opts.TrueValues || len(lanes) == 1) {
			aggrs = onlyRaw
		}
		m.its = m.its[:0]
		for i, lane := range lanes {
			m.its = append(m.its, m.reader(i).Iterator(lane, aggrs))
		}
		return m.Merge(fn, m.its, opts)
	}
	return unknown(fn)
}

var (
	onlyCounter = []chunks.Aggr{chunks.Counter}
	onlyRaw     = []chunks.Aggr{chunks.Raw}
)

func (m *Merger) reader(i int) *downsample.Reader {
	for len(m.readers) <= i {
		m.readers = append(m.readers, new(downsample.Reader))
	}
	return m.readers[i]
}

func bounds(c *chunks.AggrChunk) (mint, maxt int64) { return c.MinTime, c.MaxTime }

// allRaw reports whether every chunk has samples themselves.
func allRaw(chks []chunks.AggrChunk) bool {
	for i := range chks {
		if !chks[i].Raw.Present() {
			return false
		}
	}
	return true
}

// overlap reports whether any two chunks do.
func overlap(chks []chunks.AggrChunk) bool {
	for i := 1; i < len(chks); i++ {
		if chks[i].MinTime <= chks[i-1].MaxTime {
			return true
		}
	}
	return false
}

func unknown(fn Func) chunkenc.Iterator {
	// Func values come from ParseFunc; anything else is still no reason to panic
	// or to answer with one replica as if it were all of them.
	return failed{err: fmt.Errorf("unknown deduplication function %q", string(fn))}
}

// plus and minus stay at the ends of the scale instead of going round.
func plus(t, d int64) int64 {
	if t > math.MaxInt64-d {
		return math.MaxInt64
	}
	return t + d
}

func minus(t, d int64) int64 {
	if t < math.MinInt64+d {
		return math.MinInt64
	}
	return t - d
}
