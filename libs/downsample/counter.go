package downsample

import (
	"fmt"
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/promontory-io/promontory/libs/chunks"
)

// CounterSeries reads a counter over a sequence of chunks and evens out its resets:
// what it returns never falls. Chunks of counter aggregates and raw ones may follow
// each other in any mix; see the package comment for how the former end.
//
// NaNs, and so staleness markers, are returned as they are and do not count as a
// fall. Histograms are returned as they are too: their resets are the query engine's
// business. The zero value is an empty series. Not safe for concurrent use.
type CounterSeries struct {
	chks []chunks.AggrChunk
	dec  decoder
	next int
	cur  chunkenc.Iterator
	seam bool // the current histogram is the first sample taken from its chunk
	err  error

	typ   chunkenc.ValueType
	t     int64
	v     float64 // what At returns
	total float64
	// last is the true raw value to which the next one is compared, if seen.
	last     float64
	seen     bool
	started  bool
	newChunk bool // nothing was taken from cur yet
}

// NewCounterSeries returns a reader over chks, which are sorted by minimum time.
func NewCounterSeries(chks []chunks.AggrChunk) *CounterSeries {
	c := new(CounterSeries)
	c.Reset(chks)
	return c
}

// Reset makes c read chks from the beginning. Memory is used again.
func (c *CounterSeries) Reset(chks []chunks.AggrChunk) {
	*c = CounterSeries{chks: chks, dec: c.dec, t: math.MinInt64}
}

// Last returns the raw value of the newest float sample read so far, which is the
// value to end a chunk of counter aggregates with. False: there was none.
func (c *CounterSeries) Last() (float64, bool) { return c.last, c.seen }

// Next implements chunkenc.Iterator.
func (c *CounterSeries) Next() chunkenc.ValueType {
	for c.err == nil {
		if c.cur == nil && !c.open() {
			break
		}
		switch typ := c.cur.Next(); typ {
		case chunkenc.ValNone:
			c.close()
		case chunkenc.ValFloat:
			t, v := c.cur.At()
			if c.take(t, v) {
				c.typ = chunkenc.ValFloat
				return c.typ
			}
		default:
			t := c.cur.AtT()
			if c.started && t <= c.t {
				continue
			}
			c.seam = c.newChunk
			c.typ, c.t, c.started, c.newChunk = typ, t, true, false
			return c.typ
		}
	}
	c.typ = chunkenc.ValNone
	return c.typ
}

// take adds the sample to the running total and reports whether it is to be returned.
func (c *CounterSeries) take(t int64, v float64) bool {
	switch {
	case c.started && t < c.t:
		return false // chunks that overlap: this time has been answered
	case c.started && t == c.t:
		if !math.IsNaN(v) {
			c.last = v
		}
		return false
	case math.IsNaN(v):
		c.v = v
	case !c.seen:
		c.total, c.last, c.seen = v, v, true
		c.v = v
	default:
		if v < c.last {
			c.total += v
		} else {
			c.total += v - c.last
		}
		c.last = v
		c.v = c.total
	}
	c.t, c.started, c.newChunk = t, true, false
	return true
}

// open goes on to the next chunk that has something to read.
func (c *CounterSeries) open() bool {
	for c.next < len(c.chks) {
		chk := &c.chks[c.next]
		c.next++
		part, ok := chk.Of(chunks.Counter)
		if !ok {
			part, ok = chk.Of(chunks.Raw)
		}
		if !ok {
			continue
		}
		cur, err := c.dec.open(part)
		if err != nil {
			c.fail(err)
			return false
		}
		c.cur, c.newChunk = cur, true
		return true
	}
	return false
}

func (c *CounterSeries) close() {
	if err := c.cur.Err(); err != nil {
		c.fail(err)
	}
	c.cur = nil
}

func (c *CounterSeries) fail(err error) {
	chk := &c.chks[c.next-1]
	c.err = fmt.Errorf("read counter chunk from %d to %d: %w", chk.MinTime, chk.MaxTime, err)
}

// Seek implements chunkenc.Iterator. It reads everything on the way, for the total.
func (c *CounterSeries) Seek(t int64) chunkenc.ValueType {
	for c.typ == chunkenc.ValNone || c.t < t {
		if c.Next() == chunkenc.ValNone {
			return chunkenc.ValNone
		}
	}
	return c.typ
}

// At implements chunkenc.Iterator.
func (c *CounterSeries) At() (int64, float64) { return c.t, c.v }

// AtT implements chunkenc.Iterator.
func (c *CounterSeries) AtT() int64 { return c.t }

// AtHistogram implements chunkenc.Iterator.
func (c *CounterSeries) AtHistogram(h *histogram.Histogram) (int64, *histogram.Histogram) {
	t, h := c.cur.AtHistogram(h)
	if c.seam && h != nil {
		h.CounterResetHint = atSeam(h.CounterResetHint)
	}
	return t, h
}

// AtFloatHistogram implements chunkenc.Iterator.
func (c *CounterSeries) AtFloatHistogram(fh *histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
	t, fh := c.cur.AtFloatHistogram(fh)
	if c.seam && fh != nil {
		fh.CounterResetHint = atSeam(fh.CounterResetHint)
	}
	return t, fh
}

// Err implements chunkenc.Iterator.
func (c *CounterSeries) Err() error { return c.err }

var _ chunkenc.Iterator = (*CounterSeries)(nil)
