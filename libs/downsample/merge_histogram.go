package downsample

import (
	"fmt"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/promontory-io/promontory/libs/chunks"
	"github.com/promontory-io/promontory/libs/xorchunk"
)

// MergedHistograms makes one sequence of chunks of replicas' chunks of aggregated histograms,
// which were downsampled to resolution. merge is asked to merge the iterators of one
// aggregate, one for each replica, fresh; it has to choose by time alone, so that it chooses
// the same for each aggregate. Counters are evened out anew, as the replicas' own differ.
//
// All chunks must be of histograms, and all of them gauges or all of them counters; else, and where
// what was chosen does not fit together, the error wraps ErrCorrupt.
func (d *Downsampler) MergedHistograms(replicas [][]chunks.AggrChunk, resolution int64, merge func([]chunkenc.Iterator) chunkenc.Iterator) ([]chunks.AggrChunk, error) {
	want := floatKind
	for _, r := range replicas {
		for i := range r {
			k := kindOf(&r[i])
			if r[i].Aggr == nil || k == floatKind || want != floatKind && k != want {
				return nil, fmt.Errorf("merge chunks from %d on: %w: not all are aggregates of the same kind of histogram", r[i].MinTime, ErrCorrupt)
			}
			want = k
		}
	}
	merged := func(a chunks.Aggr) chunkenc.Iterator {
		its := make([]chunkenc.Iterator, len(replicas))
		for i, r := range replicas {
			its[i] = NewIterator(r, []chunks.Aggr{a})
		}
		return merge(its)
	}
	var counts []xorchunk.Point
	it := merged(chunks.Count)
	for it.Next() == chunkenc.ValFloat {
		t, v := it.At()
		counts = append(counts, xorchunk.Point{T: t, V: v})
	}
	if err := it.Err(); err != nil {
		return nil, err
	}
	hint := histogram.UnknownCounterReset
	if want == gaugeKind {
		hint = histogram.GaugeType
	}
	sums, err := collectHistograms(merged(chunks.Sum), histogram.GaugeType)
	if err != nil {
		return nil, err
	}
	counters, err := collectHistograms(merged(chunks.Counter), hint)
	if err != nil {
		return nil, err
	}
	if len(sums) != len(counts) {
		return nil, fmt.Errorf("merge aggregated histograms: %w: %d counts and %d sums", ErrCorrupt, len(counts), len(sums))
	}
	b := &histBuilder{gauge: want == gaugeKind}
	if err := b.further(counts, sums, counters, resolution, new(histTotal)); err != nil {
		return nil, fmt.Errorf("merge aggregated histograms: %w", err)
	}
	return b.out, nil
}

// collectHistograms reads all of it at one schema, with the given hint unless a counter's sample says that
// it is a reset.
func collectHistograms(it chunkenc.Iterator, hint histogram.CounterResetHint) ([]histPoint, error) {
	var out []histPoint
	for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
		if typ != chunkenc.ValFloatHistogram {
			return nil, fmt.Errorf("merge aggregated histograms: %w: a %s among them", ErrCorrupt, typ)
		}
		t, h := it.AtFloatHistogram(new(histogram.FloatHistogram))
		if hint == histogram.GaugeType || h.CounterResetHint != histogram.CounterReset {
			h.CounterResetHint = hint
		}
		out = append(out, histPoint{t: t, h: h})
	}
	if err := it.Err(); err != nil {
		return nil, err
	}
	if len(out) == 0 {
		return nil, nil
	}
	return out, lowerSchema(out)
}
