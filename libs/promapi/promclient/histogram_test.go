package promclient

import (
	"math"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/stretchr/testify/require"
)

func TestAHistogramIsTheSameAfterJSON(t *testing.T) {
	t.Parallel()
	for _, schema := range []int32{-4, -1, 0, 3, 8} {
		want := &histogram.FloatHistogram{
			Schema: schema, Count: 21, Sum: 3.5, ZeroThreshold: 1e-30, ZeroCount: 2,
			PositiveSpans: []histogram.Span{{Offset: -3, Length: 2}, {Offset: 2, Length: 1}}, PositiveBuckets: []float64{4, 5, 1},
			NegativeSpans: []histogram.Span{{Offset: 1, Length: 1}}, NegativeBuckets: []float64{9},
		}
		in := &model.SampleHistogram{Count: 21, Sum: 3.5}
		for it := want.AllBucketIterator(); it.Next(); {
			b := it.At()
			rule := int32(0)
			switch {
			case b.LowerInclusive && b.UpperInclusive:
				rule = 3
			case b.LowerInclusive:
				rule = 1
			case !b.UpperInclusive:
				rule = 2
			}
			if b.Count != 0 {
				in.Buckets = append(in.Buckets, &model.HistogramBucket{Boundaries: rule, Lower: model.FloatString(b.Lower), Upper: model.FloatString(b.Upper), Count: model.FloatString(b.Count)})
			}
		}
		got, err := FloatHistogram(in)
		require.NoError(t, err)
		require.True(t, want.Equals(got), "schema %d: %s, want %s", schema, got, want)
	}
	_, err := FloatHistogram(&model.SampleHistogram{Buckets: model.HistogramBuckets{{Lower: 1, Upper: 1.7, Count: 1}}})
	require.ErrorIs(t, err, ErrCustomBuckets)
	_, err = FloatHistogram(&model.SampleHistogram{Buckets: model.HistogramBuckets{{Lower: model.FloatString(math.Inf(-1)), Upper: 5, Count: 1}}})
	require.ErrorIs(t, err, ErrCustomBuckets)
}
