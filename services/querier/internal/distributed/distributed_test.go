package distributed_test

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/promontory-io/promontory/libs/promapi"
	"github.com/promontory-io/promontory/services/querier/internal/distributed"
	"github.com/promontory-io/promontory/services/querier/internal/endpoints"
	"github.com/promontory-io/promontory/services/querier/internal/engine"
	"github.com/promontory-io/promontory/services/querier/internal/fakepeer"
	"github.com/promontory-io/promontory/services/querier/internal/fanout"
	"github.com/promontory-io/promontory/services/querier/internal/gather"
	"github.com/promontory-io/promontory/services/querier/internal/grpcapi"
	"github.com/promontory-io/promontory/services/querier/internal/receipt"
	"github.com/promontory-io/promontory/services/querier/internal/selects"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAQueryIsDistributedOnlyWhereTheAnswerIsTheSame(t *testing.T) {
	t.Parallel()
	querier := func(addr string, sets ...labels.Labels) endpoints.Endpoint {
		return endpoints.Endpoint{Addr: addr, ComponentType: "query", Query: true, LabelSets: sets, Store: &endpoints.StoreInfo{
			TimeRange: endpoints.TimeRange{MinTime: 5000, MaxTime: math.MaxInt64},
		}}
	}
	eu, us := labels.FromStrings("cluster", "eu", "replica", "a"), labels.FromStrings("cluster", "us", "replica", "a")
	eu2 := labels.FromStrings("cluster", "eu", "replica", "b")
	down := querier("down:1", us)
	down.Err = errors.New("gone")
	sidecar := querier("sidecar:1", us)
	sidecar.Query = false
	for name, tc := range map[string]struct {
		list   []endpoints.Endpoint
		cfg    distributed.Config
		change func(*distributed.Query)
		why    string // it runs here, empty if it does not
	}{
		"apart":                 {list: []endpoints.Endpoint{querier("a", eu, eu2), querier("b", us)}},
		"apart by some":         {list: []endpoints.Endpoint{querier("a", eu), querier("b", us)}, cfg: distributed.Config{PartitionLabels: []string{"cluster"}}},
		"a store without":       {list: []endpoints.Endpoint{querier("a", eu), sidecar}, why: "does not evaluate queries"},
		"one is lost":           {list: []endpoints.Endpoint{querier("a", eu), down}, why: "does not answer"},
		"replicas apart":        {list: []endpoints.Endpoint{querier("a", eu), querier("b", eu2)}, why: "both have data"},
		"replicas apart, asked": {list: []endpoints.Endpoint{querier("a", eu), querier("b", eu2)}, cfg: distributed.Config{Overlapping: true}},
		"nameless":              {list: []endpoints.Endpoint{querier("a", eu), querier("b")}, why: "announces no labels"},
		"no partition":          {list: []endpoints.Endpoint{querier("a", eu)}, cfg: distributed.Config{PartitionLabels: []string{"zone"}}, why: "no partition labels"},
		"other labels":          {list: []endpoints.Endpoint{querier("a", eu), querier("b", labels.FromStrings("zone", "x"))}, why: "other labels"},
		"fine step":             {list: []endpoints.Endpoint{querier("a", eu)}, change: func(q *distributed.Query) { q.Step = 1500 * time.Millisecond }, why: "step of 1.5s"},
		"fine time":             {list: []endpoints.Endpoint{querier("a", eu)}, change: func(q *distributed.Query) { q.End = time.UnixMilli(1) }, why: "times"},
		"nobody":                {why: "no endpoint"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			q := distributed.Query{Start: time.Unix(0, 0), End: time.Unix(60, 0), Step: time.Second, Lookback: 5 * time.Minute, ReplicaLabels: []string{"replica"}}
			if tc.change != nil {
				tc.change(&q)
			}
			got, err := distributed.Plan(tc.list, tc.cfg, q)
			if tc.why != "" {
				require.ErrorContains(t, err, tc.why)
				return
			}
			require.NoError(t, err)
			require.Len(t, got, len(tc.list))
			require.False(t, got[0].Partition[0].Has("replica"))
		})
	}
}

// part is one leaf: a querier over an HA pair of a cluster.
func part(t *testing.T, cluster string, pods int) endpoints.Endpoint {
	t.Helper()
	var peers endpoints.Static
	for r, replica := range []string{"a", "b"} {
		s := &fakepeer.Store{External: labels.FromStrings("cluster", cluster, "replica", replica)}
		for i := range pods {
			var samples []fakepeer.Sample
			v := 0.0
			for at := int64(r) * 7000; at < 3_600_000; at += 15_000 {
				if v += float64((at/15_000*int64(i+3)+int64(len(cluster)))%7) + 0.5; at%1_230_000 < 15_000 {
					v = 0
				}
				// No two series are equal: of equals nobody says which are the topmost.
				samples = append(samples, fakepeer.Sample{T: at, V: v + float64(i)/128 + float64(len(cluster))/4096})
			}
			s.Series = append(s.Series, fakepeer.Series(t, labels.FromStrings(
				"__name__", "http_requests_total", "code", []string{"200", "500"}[i%2], "pod", fmt.Sprintf("p%02d", i),
			), samples))
		}
		peers = append(peers, fakepeer.StartStore(t, s))
	}
	engines, proxy, creator := querier(t, nil, peers, nil)
	server := grpcapi.New(grpcapi.Config{QueryTimeout: time.Minute}, grpcapi.Deps{
		Proxy: proxy, Gatherer: gather.New(peers, gather.Config{}, zap.NewNop()), Selects: creator, Engine: engines,
		Ready: func() bool { return true }, Logger: zap.NewNop(),
	})
	addr := fakepeer.Start(t, &fakepeer.Peer{Register: []func(grpc.ServiceRegistrar){func(r grpc.ServiceRegistrar) { server.Register(r) }}})
	e := fakepeer.Endpoint(t, addr, &fakepeer.Store{})
	e.ComponentType, e.Query, e.LabelSets = endpoints.ComponentQuery, true, proxy.LabelSets()
	return e
}

func querier(t *testing.T, d *engine.Distribution, peers endpoints.Static, reg prometheus.Registerer) (*engine.Engines, *fanout.Proxy, *selects.Creator) {
	t.Helper()
	proxy := fanout.New(peers, fanout.Config{}, zap.NewNop(), nil)
	engines := engine.New(engine.Config{Timeout: time.Minute, DefaultEvaluationInterval: time.Minute, Distribution: d}, promslog.NewNopLogger(), reg)
	return engines, proxy, selects.New(proxy, selects.Config{MaxConcurrent: 4}, nil)
}

func run(t *testing.T, e *engine.Engines, c *selects.Creator, stats *receipt.Stats, spec grpcapi.QuerySpec) (string, *promql.Result) {
	t.Helper()
	ctx := receipt.With(t.Context(), stats)
	q, err := e.NewQuery(ctx, c.Queryable(selects.Options{Dedup: true, ReplicaLabels: []string{"replica"}, PartialResponse: true}), spec)
	require.NoError(t, err, spec.Text)
	t.Cleanup(q.Close) // its memory serves again after that
	got := q.Exec(ctx)
	require.NoError(t, got.Err, spec.Text)
	return got.String(), got
}

func TestDistributedAnswersAreEqualToLocalOnes(t *testing.T) {
	t.Parallel()
	peers := endpoints.Static{part(t, "eu", 9), part(t, "us", 6), part(t, "asia", 3)}
	local, _, creator := querier(t, nil, peers, nil)
	reg := prometheus.NewRegistry()
	root, _, _ := querier(t, &engine.Distribution{Endpoints: peers}, peers, reg)
	queries := []string{
		`http_requests_total`, `sum(http_requests_total)`, `sum by (code) (rate(http_requests_total[5m]))`, `avg(rate(http_requests_total[2m]))`,
		`avg by (code) (http_requests_total)`, `count by (cluster) (http_requests_total)`, `max by (pod) (increase(http_requests_total[10m]))`,
		`topk(3, sum by (pod) (http_requests_total))`, `quantile(0.9, http_requests_total)`, `stddev(http_requests_total)`, `count(http_requests_total > 5)`,
		`sum without (pod) (http_requests_total)`, `http_requests_total / on (pod, code, cluster) http_requests_total`,
		`sum by (code) (http_requests_total) / on (code) group_left () count by (code) (http_requests_total)`,
		`max_over_time(sum by (cluster) (http_requests_total)[10m:1m])`, `absent(nothing)`, `absent(http_requests_total)`, `sum(nothing) or vector(3)`,
		`min(http_requests_total{cluster="eu"})`, `sum(http_requests_total{cluster=~"eu|us"}) by (cluster)`, `http_requests_total offset 5m`,
		`sum(http_requests_total @ 1800)`, `label_replace(sum by (code) (http_requests_total), "x", "$1", "code", "(.).*")`, `1 + 2`, `time()`,
		`sum(rate(http_requests_total{code="500"}[5m])) / sum(rate(http_requests_total[5m]))`, `count_values("v", http_requests_total)`,
		`group by (cluster) (http_requests_total)`, `bottomk(2, http_requests_total)`, `sort_desc(sum by (cluster) (http_requests_total))`,
		`last_over_time(http_requests_total[3m])`, `resets(http_requests_total[30m])`, `sum(http_requests_total) unless sum(nothing)`,
	}
	for _, text := range queries {
		for _, spec := range []grpcapi.QuerySpec{
			{Start: time.Unix(1800, 0), End: time.Unix(1800, 0)},
			{Start: time.Unix(0, 0), End: time.Unix(3600, 0), Step: 60 * time.Second},
		} {
			spec.Text, spec.Engine = text, promapi.EngineThanos
			want, wanted := run(t, local, creator, nil, spec)
			spec.Remote = &grpcapi.RemoteSpec{ReplicaLabels: []string{"replica"}, PartialResponse: true}
			got, result := run(t, root, creator, nil, spec)
			requireClose(t, text, wanted, result, want, got)
		}
	}
	// label_replace over a range may meet equal labels that never overlap, which is for Prometheus' engine.
	require.InDelta(t, float64(2*len(queries)-1), counted(t, reg, "remote"), 0)
	require.Zero(t, counted(t, reg, "local"))
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP promontory_querier_engine_fallbacks_total Queries for the thanos engine that it could not evaluate and Prometheus' engine did.
# TYPE promontory_querier_engine_fallbacks_total counter
promontory_querier_engine_fallbacks_total 1
`), "promontory_querier_engine_fallbacks_total"))
}

func counted(t *testing.T, reg *prometheus.Registry, where string) float64 {
	t.Helper()
	families, err := reg.Gather()
	require.NoError(t, err)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "promontory_querier_distributed_queries_total" && m.GetLabel()[0].GetValue() == where {
				return m.GetCounter().GetValue()
			}
		}
	}
	return -1
}

// requireClose compares values to 1e-9, since sums of sums may differ in their last bits.
func requireClose(t *testing.T, text string, want, got *promql.Result, wantText, gotText string) {
	t.Helper()
	a, aok := want.Value.(promql.Matrix)
	b, bok := got.Value.(promql.Matrix)
	if !aok || !bok {
		va, aok := want.Value.(promql.Vector)
		vb, bok := got.Value.(promql.Vector)
		if !aok || !bok {
			require.Equal(t, wantText, gotText, text)
			return
		}
		a, b = asMatrix(va), asMatrix(vb)
	}
	require.Len(t, b, len(a), "%s: want %s, got %s", text, wantText, gotText)
	byLabels := map[string]promql.Series{}
	for _, s := range b {
		byLabels[s.Metric.String()] = s
	}
	for _, s := range a {
		other, ok := byLabels[s.Metric.String()]
		require.True(t, ok, "%s: %s is not in %s", text, s.Metric, gotText)
		require.Len(t, other.Floats, len(s.Floats), "%s: %s", text, s.Metric)
		for i, p := range s.Floats {
			require.Equal(t, p.T, other.Floats[i].T, text)
			require.InEpsilon(t, p.F+1e9, other.Floats[i].F+1e9, 1e-12, "%s: %s at %d", text, s.Metric, p.T)
		}
	}
}

func asMatrix(v promql.Vector) promql.Matrix {
	var out promql.Matrix
	for _, s := range v {
		out = append(out, promql.Series{Metric: s.Metric, Floats: []promql.FPoint{{T: s.T, F: s.F}}})
	}
	return out
}

func TestAnEngineThatFailsIsMissingFromTheAnswer(t *testing.T) {
	t.Parallel()
	dead := fakepeer.Endpoint(t, fakepeer.Start(t, &fakepeer.Peer{}), &fakepeer.Store{})
	dead.ComponentType, dead.Query, dead.LabelSets = endpoints.ComponentQuery, true, []labels.Labels{labels.FromStrings("cluster", "mars")}
	peers := endpoints.Static{part(t, "eu", 2), dead}
	root, _, creator := querier(t, &engine.Distribution{Endpoints: peers}, peers, nil)
	spec := grpcapi.QuerySpec{
		Text: `sum by (cluster) (http_requests_total)`, Engine: promapi.EngineThanos, Start: time.Unix(1800, 0), End: time.Unix(1860, 0), Step: time.Minute,
		Remote: &grpcapi.RemoteSpec{ReplicaLabels: []string{"replica"}, PartialResponse: true},
	}
	stats := &receipt.Stats{}
	_, got := run(t, root, creator, stats, spec)
	require.Len(t, got.Value, 1)
	require.Len(t, got.Warnings, 1)
	require.Contains(t, fmt.Sprint(got.Warnings.AsErrors()), dead.Addr)
	require.False(t, receipt.Complete(stats.All()))
	for _, s := range stats.All() {
		require.Equal(t, s.Addr == dead.Addr, s.Missing())
		require.Equal(t, s.Addr == dead.Addr, len(s.Gaps) == 1)
	}

	spec.Remote.PartialResponse = false
	q, err := root.NewQuery(t.Context(), creator.Queryable(selects.Options{}), spec)
	require.NoError(t, err)
	defer q.Close()
	require.ErrorContains(t, q.Exec(t.Context()).Err, dead.Addr)
}
