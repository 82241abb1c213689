package selects

import (
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/promontory-io/promontory/libs/chunks"
	"github.com/promontory-io/promontory/libs/downsample"
	"github.com/promontory-io/promontory/libs/storeapi"
)

// spacing is what becomes of samples where blocks of different resolutions meet.
type spacing uint8

const (
	// asStored is for functions that do not care how far samples are apart.
	asStored spacing = iota
	// lastOfWindow is for counters: the engine extrapolates by the mean distance of samples, and takes the beginning of a
	// range for missing where a coarse part is followed by a fine one.
	lastOfWindow
	// meanOfWindow is for functions in which each sample counts the same, whatever time it stands for.
	meanOfWindow
)

// spacingOf returns what a function over a range needs.
func spacingOf(function string) spacing {
	switch function {
	case "rate", "increase", "xrate", "xincrease":
		return lastOfWindow
	case "avg_over_time", "quantile_over_time", "stddev_over_time", "stdvar_over_time", "mad_over_time", "delta":
		return meanOfWindow
	}
	return asStored
}

// window returns the coarsest resolution among chunks of floats of which some are finer, in milliseconds; 0 where all are the
// same.
func window(list []chunks.AggrChunk) int64 {
	var seen [storeapi.NumResolutions]bool
	for i := range list {
		_, r := storeapi.Measure(&list[i])
		seen[r] = true
		if isHistogram(&list[i]) {
			return 0
		}
	}
	switch {
	case seen[storeapi.Resolution1h] && (seen[storeapi.Resolution5m] || seen[storeapi.ResolutionRaw]):
		return downsample.Resolution1h
	case seen[storeapi.Resolution5m] && seen[storeapi.ResolutionRaw]:
		return downsample.Resolution5m
	}
	return 0
}

func isHistogram(c *chunks.AggrChunk) bool {
	if c.Raw.Present() {
		return c.Raw.Encoding != chunkenc.EncXOR
	}
	for _, a := range []chunks.Aggr{chunks.Sum, chunks.Counter} {
		if part, ok := c.Of(a); ok && part.Encoding != chunkenc.EncXOR {
			return true
		}
	}
	return false
}

// spacedIterator reads a series of floats as if all of it were of one resolution: a sample for each window, at the time of its
// last one. The first sample of a counter is kept.
type spacedIterator struct {
	it    chunkenc.Iterator
	kind  spacing
	width int64
	first int64 // time of the first sample of the series

	typ chunkenc.ValueType
	t   int64
	v   float64
	// The sample behind those of the window at hand.
	next     chunkenc.ValueType
	nextT    int64
	nextV    float64
	prefetch bool
}

var _ chunkenc.Iterator = (*spacedIterator)(nil)

func (s *spacedIterator) reset(it chunkenc.Iterator, kind spacing, width, first int64) {
	*s = spacedIterator{it: it, kind: kind, width: width, first: first, t: math.MinInt64}
}

// pull takes the next sample that is a number.
func (s *spacedIterator) pull(typ chunkenc.ValueType) {
	for s.prefetch = true; typ == chunkenc.ValFloat; typ = s.it.Next() {
		if s.nextT, s.nextV = s.it.At(); !math.IsNaN(s.nextV) {
			break
		}
	}
	s.next = typ
}

// Next implements chunkenc.Iterator.
func (s *spacedIterator) Next() chunkenc.ValueType {
	if !s.prefetch {
		s.pull(s.it.Next())
	}
	s.typ = chunkenc.ValNone
	if s.next != chunkenc.ValFloat {
		return s.typ
	}
	begin := floor(s.nextT, s.width)
	sum, n := 0.0, 0.0
	for s.next == chunkenc.ValFloat && floor(s.nextT, s.width) == begin {
		s.typ, s.t, s.v = chunkenc.ValFloat, s.nextT, s.nextV
		sum, n = sum+s.nextV, n+1
		s.pull(s.it.Next())
		if s.kind == lastOfWindow && s.t == s.first {
			return s.typ
		}
	}
	if s.kind == meanOfWindow {
		s.v = sum / n
	}
	return s.typ
}

// Seek implements chunkenc.Iterator.
func (s *spacedIterator) Seek(t int64) chunkenc.ValueType {
	if s.typ == chunkenc.ValFloat && s.t >= t {
		return s.typ
	}
	if !s.prefetch || s.next == chunkenc.ValFloat && s.nextT < floor(t, s.width) {
		// A mean is that of the whole window.
		s.pull(s.it.Seek(floor(t, s.width)))
	}
	for s.Next() == chunkenc.ValFloat && s.t < t {
	}
	return s.typ
}

// floor is the beginning of the window of t.
func floor(t, width int64) int64 {
	r := t % width
	if r < 0 {
		r += width
	}
	if t < math.MinInt64+r {
		return math.MinInt64
	}
	return t - r
}

// At implements chunkenc.Iterator.
func (s *spacedIterator) At() (int64, float64) { return s.t, s.v }

// AtT implements chunkenc.Iterator.
func (s *spacedIterator) AtT() int64 { return s.t }

// AtHistogram implements chunkenc.Iterator; no histogram is ever announced.
func (s *spacedIterator) AtHistogram(*histogram.Histogram) (int64, *histogram.Histogram) {
	return s.t, nil
}

// AtFloatHistogram implements chunkenc.Iterator; no histogram is ever announced.
func (s *spacedIterator) AtFloatHistogram(*histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
	return s.t, nil
}

// Err implements chunkenc.Iterator.
func (s *spacedIterator) Err() error { return s.it.Err() }
