package merge

import (
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/promontory-io/promontory/libs/xorchunk"
)

// pointIterator iterates over decoded samples.
type pointIterator struct {
	points []xorchunk.Point
	i      int // of the current sample, -1 before the first
	err    error
}

var _ chunkenc.Iterator = (*pointIterator)(nil)

func (p *pointIterator) at() chunkenc.ValueType {
	if p.i < len(p.points) {
		return chunkenc.ValFloat
	}
	return chunkenc.ValNone
}

// Next implements chunkenc.Iterator.
func (p *pointIterator) Next() chunkenc.ValueType {
	if p.i < len(p.points) {
		p.i++
	}
	return p.at()
}

// Seek implements chunkenc.Iterator. It is asked for samples nearby.
func (p *pointIterator) Seek(t int64) chunkenc.ValueType {
	if p.i < 0 {
		p.i = 0
	}
	for p.i < len(p.points) && p.points[p.i].T < t {
		p.i++
	}
	return p.at()
}

func (p *pointIterator) current() xorchunk.Point {
	if len(p.points) == 0 {
		return xorchunk.Point{T: math.MinInt64}
	}
	return p.points[min(max(p.i, 0), len(p.points)-1)]
}

// At implements chunkenc.Iterator.
func (p *pointIterator) At() (int64, float64) { c := p.current(); return c.T, c.V }

// AtT implements chunkenc.Iterator.
func (p *pointIterator) AtT() int64 { return p.current().T }

// AtHistogram implements chunkenc.Iterator; it is never announced.
func (p *pointIterator) AtHistogram(*histogram.Histogram) (int64, *histogram.Histogram) {
	return p.AtT(), nil
}

// AtFloatHistogram implements chunkenc.Iterator; it is never announced.
func (p *pointIterator) AtFloatHistogram(*histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
	return p.AtT(), nil
}

// Err implements chunkenc.Iterator.
func (p *pointIterator) Err() error { return p.err }
