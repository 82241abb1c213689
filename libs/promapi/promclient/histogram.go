package promclient

import (
	"errors"
	"math"
	"slices"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
)

// ErrCustomBuckets tells of a native histogram that is lost in JSON, which lists only the buckets that are not empty: not enough to know the
// bounds of the others.
var ErrCustomBuckets = errors.New("a native histogram with custom buckets cannot be read over HTTP")

// defaultZeroThreshold is what clients take where nobody says otherwise, 2^-128. JSON does not tell it when the zero
// bucket is empty.
const defaultZeroThreshold = 0x1p-128

// Buckets that contain zero have this rule of boundaries.
const closedBoth = 3

type bucket struct {
	index int32
	count float64
}

// FloatHistogram finds the schema of a histogram again, of which JSON has the bounds of its buckets. The error is
// ErrCustomBuckets.
func FloatHistogram(in *model.SampleHistogram) (*histogram.FloatHistogram, error) {
	h := &histogram.FloatHistogram{Count: float64(in.Count), Sum: float64(in.Sum), ZeroThreshold: defaultZeroThreshold}
	schema, found := int32(0), false
	var positive, negative []bucket
	for _, b := range in.Buckets {
		lower, upper := float64(b.Lower), float64(b.Upper)
		if b.Boundaries == closedBoth && lower <= 0 && upper >= 0 {
			h.ZeroCount, h.ZeroThreshold = float64(b.Count), max(upper, -lower)
			continue
		}
		isNegative := upper < 0
		if isNegative {
			lower, upper = -upper, -lower
		}
		s, index, ok := exponential(lower, upper)
		if !ok || found && s != schema {
			return nil, ErrCustomBuckets
		}
		schema, found = s, true
		if isNegative {
			negative = append(negative, bucket{index, float64(b.Count)})
		} else {
			positive = append(positive, bucket{index, float64(b.Count)})
		}
	}
	h.Schema = schema
	h.PositiveSpans, h.PositiveBuckets = spans(positive)
	h.NegativeSpans, h.NegativeBuckets = spans(negative)
	return h, nil
}

// exponential returns the schema and index of the bucket (lower, upper], whose bounds are
// 2^((index-1)/2^schema) and 2^(index/2^schema).
func exponential(lower, upper float64) (schema, index int32, ok bool) {
	if !(lower > 0) || math.IsInf(upper, 0) || upper <= lower {
		return 0, 0, false
	}
	s := math.Round(-math.Log2(math.Log2(upper / lower)))
	if s < -4 || s > 8 {
		return 0, 0, false
	}
	scale := math.Exp2(s)
	i := math.Round(math.Log2(upper) * scale)
	near := func(a, b float64) bool { return math.Abs(a-b) <= 1e-9*math.Abs(b) }
	if !near(math.Exp2(i/scale), upper) || !near(math.Exp2((i-1)/scale), lower) {
		return 0, 0, false
	}
	return int32(s), int32(i), true
}

func spans(buckets []bucket) (out []histogram.Span, counts []float64) {
	slices.SortFunc(buckets, func(a, b bucket) int { return int(a.index) - int(b.index) })
	next := int32(0)
	for i, b := range buckets {
		if gap := b.index - next; i == 0 || gap > 0 {
			out = append(out, histogram.Span{Offset: gap})
		}
		out[len(out)-1].Length++
		counts = append(counts, b.count)
		next = b.index + 1
	}
	return out, counts
}
