package grpcapi

import (
	"github.com/prometheus/prometheus/model/histogram"

	prometheuscopy "github.com/promontory-io/promontory/proto/gen/prometheus_copy"
)

// wireHistogram translates a float histogram at Unix milliseconds t.
func wireHistogram(t int64, h *histogram.FloatHistogram) *prometheuscopy.Histogram {
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

func wireSpans(spans []histogram.Span) []*prometheuscopy.BucketSpan {
	out := make([]*prometheuscopy.BucketSpan, len(spans))
	for i, s := range spans {
		out[i] = &prometheuscopy.BucketSpan{Offset: s.Offset, Length: s.Length}
	}
	return out
}
