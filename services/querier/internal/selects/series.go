package selects

import (
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
	// function is the PromQL function around the selector.
	function string
	aggrs    []chunks.Aggr
	// merge is how replicas are merged; empty where replicas were not removed, and overlapping
	// chunks hold samples of one and the same series.
	merge dedup.Func
}

// series is one series of an answer. It holds encoded chunks; only its iterators decode.
type series struct {
	lset   labels.Labels
	chunks []chunks.AggrChunk
	view   *view
}

var _ storage.Series = (*series)(nil)

// Labels implements storage.Series.
func (s *series) Labels() labels.Labels { return s.lset }

// Iterator implements storage.Series. An iterator that came from here is used again with all its
// memory.
func (s *series) Iterator(it chunkenc.Iterator) chunkenc.Iterator {
	own, ok := it.(*iterator)
	if !ok {
		own = &iterator{}
	}
	own.reset(s)
	return own
}

// iterator reads one series: each replica chunk after chunk, the replicas merged, the result
// clipped to what the engine asked for.
type iterator struct {
	downsample.BoundedIterator

	merger   dedup.Merger
	readers  []*downsample.Reader
	replicas []chunkenc.Iterator
}

var _ chunkenc.Iterator = (*iterator)(nil)

func (i *iterator) reset(s *series) {
	split := dedup.SplitOverlaps(s.chunks, bounds)
	aggrs := s.view.aggregates(s.chunks, len(split))
	for len(i.readers) < len(split) {
		i.readers = append(i.readers, &downsample.Reader{})
	}
	i.replicas = i.replicas[:0]
	for r, chks := range split {
		i.replicas = append(i.replicas, i.readers[r].Iterator(chks, aggrs))
	}
	fn, opts := s.view.merge, dedup.Options{Counter: dedup.AdjustsCounter(s.view.function)}
	if fn == "" {
		// Without replicas every sample is the series' own, wherever it was stored.
		fn, opts = dedup.Chain, dedup.Options{}
	}
	i.Reset(i.merger.Merge(fn, i.replicas, opts), s.view.mint, s.view.maxt)
}

func bounds(c *chunks.AggrChunk) (mint, maxt int64) { return c.MinTime, c.MaxTime }

var raw = []chunks.Aggr{chunks.Raw}

// aggregates is what to read the chunks by. Reading a counter means to even out its resets, so that
// samples of different resolutions, or replicas, add up. Where all samples are raw and nothing has to be
// merged the engine does that itself, from the true values; and resets() needs to see
// them in any case.
func (v *view) aggregates(chks []chunks.AggrChunk, replicas int) []chunks.Aggr {
	if len(v.aggrs) != 1 || v.aggrs[0] != chunks.Counter {
		return v.aggrs
	}
	if replicas > 1 && v.merge != "" && v.function != "resets" {
		return v.aggrs
	}
	for c := range chks {
		if !chks[c].Raw.Present() {
			return v.aggrs
		}
	}
	return raw
}
