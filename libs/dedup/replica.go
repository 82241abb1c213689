package dedup

import (
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// replica is one input of a merge with its current sample at hand, so that comparing
// sides costs no call.
type replica struct {
	it  chunkenc.Iterator
	sub *penaltyIterator   // it, where that is a merge of counters with offsets of its own
	typ chunkenc.ValueType // ValNone once exhausted
	t   int64
	v   float64 // as stored, for floats
	off float64 // to be added to v
}

func newReplica(it chunkenc.Iterator) replica {
	sub, _ := it.(*penaltyIterator)
	return replica{it: it, sub: sub}
}

func (r *replica) next() { r.load(r.it.Next()) }

// seek moves to the first sample at or after t unless already there or exhausted.
func (r *replica) seek(t int64) {
	if r.typ == chunkenc.ValNone || r.t >= t {
		return
	}
	r.load(r.it.Seek(t))
}

func (r *replica) load(typ chunkenc.ValueType) {
	r.typ = typ
	switch typ {
	case chunkenc.ValNone:
	case chunkenc.ValFloat:
		r.t, r.v = r.it.At()
	default:
		r.t = r.it.AtT()
	}
}

// value returns the current float with its offset. Adding to a NaN would destroy its
// payload, and with it the staleness marker.
func (r *replica) value() float64 {
	if r.off == 0 || math.IsNaN(r.v) {
		return r.v
	}
	return r.v + r.off
}

// liftTo raises the offset so that the current float is not below v.
func (r *replica) liftTo(v float64) {
	if r.typ != chunkenc.ValFloat {
		return
	}
	if r.sub != nil {
		r.sub.lift(v)
		r.v = r.sub.v
		return
	}
	if cur := r.value(); v > cur {
		r.off += v - cur
	}
}

// atHistogram reads the current histogram of it. adjacent says that the sample before
// it in the merged series is also the one before it in it.
func atHistogram(it chunkenc.Iterator, adjacent bool, h *histogram.Histogram) (int64, *histogram.Histogram) {
	t, h := it.AtHistogram(h)
	if !adjacent && h != nil {
		h.CounterResetHint = withoutNeighbour(h.CounterResetHint)
	}
	return t, h
}

func atFloatHistogram(it chunkenc.Iterator, adjacent bool, fh *histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
	t, fh := it.AtFloatHistogram(fh)
	if !adjacent && fh != nil {
		fh.CounterResetHint = withoutNeighbour(fh.CounterResetHint)
	}
	return t, fh
}

func withoutNeighbour(hint histogram.CounterResetHint) histogram.CounterResetHint {
	if hint == histogram.GaugeType {
		return hint
	}
	return histogram.UnknownCounterReset
}

// failed is a series that could not be merged.
type failed struct{ err error }

func (failed) Next() chunkenc.ValueType      { return chunkenc.ValNone }
func (failed) Seek(int64) chunkenc.ValueType { return chunkenc.ValNone }
func (failed) At() (int64, float64)          { return math.MinInt64, 0 }
func (failed) AtT() int64                    { return math.MinInt64 }
func (failed) AtHistogram(*histogram.Histogram) (int64, *histogram.Histogram) {
	return math.MinInt64, nil
}

func (failed) AtFloatHistogram(*histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
	return math.MinInt64, nil
}
func (f failed) Err() error { return f.err }
