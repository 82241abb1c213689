package engine_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/promapi"
	"github.com/promontory-io/promontory/services/querier/internal/engine"
	"github.com/promontory-io/promontory/services/querier/internal/grpcapi"
)

func newEngines(t *testing.T, change func(*engine.Config), reg prometheus.Registerer) *engine.Engines {
	t.Helper()
	cfg := engine.Config{Timeout: time.Minute, DefaultEvaluationInterval: time.Minute, DynamicLookback: true}
	if change != nil {
		change(&cfg)
	}
	e := engine.New(cfg, promslog.NewNopLogger(), reg)
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	return e
}

const load = `load 30s
	http_requests_total{job="a", instance="0"} 0+10x100
	http_requests_total{job="a", instance="1"} 0+20x50 0+20x50
	http_requests_total{job="b", instance="0"} 5+1x100
	early{job="a"} 1x10
	late{job="a"} _x20 2x20
	latency_bucket{le="0.1"} 0+1x100
	latency_bucket{le="1"} 0+3x100
	latency_bucket{le="+Inf"} 0+4x100
`

func run(t *testing.T, e *engine.Engines, spec grpcapi.QuerySpec) (*promql.Result, promql.Query) {
	t.Helper()
	st := promqltest.LoadedStorage(t, load)
	t.Cleanup(func() { _ = st.Close() })
	q, err := e.NewQuery(context.Background(), st, spec)
	require.NoError(t, err)
	t.Cleanup(q.Close)
	return q.Exec(context.Background()), q
}

func ranged(text string, name promapi.Engine) grpcapi.QuerySpec {
	return grpcapi.QuerySpec{
		Text: text, Engine: name, Start: time.Unix(0, 0), End: time.Unix(3000, 0), Step: time.Minute,
	}
}

func TestBothEnginesAgree(t *testing.T) {
	t.Parallel()
	e := newEngines(t, nil, nil)
	for _, expr := range []string{
		`http_requests_total`,
		`sum by (job) (rate(http_requests_total[5m]))`,
		`increase(http_requests_total{instance="1"}[10m])`,
		`histogram_quantile(0.9, rate(latency_bucket[5m]))`,
		`topk(1, http_requests_total)`,
		`http_requests_total / on (instance, job) http_requests_total`,
		`max_over_time(rate(http_requests_total[2m])[10m:])`,
		`absent(nothing)`, `1 + 2`, `"text"`, `vector(3)`, `time()`,
	} {
		t.Run(expr, func(t *testing.T) {
			for _, instant := range []bool{true, false} {
				a, b := ranged(expr, promapi.EnginePrometheus), ranged(expr, promapi.EngineThanos)
				if instant {
					a.Start, a.Step, b.Start, b.Step = a.End, 0, b.End, 0
				} else if expr == `"text"` {
					continue
				}
				ra, _ := run(t, e, a)
				rb, _ := run(t, e, b)
				require.NoError(t, ra.Err)
				require.NoError(t, rb.Err)
				ja, err := json.Marshal(ra.Value)
				require.NoError(t, err)
				jb, err := json.Marshal(rb.Value)
				require.NoError(t, err)
				if instant { // vectors have no order of their own
					require.ElementsMatch(t, elements(t, ja), elements(t, jb))
				} else {
					require.JSONEq(t, string(ja), string(jb))
				}
			}
		})
	}
}

// elements are the entries of a vector, or the value itself.
func elements(t *testing.T, data []byte) []any {
	t.Helper()
	var list []any
	if json.Unmarshal(data, &list) == nil {
		return list
	}
	var one any
	require.NoError(t, json.Unmarshal(data, &one))
	return []any{one}
}

// Known difference: without the fall-back, promql-engine refuses such series.
func TestSeriesThatGetTheSameLabelsAtDifferentTimesAreOne(t *testing.T) {
	t.Parallel()
	e := newEngines(t, nil, nil)
	strict := newEngines(t, func(c *engine.Config) { c.DisableFallback = true }, nil)
	for _, expr := range []string{
		`label_replace({__name__=~"early|late"}, "__name__", "same", "", "")`,
		`label_join({__name__=~"early|late"}, "__name__", "", "job")`,
		`-{__name__=~"early|late"}`,
		// Those Prometheus' own engine refuses in this version, as a whole.
		`max_over_time({__name__=~"early|late"}[1m])`,
		`rate({__name__=~"early|late"}[2m])`,
	} {
		t.Run(expr, func(t *testing.T) {
			// The lookback of one minute keeps the two from overlapping.
			spec := ranged(expr, promapi.EnginePrometheus)
			spec.LookbackDelta = time.Minute
			res, _ := run(t, e, spec)
			require.NoError(t, res.Err)
			m, err := res.Matrix()
			require.NoError(t, err)
			require.Len(t, m, 1, "one series of both")
			spec.Engine = promapi.EngineThanos
			res, _ = run(t, e, spec)
			require.NoError(t, res.Err)
			require.Equal(t, m.String(), res.Value.String())
			res, _ = run(t, strict, spec)
			require.ErrorContains(t, res.Err, "same labelset", "once this fails the fall-back can go")
		})
	}
}

func TestSeriesWithTheSameLabelsAtTheSameTimeAreAnError(t *testing.T) {
	t.Parallel()
	e := newEngines(t, nil, nil)
	for _, name := range []promapi.Engine{promapi.EnginePrometheus, promapi.EngineThanos} {
		// With a lookback of an hour the two overlap.
		spec := ranged(`-{__name__=~"early|late"}`, name)
		spec.LookbackDelta = time.Hour
		res, _ := run(t, e, spec)
		require.ErrorContains(t, res.Err, "same labelset")
	}
}

// Known difference: without the fall-back, promql-engine rounds the time of an evaluation to seconds.
func TestTimestampOfAnExpressionKeepsItsMilliseconds(t *testing.T) {
	t.Parallel()
	e := newEngines(t, nil, nil)
	strict := newEngines(t, func(c *engine.Config) { c.DisableFallback = true }, nil)
	at := time.UnixMilli(120_500)
	value := func(e *engine.Engines, name promapi.Engine, text string) float64 {
		res, _ := run(t, e, grpcapi.QuerySpec{Text: text, Engine: name, Start: at, End: at})
		require.NoError(t, res.Err)
		v, err := res.Vector()
		require.NoError(t, err)
		require.Len(t, v, 1)
		return v[0].F
	}
	for _, text := range []string{`timestamp(early > 0)`, `timestamp((early + 0))`} {
		require.InDelta(t, 120.5, value(e, promapi.EnginePrometheus, text), 0)
		require.InDelta(t, 120.5, value(e, promapi.EngineThanos, text), 0)
		require.InDelta(t, 120, value(strict, promapi.EngineThanos, text), 0, "once this fails the fall-back can go")
	}
	require.InDelta(t, 120, value(strict, promapi.EngineThanos, `timestamp((early))`), 0, "the time of the sample")
}

func TestLookback(t *testing.T) {
	t.Parallel()
	// The last sample of early is at 300 s.
	has := func(e *engine.Engines, name promapi.Engine, at int64, spec grpcapi.QuerySpec) bool {
		spec.Text, spec.Engine, spec.Start, spec.End = `early`, name, time.Unix(at, 0), time.Unix(at, 0)
		res, _ := run(t, e, spec)
		require.NoError(t, res.Err)
		v, err := res.Vector()
		require.NoError(t, err)
		return len(v) > 0
	}
	e := newEngines(t, nil, nil)
	static := newEngines(t, func(c *engine.Config) { c.DynamicLookback = false }, nil)
	for _, name := range []promapi.Engine{promapi.EnginePrometheus, promapi.EngineThanos} {
		require.True(t, has(e, name, 599, grpcapi.QuerySpec{}), "five minutes by default")
		require.False(t, has(e, name, 601, grpcapi.QuerySpec{}))
		require.True(t, has(e, name, 601, grpcapi.QuerySpec{LookbackDelta: 10 * time.Minute}), "the request's wins")
		require.False(t, has(e, name, 361, grpcapi.QuerySpec{LookbackDelta: time.Minute}))
		require.True(t, has(e, name, 3800, grpcapi.QuerySpec{MaxSourceResolution: time.Hour}), "raised to the resolution")
		require.False(t, has(static, name, 3800, grpcapi.QuerySpec{MaxSourceResolution: time.Hour}))
	}
}

func TestTheDefaultEngineAndUnknownOnes(t *testing.T) {
	t.Parallel()
	e := newEngines(t, func(c *engine.Config) { c.Default = promapi.EngineThanos }, nil)
	_, q := run(t, e, ranged(`sum(early)`, ""))
	tree, err := engine.Explain(q)
	require.NoError(t, err, "only the thanos engine has a tree")
	require.NotEmpty(t, tree.Name)
	require.NotEmpty(t, tree.Children)
	costs, err := engine.Analyze(q, nil)
	require.NoError(t, err)
	require.Positive(t, costs.TotalSamples)

	_, q = run(t, e, ranged(`sum(early)`, promapi.EnginePrometheus))
	_, err = engine.Explain(q)
	require.ErrorIs(t, err, engine.ErrNoTree)
	_, err = engine.Analyze(q, nil)
	require.ErrorIs(t, err, engine.ErrNoTree)

	_, err = e.NewQuery(t.Context(), nil, ranged(`up`, "other"))
	require.ErrorContains(t, err, `engine "other" is unknown`)
	for _, name := range []promapi.Engine{promapi.EnginePrometheus, promapi.EngineThanos} {
		_, err = e.NewQuery(t.Context(), promqltest.LoadedStorage(t, load), ranged(`sum((`, name))
		require.EqualError(t, err, "1:6: parse error: unclosed left parenthesis")
	}
}

func TestXFunctionsAreOnlyKnownWhenSwitchedOn(t *testing.T) {
	t.Parallel()
	off, on := newEngines(t, nil, nil), newEngines(t, func(c *engine.Config) { c.XFunctions = true }, nil)
	st := promqltest.LoadedStorage(t, load)
	_, err := off.NewQuery(t.Context(), st, ranged(`xrate(http_requests_total[5m])`, promapi.EngineThanos))
	require.ErrorContains(t, err, "xrate")
	res, _ := run(t, on, ranged(`xrate(http_requests_total[5m])`, promapi.EngineThanos))
	require.NoError(t, res.Err)
	_, err = off.Parse(`xrate(http_requests_total[5m])`)
	require.ErrorContains(t, err, "xrate")
	expr, err := on.Parse(`xrate(http_requests_total[5m])`)
	require.NoError(t, err)
	require.Equal(t, `xrate(http_requests_total[5m])`, expr.String())
}

func TestMetricsOfBothEngines(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	newEngines(t, nil, reg)
	families, err := reg.Gather()
	require.NoError(t, err)
	got := map[string]bool{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "engine" {
					got[f.GetName()+"/"+l.GetValue()] = true
				}
			}
		}
	}
	for _, want := range []string{
		"prometheus_engine_queries/prometheus", "prometheus_engine_queries_concurrent_max/prometheus",
		"prometheus_engine_query_duration_seconds/prometheus", "prometheus_engine_query_duration_histogram_seconds/prometheus",
		"prometheus_engine_query_log_enabled/prometheus", "prometheus_engine_query_log_failures_total/prometheus",
		"prometheus_engine_query_samples_total/prometheus", "thanos_engine_queries/thanos", "thanos_engine_queries_total/thanos",
	} {
		require.True(t, got[want], "%s in %v", want, got)
	}
	n, err := testutil.GatherAndCount(reg, "promontory_querier_engine_fallbacks_total")
	require.NoError(t, err)
	require.Equal(t, 1, n)
}

func TestActiveQueriesAreNoted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	e := newEngines(t, func(c *engine.Config) { c.ActiveQueryPath, c.MaxConcurrent = dir, 4 }, nil)
	res, _ := run(t, e, ranged(`early`, ""))
	require.NoError(t, res.Err)
	require.FileExists(t, dir+"/queries.active")
}
