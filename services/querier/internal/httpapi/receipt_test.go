package httpapi_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/promontory-io/promontory/libs/budget"
	"github.com/promontory-io/promontory/libs/promapi/promtypes"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/services/querier/internal/active"
	"github.com/promontory-io/promontory/services/querier/internal/endpoints"
	"github.com/promontory-io/promontory/services/querier/internal/fakepeer"
	"github.com/promontory-io/promontory/services/querier/internal/slowlog"
)

// pair is an HA pair of which b fails.
func pair(t *testing.T, err error) (a, b endpoints.Endpoint) {
	t.Helper()
	series := []storeapi.Series{fakepeer.Series(t, labels.FromStrings("__name__", "up", "job", "x"), fakepeer.Ramp(0, 1000, 60, 1))}
	a = fakepeer.StartStore(t, &fakepeer.Store{External: labels.FromStrings("cluster", "eu", "replica", "a"), Series: series})
	b = fakepeer.StartStore(t, &fakepeer.Store{External: labels.FromStrings("cluster", "eu", "replica", "b"), Series: series, Err: err})
	a.ComponentType, b.ComponentType = endpoints.ComponentSidecar, endpoints.ComponentSidecar
	return a, b
}

func receiptOf(t *testing.T, r *reply) promtypes.Receipt {
	t.Helper()
	var envelope struct{ Receipt *promtypes.Receipt }
	require.NoError(t, json.Unmarshal([]byte(r.Body), &envelope))
	require.NotNil(t, envelope.Receipt, r.Body)
	return *envelope.Receipt
}

func TestAReceiptSaysWhatEachStoreGaveAndWhatIsMissing(t *testing.T) {
	t.Parallel()
	a, b := pair(t, storeapi.Unavailablef("disk on fire"))
	for _, engine := range []string{"prometheus", "thanos"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			c := newStack(a, b).serve(t)
			got := c.get("/api/v1/query", "query", `sum(up) + count(up{job="x"})`, "time", "59", "receipt", "true", "engine", engine)
			got.ok(t)
			rec := receiptOf(t, got)
			require.Equal(t, promtypes.CoverageCovered, rec.Coverage, "the other replica answered")
			require.Len(t, rec.Stores, 2)
			byAddr := map[string]promtypes.ReceiptStore{}
			for _, s := range rec.Stores {
				byAddr[s.Address] = s
			}
			good := byAddr[a.Addr]
			require.Equal(t, "answered", good.State)
			require.GreaterOrEqual(t, good.Requests, 1)
			require.EqualValues(t, good.Requests, good.Series)
			require.EqualValues(t, 60*good.Requests, good.Samples)
			require.Equal(t, map[string]int64{"raw": good.Chunks}, good.Resolutions)
			require.Positive(t, good.Bytes)
			require.Positive(t, good.FirstFrameSeconds)
			require.Equal(t, []labels.Labels{labels.FromStrings("cluster", "eu", "replica", "a")}, good.LabelSets)
			require.Equal(t, "failed", byAddr[b.Addr].State)
			require.Contains(t, byAddr[b.Addr].Error, "disk on fire")
			require.Len(t, rec.Missing, 1)
			require.Equal(t, b.Addr, rec.Missing[0].Address)
			require.Equal(t, labels.FromStrings("cluster", "eu", "replica", "b"), rec.Missing[0].Labels)
			require.Equal(t, []string{a.Addr}, rec.Missing[0].CoveredBy)
			require.Equal(t, "no-store", got.Header.Get("Cache-Control"), "covered or not, it is not kept")

			got = c.get("/api/v1/query", "query", "up", "time", "59", "receipt", "true", "dedup", "false", "engine", engine)
			require.Equal(t, promtypes.CoverageIncomplete, receiptOf(t, got).Coverage)
			got = c.get("/api/v1/query", "query", "up", "time", "59", "receipt", "true", "partial_response", "false", "engine", engine)
			require.Equal(t, http.StatusUnprocessableEntity, got.Code)
			require.Equal(t, promtypes.CoverageIncomplete, receiptOf(t, got).Coverage, "an error has one, too")
			got = c.get("/api/v1/query", "query", "up", "time", "59", "engine", engine)
			require.NotContains(t, got.Body, "receipt", "who does not ask sees nothing of it")
			c.get("/api/v1/query", "query", "up", "receipt", "perhaps").fails(t, http.StatusBadRequest, "bad_data", "'receipt' parameter")
		})
	}
}

func TestEveryKindOfAnswerHasAReceipt(t *testing.T) {
	t.Parallel()
	a, b := pair(t, nil)
	a.Rules, a.Targets, a.Metadata, a.Status = true, true, true, true
	broken := a // has the APIs, and does not serve them
	c := newStack(broken, b).serve(t)
	for path, incomplete := range map[string]bool{
		"/api/v1/query?query=up&time=59":                      false,
		"/api/v1/query_range?query=up&start=0&end=59&step=10": false,
		"/api/v1/series?match[]=up&start=0&end=59":            false,
		"/api/v1/labels?start=0&end=59":                       false,
		"/api/v1/label/job/values?start=0&end=59":             false,
		"/api/v1/rules":       true,
		"/api/v1/targets":     true,
		"/api/v1/metadata":    true,
		"/api/v1/status/tsdb": true,
		"/api/v1/query?query=up&time=59&storeMatch[]={__address__=~\"x\"}": false,
	} {
		sep := "?"
		if strings.Contains(path, "?") {
			sep = "&"
		}
		got := c.get(strings.ReplaceAll(path, `"`, "%22") + sep + "receipt=1")
		got.ok(t)
		rec := receiptOf(t, got)
		want := promtypes.CoverageComplete
		if incomplete {
			want = promtypes.CoverageIncomplete
		}
		require.Equal(t, want, rec.Coverage, path)
		require.Equal(t, !strings.Contains(path, "storeMatch"), len(rec.Stores) > 0, path)
	}
}

func TestSlowRequestsAreLoggedWithTheirReceipt(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zap.WarnLevel)
	a, b := pair(t, storeapi.Unavailablef("disk on fire"))
	s := newStack(a, b)
	s.Config.Slow = slowlog.New(time.Nanosecond, zap.New(core))
	s.serve(t).with("THANOS-TENANT", "team-a").get("/api/v1/query_range", "query", "sum(up)", "start", "0", "end", "59", "step", "10").ok(t)
	require.Equal(t, 1, logs.Len())
	line := logs.All()[0]
	require.Equal(t, "slow query", line.Message)
	fields := line.ContextMap()
	require.Equal(t, "/api/v1/query_range", fields["path"])
	require.Equal(t, "sum(up)", fields["query"])
	require.Equal(t, "team-a", fields["tenant"])
	require.Equal(t, "59", fields["end"])
	require.Equal(t, promtypes.CoverageCovered, fields["coverage"])
	text, err := zapcore.NewJSONEncoder(zapcore.EncoderConfig{}).EncodeEntry(zapcore.Entry{}, line.Context)
	require.NoError(t, err)
	require.Contains(t, text.String(), fmt.Sprintf(`"address":%q`, b.Addr))

	s = newStack(a, b)
	s.Config.Slow = slowlog.New(time.Hour, zap.New(core))
	s.serve(t).get("/api/v1/query", "query", "up", "time", "59").ok(t)
	require.Equal(t, 1, logs.Len(), "this one was quick")
}

func TestRunningQueriesAreListedAndCancelledByTheirTenant(t *testing.T) {
	t.Parallel()
	hangs := fakepeer.StartStore(t, &fakepeer.Store{
		Series: []storeapi.Series{fakepeer.Series(t, labels.FromStrings("__name__", "up", "tenant_id", "a"), fakepeer.Ramp(0, 1000, 60, 1))}, Hang: true, HangAfter: 1,
	})
	for _, engine := range []string{"prometheus", "thanos"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			s := newStack(hangs)
			s.Config.Tenancy.Enforce = true
			c := s.serve(t)
			mine, theirs := c.with("THANOS-TENANT", "a"), c.with("THANOS-TENANT", "b")
			done := make(chan *reply)
			go func() {
				done <- mine.get("/api/v1/query_range", "query", "sum(up)", "start", "0", "end", "59", "step", "10", "engine", engine)
			}()
			var list promtypes.ActiveQueries
			require.Eventually(t, func() bool {
				require.NoError(t, json.Unmarshal([]byte(mine.get("/api/v1/active_queries").ok(t)), &list))
				return len(list.Queries) == 1 && list.Queries[0].State == "running" && list.Queries[0].Bytes > 0
			}, 10*time.Second, time.Millisecond)
			q := list.Queries[0]
			require.Equal(t, "query_range", q.Kind)
			require.Equal(t, "sum(up)", q.Query)
			require.Equal(t, "a", q.Tenant)
			require.InDelta(t, 10, q.StepSeconds, 0)
			require.JSONEq(t, `{"queries":[]}`, theirs.get("/api/v1/active_queries").ok(t))
			theirs.do(http.MethodDelete, "/api/v1/active_queries/"+q.ID, "").fails(t, http.StatusNotFound, "not_found", q.ID)
			require.JSONEq(t, fmt.Sprintf(`{"cancelled":%q}`, q.ID), mine.do(http.MethodDelete, "/api/v1/active_queries/"+q.ID, "").ok(t))
			(<-done).fails(t, http.StatusServiceUnavailable, "canceled", "cancelled by request")
			require.JSONEq(t, `{"queries":[]}`, mine.get("/api/v1/active_queries").ok(t))
		})
	}
}

func TestAQueryOverItsBudgetIsCutWithItsSelectorNamed(t *testing.T) {
	t.Parallel()
	a, b := pair(t, nil)
	for _, engine := range []string{"prometheus", "thanos"} {
		s := newStack(a, b)
		s.Config.Active = active.New(50, nil, nil, nil)
		c := s.serve(t)
		got := c.get("/api/v1/query", "query", `sum(up{job="x"})`, "time", "59", "engine", engine)
		got.fails(t, http.StatusUnprocessableEntity, "execution", `job="x"`)
		require.Contains(t, got.Error, "--query.max-bytes")
		c.get("/api/v1/series", "match[]", "up", "start", "0", "end", "59").fails(t, http.StatusUnprocessableEntity, "execution", "--query.max-bytes")

		whole := budget.New(100, nil, budget.WithMaxWait(time.Millisecond))
		s = newStack(a, b)
		s.Config.Active = active.New(0, whole, nil, nil)
		s.serve(t).get("/api/v1/query", "query", "up", "time", "59", "engine", engine).fails(t, http.StatusUnprocessableEntity, "execution", "memory budget")
		require.Zero(t, whole.Used(), "nothing stays held")
	}
}

func TestQueriesAreFormattedAndParsed(t *testing.T) {
	t.Parallel()
	c := newStack().serve(t)
	require.Equal(t, `"sum by (job) (rate(up[5m]))"`, c.get("/api/v1/format_query", "query", "sum by(job)(rate( up[5m]))").ok(t))
	c.get("/api/v1/format_query", "query", "sum(").fails(t, http.StatusBadRequest, "bad_data", "'query' parameter")
	require.JSONEq(t, `{
		"type": "binaryExpr", "op": "/", "bool": false,
		"matching": {"card": "many-to-one", "on": true, "labels": ["job"], "include": []},
		"lhs": {"type": "call", "func": {"name": "rate", "argTypes": ["matrix"], "variadic": 0, "returnType": "vector"}, "args": [
			{"type": "matrixSelector", "name": "up", "range": 300000, "offset": 60000, "timestamp": null, "startOrEnd": null,
			 "anchored": false, "smoothed": false, "matchers": [{"name": "__name__", "type": "=", "value": "up"}]}]},
		"rhs": {"type": "aggregation", "op": "sum", "param": null, "without": false, "grouping": ["job"],
			"expr": {"type": "vectorSelector", "name": "x", "offset": 0, "timestamp": null, "startOrEnd": "end",
			 "anchored": false, "smoothed": false, "matchers": [{"name": "a", "type": "!~", "value": "b"}, {"name": "__name__", "type": "=", "value": "x"}]}}
	}`, c.get("/api/v1/parse_query", "query", `rate(up[5m] offset 1m) / on(job) group_left() sum by(job)(x{a!~"b"} @ end())`).ok(t))
	c.get("/api/v1/parse_query").fails(t, http.StatusBadRequest, "bad_data", "'query' parameter")
}
