package job

import (
	"math"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/stretchr/testify/require"
	"github.com/thanos-io/objstore"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/blocktest"
	"github.com/promontory-io/promontory/libs/dedup"
	"github.com/promontory-io/promontory/services/compactor/internal/compacttest"
)

// TestFunctionsOverDownsampledDataKeepToTheStatedError compares answers from 5m and 1h blocks with
// those from raw data, at times where windows end, over ranges of whole windows. The
// errors are those that docs/format/aggregate-chunk.md states.
func TestFunctionsOverDownsampledDataKeepToTheStatedError(t *testing.T) {
	t.Parallel()
	bkt := objstore.NewInMemBucket()
	blocktest.Upload(t, bkt, blocktest.Spec{
		ExternalLabels: labels.FromStrings("cluster", "a"), MinTime: promqlStart, MaxTime: promqlStart + 12*24*time.Hour.Milliseconds(),
		Interval: 30 * time.Second, Floats: 2, Histograms: 1, FloatHistograms: 1, Level: 5,
	})
	e := New(zap.NewNop(), bkt, Config{Dir: t.TempDir(), Dedup: dedup.Chain})
	compactAll(t.Context(), t, bkt, e)
	raw := queryable(t, bkt, dedup.Chain, block.ResolutionRaw)
	const exact = 1e-12
	for name, tc := range map[string]struct {
		resolution  int64
		rng         string
		windowError float64
	}{
		"5m": {block.Resolution5m, "[1h]", 1.5 * 5 / 60},
		"1h": {block.Resolution1h, "[12h]", 1.5 / 12},
	} {
		coarse := queryable(t, bkt, dedup.Chain, tc.resolution)
		for query, most := range map[string]float64{
			"min_over_time(test_float" + tc.rng + ")":                                           0,
			"max_over_time(test_float" + tc.rng + ")":                                           0,
			"sum_over_time(test_float" + tc.rng + ")":                                           exact,
			"avg_over_time(test_float" + tc.rng + ")":                                           tc.windowError,
			"rate(test_float" + tc.rng + ")":                                                    tc.windowError,
			"increase(test_float" + tc.rng + ")":                                                tc.windowError,
			"irate(test_float" + tc.rng + ")":                                                   tc.windowError,
			"histogram_count(rate(test_histogram" + tc.rng + "))":                               tc.windowError,
			"histogram_sum(increase(test_float_histogram" + tc.rng + "))":                       tc.windowError,
			"histogram_quantile(0.9, rate(test_histogram" + tc.rng + "))":                       tc.windowError,
			"histogram_count(sum_over_time(test_histogram" + tc.rng + "))":                      exact,
			"histogram_quantile(0.5, sum_over_time(test_float_histogram" + tc.rng + "))":        exact,
			"histogram_sum(avg_over_time(test_histogram" + tc.rng + "))":                        tc.windowError,
			"sum by (cluster) (min_over_time(test_float" + tc.rng + "))":                        exact,
			"max_over_time(test_float" + tc.rng + ") - min_over_time(test_float" + tc.rng + ")": exact,
		} {
			t.Run(name+" "+query, func(t *testing.T) {
				want, got := evaluate(t, raw, query), evaluate(t, coarse, query)
				require.Len(t, got, len(want))
				worst := 0.0
				for at, w := range want {
					g, ok := got[at]
					require.True(t, ok, "no value at %v", at)
					if w != g {
						worst = max(worst, math.Abs(g-w)/math.Abs(w))
					}
				}
				require.LessOrEqual(t, worst, most)
				t.Logf("worst %.3g of %d", worst, len(want))
			})
		}
	}
}

// evaluate returns values by series and time, from the second day on.
func evaluate(t *testing.T, q *compacttest.Queryable, query string) map[string]float64 {
	t.Helper()
	e := promql.NewEngine(promql.EngineOpts{MaxSamples: 1e8, Timeout: time.Minute, LookbackDelta: time.Hour})
	defer func() { require.NoError(t, e.Close()) }()
	begin := time.UnixMilli(promqlStart - 1).Add(24 * time.Hour)
	qry, err := e.NewRangeQuery(t.Context(), q, nil, query, begin, begin.Add(10*24*time.Hour), 5*time.Hour)
	require.NoError(t, err)
	defer qry.Close()
	res := qry.Exec(t.Context())
	require.NoError(t, res.Err)
	m, err := res.Matrix()
	require.NoError(t, err)
	out := map[string]float64{}
	for _, s := range m {
		for _, p := range s.Floats {
			out[s.Metric.String()+time.UnixMilli(p.T).UTC().String()] = p.F
		}
	}
	require.NotEmpty(t, out)
	return out
}
