package storeapi

import (
	"github.com/prometheus/prometheus/model/histogram"

	prometheuscopy "github.com/promontory-io/promontory/proto/gen/prometheus_copy"
)

// WireHistogram is h at Unix milliseconds t as the Query API has it. It shares memory with h.
func WireHistogram(t int64, h *histogram.FloatHistogram) *prometheuscopy.Histogram {
	return &prometheuscopy.Histogram{
		Count:          &prometheuscopy.Histogram_CountFloat{CountFloat: h.Count},
		Sum:            h.Sum,
		Schema:         h.Schema,
		ZeroThreshold:  h.ZeroThreshold,
		ZeroCount:      &prometheuscopy.Histogram_ZeroCountFloat{ZeroCountFloat: h.ZeroCount},
		NegativeSpans:  wireSpans(h.NegativeSpans),
		NegativeCounts: h.NegativeBuckets,
		PositiveSpans:  wireSpans(h.PositiveSpans),
		PositiveCounts: h.PositiveBuckets,
		ResetHint:      prometheuscopy.Histogram_ResetHint(h.CounterResetHint),
		Timestamp:      t,
		CustomValues:   h.CustomValues,
	}
}

// FloatHistogram is in as the engine has it; integer histograms, whose buckets come as differences, become float ones. It
// shares memory with in.
func FloatHistogram(in *prometheuscopy.Histogram) *histogram.FloatHistogram {
	h := &histogram.FloatHistogram{
		CounterResetHint: histogram.CounterResetHint(in.GetResetHint()),
		Schema:           in.GetSchema(), ZeroThreshold: in.GetZeroThreshold(), Sum: in.GetSum(),
		PositiveSpans: spans(in.GetPositiveSpans()), NegativeSpans: spans(in.GetNegativeSpans()),
		CustomValues: in.GetCustomValues(),
	}
	if _, float := in.GetCount().(*prometheuscopy.Histogram_CountFloat); float {
		h.Count, h.ZeroCount = in.GetCountFloat(), in.GetZeroCountFloat()
		h.PositiveBuckets, h.NegativeBuckets = in.GetPositiveCounts(), in.GetNegativeCounts()
		return h
	}
	h.Count, h.ZeroCount = float64(in.GetCountInt()), float64(in.GetZeroCountInt())
	h.PositiveBuckets, h.NegativeBuckets = sums(in.GetPositiveDeltas()), sums(in.GetNegativeDeltas())
	return h
}

func sums(deltas []int64) []float64 {
	out := make([]float64, len(deltas))
	total := int64(0)
	for i, d := range deltas {
		total += d
		out[i] = float64(total)
	}
	return out
}

func spans(in []*prometheuscopy.BucketSpan) []histogram.Span {
	out := make([]histogram.Span, len(in))
	for i, s := range in {
		out[i] = histogram.Span{Offset: s.GetOffset(), Length: s.GetLength()}
	}
	return out
}

func wireSpans(in []histogram.Span) []*prometheuscopy.BucketSpan {
	out := make([]*prometheuscopy.BucketSpan, len(in))
	for i, s := range in {
		out[i] = &prometheuscopy.BucketSpan{Offset: s.Offset, Length: s.Length}
	}
	return out
}
