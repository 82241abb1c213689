package httpapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/promapi/promtypes"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/services/querier/internal/fakepeer"
	"github.com/promontory-io/promontory/services/querier/internal/grpcapi"
)

func TestQueriesChooseTheirData(t *testing.T) {
	t.Parallel()
	requests := make(chan *thanos.SeriesRequest, 1)
	a, b := up(t, 2, ext("replica", "a")), up(t, 2, ext("replica", "b"))
	a.Requests = requests
	s := newStack(fakepeer.StartStore(t, a), fakepeer.StartStore(t, b))
	s.Config.Defaults.InstantMaxSourceResolution = 7 * time.Minute
	c := s.serve(t)
	asked := func(path string) *thanos.SeriesRequest {
		c.get(path).ok(t)
		return <-requests
	}
	count := func(params ...string) string {
		var d struct{ Result []struct{ Value [2]any } }
		require.NoError(t, json.Unmarshal([]byte(c.get(query("count(up)", params...)).ok(t)), &d))
		<-requests
		if len(d.Result) == 0 {
			return ""
		}
		return d.Result[0].Value[1].(string)
	}
	require.Equal(t, "2", count())
	require.Equal(t, "4", count("dedup", "false"))
	require.Equal(t, "4", count("replicaLabels[]", "other"))
	require.Equal(t, "1", count("replicaLabels[]", "replica", "replicaLabels[]", "instance"))

	require.Zero(t, asked(query("up")).MaxResolutionWindow)
	require.EqualValues(t, 300_000, asked(query("up", "max_source_resolution", "5m")).MaxResolutionWindow)
	require.EqualValues(t, 60_000, asked(query("up", "max_source_resolution", "60")).MaxResolutionWindow)
	require.EqualValues(t, 420_000, asked(query("up", "max_source_resolution", "auto")).MaxResolutionWindow)
	require.EqualValues(t, 12_000, asked(queryRange("up", "max_source_resolution", "auto")).MaxResolutionWindow)
	c.get(query("up", "max_source_resolution", "-1")).fails(t, 400, "bad_data", "negative 'max_source_resolution'")

	require.Equal(t, "2", count("time", "3900"), "the last sample is from 3600 s")
	require.Equal(t, "2", c2s(t, c, requests, "time", "3700", "lookback_delta", "2m"))
	require.Empty(t, c2s(t, c, requests, "time", "3800", "lookback_delta", "1m"))
	require.Equal(t, "2", c2s(t, c, requests, "time", "3800", "lookback_delta", "-60"), "ignored")
	require.Equal(t, "2", c2s(t, c, requests, "time", "6000", "max_source_resolution", "1h"), "looks back as far as downsampled data need")

	one := count("shard_info", `{"shard_index":0,"total_shards":2,"by":true,"labels":["instance"]}`)
	two := count("shard_info", `{"shard_index":1,"total_shards":2,"by":true,"labels":["instance"]}`)
	require.Contains(t, []string{"2", "11", "2"}, one+two, "each series is in one shard")
	c.get(query("up", "shard_info", "{")).fails(t, 400, "bad_data", "'shard_info' parameter")
}

// c2s is count without the time that query puts first.
func c2s(t testing.TB, c *client, requests chan *thanos.SeriesRequest, params ...string) string {
	var d struct{ Result []struct{ Value [2]any } }
	require.NoError(t, json.Unmarshal([]byte(c.get("/api/v1/query", append([]string{"query", "count(up)"}, params...)...).ok(t)), &d))
	<-requests
	if len(d.Result) == 0 {
		return ""
	}
	return d.Result[0].Value[1].(string)
}

func TestExplainAndAnalyzeNeedTheThanosEngine(t *testing.T) {
	t.Parallel()
	peer := fakepeer.StartStore(t, up(t, 2, ext("cluster", "x")))
	c := newStack(peer).serve(t)
	for _, path := range []string{"/api/v1/query_explain?query=up", "/api/v1/query_range_explain?query=up&start=1&end=2&step=1"} {
		c.get(path).fails(t, 400, "bad_data", "engine=thanos")
		var x promtypes.Explanation
		require.NoError(t, json.Unmarshal([]byte(c.get(path+"&engine=thanos").ok(t)), &x))
		require.NotEmpty(t, x.Name)
		require.NotEmpty(t, x.Children)
	}
	c.get("/api/v1/query_explain?query=sum((&engine=thanos").fails(t, 400, "bad_data", "unclosed left parenthesis")
	c.get("/api/v1/query_range_explain?query=up&engine=thanos").fails(t, 400, "bad_data", "'start'")

	c.get(query("up", "analyze", "true")).fails(t, 400, "bad_data", "engine=thanos")
	for _, path := range []string{
		query(`sum(up{job="x"}) / on () count(up)`, "analyze", "1", "engine", "thanos"),
		queryRange(`sum(rate(up{job="x"}[5m])) / on () count(up)`, "analyze", "true", "engine", "thanos"),
	} {
		var d struct{ Analysis promtypes.Analysis }
		require.NoError(t, json.Unmarshal([]byte(c.get(path).ok(t)), &d))
		var found []promtypes.FanoutResult
		walk(d.Analysis, func(a promtypes.Analysis) {
			_, err := time.ParseDuration(a.ExecutionTime)
			require.NoError(t, err)
			found = append(found, a.Fanout...)
		})
		require.Len(t, found, 2, "one for each selector")
		for _, f := range found {
			require.Equal(t, peer.Addr, f.EndpointAddr)
			require.EqualValues(t, 2, f.Series)
			require.Positive(t, f.BytesProcessed)
			require.Positive(t, f.Chunks)
		}
		require.Positive(t, d.Analysis.TotalSamples)
	}
	r := c.get(query(`quantile_over_time(scalar(up), up[5m])`, "analyze", "true", "engine", "thanos"))
	r.ok(t)
	require.Contains(t, strings.Join(r.Warnings, "\n"), "no analysis: the thanos engine cannot evaluate this query")
	require.Contains(t, string(r.Data), `"analysis":{}`)
}

func walk(a promtypes.Analysis, f func(promtypes.Analysis)) {
	f(a)
	for _, c := range a.Children {
		walk(c, f)
	}
}

func TestStatisticsAreGivenWhereAskedFor(t *testing.T) {
	t.Parallel()
	c := newStack(fakepeer.StartStore(t, up(t, 2, ext()))).serve(t)
	for _, name := range []string{"prometheus", "thanos"} {
		for _, expr := range []string{"sum(up)", "sum(rate(up[5m]))", "max_over_time(up[5m:1m])", "up @ 300"} {
			require.NotContains(t, c.get(queryRange(expr, "engine", name)).ok(t), `"stats"`)
			r := c.get(queryRange(expr, "engine", name, "stats", "1")).ok(t)
			require.Contains(t, r, `"totalQueryableSamples":`)
			require.NotContains(t, r, `"totalQueryableSamplesPerStep"`)
			r = c.get(queryRange(expr, "engine", name, "stats", "all")).ok(t)
			require.Contains(t, r, `"totalQueryableSamplesPerStep":[[60,`)
		}
	}
}

// blocked is an engine whose queries run until they are released or their time is over.
type blocked struct {
	entered chan struct{}
	release chan struct{}
}

func (b *blocked) NewQuery(context.Context, storage.Queryable, grpcapi.QuerySpec) (promql.Query, error) {
	return &blockedQuery{engine: b}, nil
}

type blockedQuery struct {
	promql.Query
	engine *blocked
}

func (q *blockedQuery) Close() {}

func (q *blockedQuery) Exec(ctx context.Context) *promql.Result {
	q.engine.entered <- struct{}{}
	select {
	case <-q.engine.release:
		return &promql.Result{Value: promql.Vector{}}
	case <-ctx.Done():
		return &promql.Result{Err: ctx.Err()}
	}
}

func TestQueriesWaitForTheirTurn(t *testing.T) {
	t.Parallel()
	e := &blocked{entered: make(chan struct{}, 1), release: make(chan struct{})}
	s := newStack()
	s.Config.MaxConcurrent, s.Deps.Engine = 1, e
	c := s.serve(t)
	first := make(chan *reply, 1)
	go func() { first <- c.get(query("up")) }()
	<-e.entered
	c.get(query("up", "timeout", "10ms")).fails(t, 503, "timeout", "wait for other queries to end")
	require.NoError(t, testutil.GatherAndCompare(s.Reg, strings.NewReader(`
		# HELP thanos_query_concurrent_gate_queries_in_flight How many have passed and are not yet done.
		# TYPE thanos_query_concurrent_gate_queries_in_flight gauge
		thanos_query_concurrent_gate_queries_in_flight 1
		# HELP thanos_query_concurrent_gate_queries_max How many may pass at once.
		# TYPE thanos_query_concurrent_gate_queries_max gauge
		thanos_query_concurrent_gate_queries_max 1
		# HELP thanos_query_concurrent_gate_queries_total How many have passed.
		# TYPE thanos_query_concurrent_gate_queries_total counter
		thanos_query_concurrent_gate_queries_total 1
	`), "thanos_query_concurrent_gate_queries_in_flight", "thanos_query_concurrent_gate_queries_max", "thanos_query_concurrent_gate_queries_total"))
	// Explaining costs nothing and does not wait; nor do calls that are no queries.
	c.get("/api/v1/labels").ok(t)
	close(e.release)
	(<-first).ok(t)
	go func() { first <- c.get(query("up")) }()
	<-e.entered
	(<-first).ok(t)
}

func TestNoRequestTakesLongerThanItsTimeout(t *testing.T) {
	t.Parallel()
	hanging := up(t, 1, ext())
	hanging.Hang = true
	s := newStack(fakepeer.StartStore(t, hanging))
	s.Config.Timeout = 50 * time.Millisecond
	c := s.serve(t)
	for _, path := range append(slices.Clone(paths[:5]), queryRange("up", "engine", "thanos")) {
		c.get(path).fails(t, 503, "timeout", "")
	}
	// The configured timeout is the longest there is.
	c.get(query("up", "timeout", "1h")).fails(t, 503, "timeout", "")
	c.get(query("up", "timeout", "0")).fails(t, 400, "bad_data", "'timeout' parameter")
}

func TestAQueryEndsWhenTheClientLeaves(t *testing.T) {
	t.Parallel()
	e := &blocked{entered: make(chan struct{}, 1), release: make(chan struct{})}
	s := newStack()
	s.Deps.Engine = e
	c := s.serve(t)
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url+query("up"), nil)
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() {
		_, err := c.http.Do(req)
		done <- err
	}()
	<-e.entered
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	require.Eventually(t, func() bool {
		n, err := testutil.GatherAndCount(s.Reg, "http_requests_total")
		return err == nil && n == 1
	}, 10*time.Second, time.Millisecond)
	require.InDelta(t, 1, value(t, s.Reg, "http_requests_total", "code", "503", "handler", "query"), 0)
}

func TestErrorsHaveTheTypeOfTheirKind(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		err  error
		code int
		typ  string
	}{
		"limit":       {storeapi.Limitf("too many series: 5 of 4"), 422, "execution"},
		"invalid":     {storeapi.Invalidf("no matcher"), 400, "bad_data"},
		"unavailable": {storeapi.Unavailablef("not ready"), 422, "execution"},
		"engine time": {promql.ErrQueryTimeout("expression evaluation"), 503, "timeout"},
		"cancelled":   {promql.ErrQueryCanceled("expression evaluation"), 503, "canceled"},
		"storage":     {promql.ErrStorage{Err: errors.New("boom")}, 500, "internal"},
		"samples":     {promql.ErrTooManySamples("expression evaluation"), 422, "execution"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStack()
			s.Deps.Engine = failing{tc.err}
			s.serve(t).get(query("up")).fails(t, tc.code, tc.typ, tc.err.Error())
		})
	}
}

// failing is an engine whose queries fail.
type failing struct{ err error }

func (f failing) NewQuery(context.Context, storage.Queryable, grpcapi.QuerySpec) (promql.Query, error) {
	return failedQuery{err: f.err}, nil
}

type failedQuery struct {
	promql.Query
	err error
}

func (q failedQuery) Close()                              {}
func (q failedQuery) Exec(context.Context) *promql.Result { return &promql.Result{Err: q.err} }
