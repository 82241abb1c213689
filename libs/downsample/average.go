package downsample

import (
	"errors"
	"fmt"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/promontory-io/promontory/libs/chunks"
)

// average is the mean of each window of one chunk: its sum over its count. Sums are
// floats or float histograms.
type average struct {
	countDec, sumDec decoder
	count, sum       chunkenc.Iterator
	typ              chunkenc.ValueType
	t                int64
	n                float64
	err              error
}

func (a *average) open(count, sum chunks.Chunk) error {
	a.typ, a.err = chunkenc.ValNone, nil
	var err error
	if a.count, err = a.countDec.open(count); err != nil {
		return fmt.Errorf("open count: %w", err)
	}
	if a.sum, err = a.sumDec.open(sum); err != nil {
		return fmt.Errorf("open sum: %w", err)
	}
	return nil
}

func (a *average) Next() chunkenc.ValueType { return a.settle(a.count.Next(), a.sum.Next()) }

func (a *average) Seek(t int64) chunkenc.ValueType {
	if a.typ != chunkenc.ValNone && a.t >= t {
		return a.typ
	}
	return a.settle(a.count.Seek(t), a.sum.Seek(t))
}

// settle takes the sample both sides stand on, which must be one window's.
func (a *average) settle(count, sum chunkenc.ValueType) chunkenc.ValueType {
	a.typ = chunkenc.ValNone
	if a.err != nil {
		return chunkenc.ValNone
	}
	if count == chunkenc.ValNone || sum == chunkenc.ValNone {
		if a.err = errors.Join(a.count.Err(), a.sum.Err()); a.err == nil && count != sum {
			a.err = fmt.Errorf("%w: count and sum have different numbers of samples", ErrCorrupt)
		}
		return chunkenc.ValNone
	}
	if count != chunkenc.ValFloat {
		a.err = fmt.Errorf("%w: count is a %s", ErrCorrupt, count)
		return chunkenc.ValNone
	}
	t, n := a.count.At()
	if st := a.sum.AtT(); st != t {
		a.err = fmt.Errorf("%w: count is at %d, sum at %d", ErrCorrupt, t, st)
		return chunkenc.ValNone
	}
	a.t, a.n, a.typ = t, n, sum
	if sum == chunkenc.ValHistogram {
		// The quotient of integer buckets has fractions.
		a.typ = chunkenc.ValFloatHistogram
	}
	return a.typ
}

func (a *average) At() (int64, float64) {
	_, v := a.sum.At()
	return a.t, v / a.n
}

func (a *average) AtT() int64 { return a.t }

func (a *average) AtHistogram(*histogram.Histogram) (int64, *histogram.Histogram) {
	return a.t, nil // never announced by Next or Seek
}

func (a *average) AtFloatHistogram(fh *histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
	if fh == nil {
		// Dividing in place must not reach buckets that the chunk iterator still holds.
		fh = &histogram.FloatHistogram{}
	}
	_, fh = a.sum.AtFloatHistogram(fh)
	fh.Div(a.n)
	fh.CounterResetHint = histogram.GaugeType
	return a.t, fh
}

func (a *average) Err() error { return a.err }
