package query

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
)

type fakeTarget struct {
	name  string
	err   error
	warns []string
	asked int
}

func (f *fakeTarget) Name() string { return f.name }

func (f *fakeTarget) Query(context.Context, string, time.Time, bool) (parser.Value, []string, error) {
	f.asked++
	return promql.Scalar{V: 7}, f.warns, f.err
}

func TestOneQuerierThatAnswersSuffices(t *testing.T) {
	t.Parallel()
	bad := &fakeTarget{name: "bad", err: errors.New("down")}
	good := &fakeTarget{name: "good", warns: []string{"PromQL info: x", "store gone", "PromQL warning: y"}}
	c := New(func() []Target { return []Target{bad, good} }, zap.NewNop())
	for range 50 {
		r, err := c.Query(t.Context(), "up", time.Now(), true)
		require.NoError(t, err)
		require.Equal(t, "good", r.From)
		require.Equal(t, []string{"store gone"}, r.Missing)
		v, err := r.Vector(time.UnixMilli(1234))
		require.NoError(t, err)
		require.Equal(t, promql.Vector{{T: 1234, F: 7}}, v)
	}
	require.LessOrEqual(t, bad.asked, 1, "whoever failed is asked last for a while")
}

func TestErrorsNameEachQuerierAndAWrongQueryIsAskedOnce(t *testing.T) {
	t.Parallel()
	a, b := &fakeTarget{name: "a", err: errors.New("down")}, &fakeTarget{name: "b", err: errors.New("burning")}
	c := New(func() []Target { return []Target{a, b} }, zap.NewNop())
	_, err := c.Query(t.Context(), "up", time.Now(), false)
	require.ErrorContains(t, err, "query a: down")
	require.ErrorContains(t, err, "query b: burning")
	wrong := &fakeTarget{name: "w", err: errInvalid}
	other := &fakeTarget{name: "o", err: errInvalid}
	_, err = New(func() []Target { return []Target{wrong, other} }, zap.NewNop()).Query(t.Context(), "up", time.Now(), false)
	require.ErrorIs(t, err, errInvalid)
	require.Equal(t, 1, wrong.asked+other.asked)
	_, err = New(func() []Target { return nil }, zap.NewNop()).Query(t.Context(), "up", time.Now(), false)
	require.ErrorIs(t, err, ErrNoQuerier)
}

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
		got, err := fromHistogram(in)
		require.NoError(t, err)
		require.True(t, want.Equals(got), "schema %d: %s, want %s", schema, got, want)
	}
	_, err := fromHistogram(&model.SampleHistogram{Buckets: model.HistogramBuckets{{Lower: 1, Upper: 1.7, Count: 1}}})
	require.ErrorIs(t, err, errCustomBuckets)
	_, err = fromHistogram(&model.SampleHistogram{Buckets: model.HistogramBuckets{{Lower: model.FloatString(math.Inf(-1)), Upper: 5, Count: 1}}})
	require.ErrorIs(t, err, errCustomBuckets)
}
