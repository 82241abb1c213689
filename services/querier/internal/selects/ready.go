package selects

import (
	"math"
	"sort"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/promontory-io/promontory/libs/xorchunk"
)

// readyIterator reads samples that have been decoded ahead.
type readyIterator struct {
	own *iterator // whose part it is

	points []xorchunk.Point
	at     int // index of the sample at hand, -1 before the first
	err    error
	// from is where the points go when they are not needed any more.
	from *ahead
}

var _ chunkenc.Iterator = (*readyIterator)(nil)

func (r *readyIterator) reset(d ready, from *ahead) {
	r.points, r.err, r.from, r.at = d.points, d.err, from, -1
}

// release gives the memory back.
func (r *readyIterator) release() {
	if r.from != nil {
		r.from.release(r.points)
	}
	r.points, r.err, r.from = nil, nil, nil
}

// Next implements chunkenc.Iterator.
func (r *readyIterator) Next() chunkenc.ValueType {
	if r.at+1 >= len(r.points) {
		r.at = len(r.points)
		return chunkenc.ValNone
	}
	r.at++
	return chunkenc.ValFloat
}

// Seek implements chunkenc.Iterator.
func (r *readyIterator) Seek(t int64) chunkenc.ValueType {
	from := max(r.at, 0)
	// It is mostly one of the next few, else somewhere behind.
	for end := min(from+8, len(r.points)); from < end; from++ {
		if r.points[from].T >= t {
			r.at = from
			return chunkenc.ValFloat
		}
	}
	rest := r.points[from:]
	r.at = from + sort.Search(len(rest), func(i int) bool { return rest[i].T >= t })
	if r.at == len(r.points) {
		return chunkenc.ValNone
	}
	return chunkenc.ValFloat
}

// At implements chunkenc.Iterator.
func (r *readyIterator) At() (int64, float64) {
	if uint(r.at) >= uint(len(r.points)) {
		return math.MinInt64, 0
	}
	p := &r.points[r.at]
	return p.T, p.V
}

// AtT implements chunkenc.Iterator.
func (r *readyIterator) AtT() int64 {
	t, _ := r.At()
	return t
}

// AtHistogram implements chunkenc.Iterator; no histogram is ever announced.
func (r *readyIterator) AtHistogram(*histogram.Histogram) (int64, *histogram.Histogram) {
	return r.AtT(), nil
}

// AtFloatHistogram implements chunkenc.Iterator; no histogram is ever announced.
func (r *readyIterator) AtFloatHistogram(*histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
	return r.AtT(), nil
}

// Err implements chunkenc.Iterator.
func (r *readyIterator) Err() error {
	if r.at < len(r.points) {
		return nil
	}
	return r.err
}
