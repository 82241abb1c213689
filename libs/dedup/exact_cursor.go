package dedup

import (
	"fmt"
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/promontory-io/promontory/libs/chunks"
	"github.com/promontory-io/promontory/libs/downsample"
	"github.com/promontory-io/promontory/libs/xorchunk"
)

// recent is how many distances between samples the scrape interval is learnt from.
const recent = 5

// mark is a staleness marker.
type mark struct {
	t   int64
	typ chunkenc.ValueType
	v   float64 // with its payload
}

// cursor reads one chunk, sample by sample, and learns from it. It always reads from the
// chunk's beginning, so that what it has learnt at a sample depends on the chunk alone, never on where
// the reading of the series began.
//
// Staleness markers are put aside: they are no samples but say that there is none.
type cursor struct {
	rd downsample.Reader
	it chunkenc.Iterator // nil where the chunk holds nothing but floats
	// Those are decoded all at once: points[at:] are behind the sample at hand.
	xor    xorchunk.Reader
	points []xorchunk.Point
	at     int
	xorErr error // comes behind the points
	// The bounds of the chunk, for errors.
	mint, maxt int64

	// The sample at hand; typ is ValNone when there is none left.
	typ  chunkenc.ValueType
	kind chunkenc.ValueType // that of the sample at hand, or of the last one
	t    int64
	v    float64 // the value of a float, the number of observations of a histogram
	h    *histogram.Histogram
	fh   *histogram.FloatHistogram
	seq  int // which sample of the chunk, markers included

	began bool
	first float64 // value
	// The sample before it in the chunk.
	hasPrev bool
	prevT   int64
	prev    float64
	// est is the scrape interval learnt up to the sample at hand, before the one learnt up
	// to the sample before it; 0 when nothing is known.
	est, before int64
	mean        int64 // what the chunk says as a whole
	deltas      [recent]int64
	oldest      int // which of deltas is replaced next
	learnt      int // deltas seen

	falls    int
	lastFall int64
	gauge    bool // histograms that say so
	negative bool // a value below zero was seen

	marks []mark
	err   error
}

// open decodes the piece and makes c stand at its first sample.
func (c *cursor) open(p *piece, chk []chunks.AggrChunk, aggrs []chunks.Aggr, evened bool) {
	c.it, c.points, c.xorErr = nil, c.points[:0], nil
	if raw := p.chunk.Raw; p.chunk.Aggr == nil && !evened && raw.Encoding == chunkenc.EncXOR {
		c.points, c.xorErr = c.xor.Append(c.points, raw.Data)
	} else {
		c.it = c.rd.Iterator(chk, aggrs)
	}
	c.begin(p)
}

// begin makes c, whose points or iterator are those of p, stand at the first sample.
func (c *cursor) begin(p *piece) {
	c.mint, c.maxt, c.at = p.chunk.MinTime, p.chunk.MaxTime, 0
	c.typ, c.kind, c.t, c.v, c.seq = chunkenc.ValNone, chunkenc.ValNone, math.MinInt64, 0, 0
	c.began, c.hasPrev = false, false
	c.est, c.before, c.mean = p.mean, p.mean, p.mean
	c.oldest, c.learnt, c.deltas = 0, 0, [recent]int64{}
	c.falls, c.lastFall, c.gauge = 0, math.MinInt64, false
	c.negative = false
	c.marks, c.err = c.marks[:0], nil
	c.next()
}

// over reports that no sample is left.
func (c *cursor) over() bool { return c.typ == chunkenc.ValNone }

// seekAfter moves to the first sample after x.
func (c *cursor) seekAfter(x int64) {
	for c.typ != chunkenc.ValNone && c.t <= x {
		c.next()
	}
}

// next moves to the next sample.
func (c *cursor) next() {
	if c.it != nil {
		c.nextOfAny()
		return
	}
	for c.at < len(c.points) {
		x := c.points[c.at]
		c.at++
		c.seq++
		if math.IsNaN(x.V) && value.IsStaleNaN(x.V) {
			c.marks = append(c.marks, mark{x.T, chunkenc.ValFloat, x.V})
			continue
		}
		if !c.began {
			c.began, c.first, c.typ, c.kind = true, x.V, chunkenc.ValFloat, chunkenc.ValFloat
		} else {
			if x.V < c.v {
				c.falls++
				c.lastFall = x.T
			}
			c.hasPrev, c.prevT, c.prev, c.before = true, c.t, c.v, c.est
			if d := x.T - c.t; d != c.deltas[c.oldest] {
				c.learn(d)
			} else {
				c.forget()
			}
		}
		c.negative = c.negative || x.V < 0
		c.t, c.v = x.T, x.V
		return
	}
	c.finish(c.xorErr)
}

// finish is where there is no sample left, or none that can be read.
func (c *cursor) finish(err error) {
	c.typ = chunkenc.ValNone
	if err != nil {
		c.err = fmt.Errorf("merge replicas: decode chunk from %d to %d: %w", c.mint, c.maxt, err)
	}
}

func (c *cursor) nextOfAny() {
	for {
		typ := c.it.Next()
		c.seq++
		var t int64
		var v float64
		fell := false
		switch typ {
		case chunkenc.ValFloat:
			t, v = c.it.At()
			if math.IsNaN(v) && value.IsStaleNaN(v) {
				c.marks = append(c.marks, mark{t, typ, v})
				continue
			}
		case chunkenc.ValNone:
			c.finish(c.it.Err())
			return
		case chunkenc.ValHistogram:
			if c.h == nil {
				c.h = new(histogram.Histogram)
			}
			t, c.h = c.it.AtHistogram(c.h)
			if value.IsStaleNaN(c.h.Sum) {
				c.marks = append(c.marks, mark{t, typ, c.h.Sum})
				continue
			}
			v, c.gauge = float64(c.h.Count), c.h.CounterResetHint == histogram.GaugeType
			fell = c.h.CounterResetHint == histogram.CounterReset
		case chunkenc.ValFloatHistogram:
			if c.fh == nil {
				c.fh = new(histogram.FloatHistogram)
			}
			t, c.fh = c.it.AtFloatHistogram(c.fh)
			if value.IsStaleNaN(c.fh.Sum) {
				c.marks = append(c.marks, mark{t, typ, c.fh.Sum})
				continue
			}
			v, c.gauge = c.fh.Count, c.fh.CounterResetHint == histogram.GaugeType
			fell = c.fh.CounterResetHint == histogram.CounterReset
		default:
			c.typ, c.err = chunkenc.ValNone, fmt.Errorf("read samples: value type %s is not known", typ)
			return
		}
		if !c.began {
			c.began, c.first = true, v
		} else {
			if t <= c.t {
				continue // no order, no sample
			}
			if v < c.v || fell {
				c.falls++
				c.lastFall = t
			}
			c.hasPrev, c.prevT, c.prev, c.before = true, c.t, c.v, c.est
			if d := t - c.t; d != c.deltas[c.oldest] {
				c.learn(d)
			} else {
				c.forget()
			}
		}
		c.negative = c.negative || v < 0
		c.typ, c.kind, c.t, c.v = typ, typ, t, v
		return
	}
}

// learn takes a distance into the estimate: the second smallest of the last few. Lost scrapes
// make distances longer, and a restart makes one shorter; neither shows in it. What was merged before has
// short ones where its replicas change, of which the third smallest is no multiple.
func (c *cursor) learn(d int64) {
	if d <= 0 {
		return // further apart than the scale is long
	}
	c.deltas[c.oldest] = d
	c.forget()
	c.learnt++
	const far = math.MaxInt64
	least, second, third := int64(far), int64(far), int64(far)
	for _, x := range c.deltas[:min(c.learnt, recent)] {
		switch {
		case x < least:
			least, second, third = x, least, second
		case x < second:
			second, third = x, second
		case x < third:
			third = x
		}
	}
	switch {
	case c.learnt == 1:
		second = least
	case third != far && third-second > second/5 && !multiple(third, second):
		second = third
	}
	c.est = smaller(second, c.mean)
}

// multiple reports whether a is about two to four times b.
func multiple(a, b int64) bool {
	off := a % b
	return a/b < 5 && min(off, b-off) <= b/5
}

// forget makes the next one of the last distances the oldest; that is all there is to do where an equal one replaces it.
func (c *cursor) forget() {
	if c.oldest++; c.oldest == recent {
		c.oldest = 0
	}
}

// gap reports whether d is too long for two neighbouring scrapes of one replica that
// scrapes at the given interval. Without an interval everything is.
func gap(d, interval int64) bool { return d < 0 || d > interval+interval/2 }

// wide reports whether d, between samples of two replicas, is longer than what the query
// engine's extrapolation takes for one interval, which is 1.1 of it.
func wide(d, interval int64) bool { return d < 0 || d > interval+interval/10 }

// near reports whether a chunk that begins d after another one ended goes on with it.
func near(d, interval int64) bool { return d >= 0 && d <= interval+interval/4 && d <= lookAround }
