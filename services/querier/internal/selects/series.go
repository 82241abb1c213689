package selects

import (
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/promontory-io/promontory/libs/chunks"
	"github.com/promontory-io/promontory/libs/dedup"
	"github.com/promontory-io/promontory/libs/downsample"
)

// view is how the chunks of a select are read.
type view struct {
	// mint and maxt are what the engine may see, Unix milliseconds, both inclusive.
	mint, maxt int64
	// from and to are what stores were asked for. Some send more.
	from, to int64
	// function is the PromQL function around the selector.
	function string
	aggrs    []chunks.Aggr
	// spacing is what function needs where resolutions meet.
	spacing spacing
	// merge is how replicas are merged; empty where replicas were not removed, and overlapping
	// chunks hold samples of one and the same series.
	merge dedup.Func
}

// inRange leaves out chunks that exact does not need: those outside of what was asked for.
func (v *view) inRange(list []chunks.AggrChunk) []chunks.AggrChunk {
	if v.merge != dedup.Exact {
		return list
	}
	return slices.DeleteFunc(list, func(c chunks.AggrChunk) bool { return c.MaxTime < v.from || c.MinTime > v.to })
}

// series is one series of an answer. It holds encoded chunks; only its iterators decode.
type series struct {
	lset   labels.Labels
	chunks []chunks.AggrChunk
	view   *view

	// ahead decodes the series before it is asked for, and guards what follows; nil where that is left to whoever asks.
	ahead *ahead
	guess int // at the number of samples
	stage stage
	ready ready
}

var _ storage.Series = (*series)(nil)

// Labels implements storage.Series.
func (s *series) Labels() labels.Labels { return s.lset }

// Iterator implements storage.Series. An iterator that came from here is used again with all its
// memory.
func (s *series) Iterator(it chunkenc.Iterator) chunkenc.Iterator {
	var own *iterator
	switch it := it.(type) {
	case *iterator:
		own = it
	case *readyIterator:
		own = it.own
		it.release()
	default:
		own = &iterator{}
	}
	if s.ahead != nil {
		if r, ok := s.ahead.take(s); ok {
			if own.ready == nil {
				own.ready = &readyIterator{own: own}
			}
			own.ready.reset(r, s.ahead)
			return own.ready
		}
	}
	own.reset(s)
	return own
}

// iterator reads one series: its replicas merged, clipped to what the engine asked for.
type iterator struct {
	downsample.BoundedIterator

	merger dedup.Merger
	spaced spacedIterator
	// ready takes the iterator's place where samples have been decoded ahead.
	ready *readyIterator
}

var _ chunkenc.Iterator = (*iterator)(nil)

func (i *iterator) reset(s *series) {
	// resets() needs to see them.
	fn, opts := s.view.merge, dedup.Options{
		Counter: dedup.AdjustsCounter(s.view.function), TrueValues: s.view.function == "resets",
	}
	if fn == "" {
		// Without replicas every sample is the series' own, wherever it was stored.
		fn, opts = dedup.Chain, dedup.Options{TrueValues: true}
	}
	merged := i.merger.MergeChunks(fn, s.chunks, s.view.aggrs, opts)
	if s.view.spacing != asStored {
		if width := window(s.chunks); width > 0 {
			i.spaced.reset(merged, s.view.spacing, width, s.chunks[0].MinTime)
			merged = &i.spaced
		}
	}
	i.Reset(merged, s.view.mint, s.view.maxt)
}
