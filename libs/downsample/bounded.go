package downsample

import (
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// BoundedIterator clips a series to a time range, both ends inclusive. Chunks reach
// beyond the range of a request; the query engine must not see that. The zero value
// is not ready; not safe for concurrent use.
type BoundedIterator struct {
	it         chunkenc.Iterator
	mint, maxt int64
	started    bool
	done       bool
}

var _ chunkenc.Iterator = (*BoundedIterator)(nil)

// NewBoundedIterator clips the fresh iterator it to Unix milliseconds mint..maxt.
func NewBoundedIterator(it chunkenc.Iterator, mint, maxt int64) *BoundedIterator {
	b := new(BoundedIterator)
	b.Reset(it, mint, maxt)
	return b
}

// Reset makes b clip another series.
func (b *BoundedIterator) Reset(it chunkenc.Iterator, mint, maxt int64) {
	*b = BoundedIterator{it: it, mint: mint, maxt: maxt}
}

// Next implements chunkenc.Iterator.
func (b *BoundedIterator) Next() chunkenc.ValueType {
	if b.done {
		return chunkenc.ValNone
	}
	if !b.started {
		b.started = true
		return b.clip(b.it.Seek(b.mint))
	}
	return b.clip(b.it.Next())
}

// Seek implements chunkenc.Iterator.
func (b *BoundedIterator) Seek(t int64) chunkenc.ValueType {
	if b.done {
		return chunkenc.ValNone
	}
	if t > b.maxt {
		b.done = true
		return chunkenc.ValNone
	}
	b.started = true
	return b.clip(b.it.Seek(max(t, b.mint)))
}

func (b *BoundedIterator) clip(typ chunkenc.ValueType) chunkenc.ValueType {
	if typ == chunkenc.ValNone || b.it.AtT() > b.maxt {
		b.done = true
		return chunkenc.ValNone
	}
	return typ
}

// At implements chunkenc.Iterator.
func (b *BoundedIterator) At() (int64, float64) { return b.it.At() }

// AtT implements chunkenc.Iterator.
func (b *BoundedIterator) AtT() int64 { return b.it.AtT() }

// AtHistogram implements chunkenc.Iterator.
func (b *BoundedIterator) AtHistogram(h *histogram.Histogram) (int64, *histogram.Histogram) {
	return b.it.AtHistogram(h)
}

// AtFloatHistogram implements chunkenc.Iterator.
func (b *BoundedIterator) AtFloatHistogram(fh *histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
	return b.it.AtFloatHistogram(fh)
}

// Err implements chunkenc.Iterator.
func (b *BoundedIterator) Err() error { return b.it.Err() }
