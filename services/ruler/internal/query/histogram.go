package query

import (
	"github.com/prometheus/prometheus/model/histogram"

	prometheuscopy "github.com/promontory-io/promontory/proto/gen/prometheus_copy"
)

// fromWire translates a histogram as gRPC has it; integer ones come with deltas.
func fromWire(in *prometheuscopy.Histogram) *histogram.FloatHistogram {
	h := &histogram.FloatHistogram{
		CounterResetHint: histogram.CounterResetHint(in.GetResetHint()),
		Schema:           in.GetSchema(), ZeroThreshold: in.GetZeroThreshold(), Sum: in.GetSum(),
		PositiveSpans: wireSpans(in.GetPositiveSpans()), NegativeSpans: wireSpans(in.GetNegativeSpans()),
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

func wireSpans(in []*prometheuscopy.BucketSpan) []histogram.Span {
	out := make([]histogram.Span, len(in))
	for i, s := range in {
		out[i] = histogram.Span{Offset: s.GetOffset(), Length: s.GetLength()}
	}
	return out
}
