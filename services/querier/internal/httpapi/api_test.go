package httpapi_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/promontory-io/promontory/libs/service/httpserver"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/services/querier/internal/endpoints"
	"github.com/promontory-io/promontory/services/querier/internal/fakepeer"
	"github.com/promontory-io/promontory/services/querier/internal/httpapi"
)

// up is a store with n series of up, a sample a minute from 60 s on.
func up(t testing.TB, n int, ext labels.Labels) *fakepeer.Store {
	s := &fakepeer.Store{External: ext}
	for i := range n {
		lset := labels.FromStrings("__name__", "up", "instance", string(rune('a'+i)), "job", "x")
		s.Series = append(s.Series, fakepeer.Series(t, lset, fakepeer.Ramp(60_000, 60_000, 60, float64(i))))
	}
	return s
}

func ext(ss ...string) labels.Labels { return labels.FromStrings(ss...) }

var at = []string{"time", "600"}

func query(expr string, params ...string) string {
	return "/api/v1/query?" + values(append(append([]string{"query", expr}, at...), params...)...).Encode()
}

func queryRange(expr string, params ...string) string {
	return "/api/v1/query_range?" + values(append([]string{"query", expr, "start", "60", "end", "600", "step", "60"}, params...)...).Encode()
}

// paths are all endpoints, with what they need.
var paths = []string{
	query("up"), queryRange("up"), "/api/v1/series?match[]=up", "/api/v1/labels", "/api/v1/label/job/values",
	"/api/v1/query_exemplars?query=up", "/api/v1/rules", "/api/v1/alerts", "/api/v1/targets", "/api/v1/metadata",
	"/api/v1/stores", "/api/v1/status/tsdb", "/api/v1/status/flags", "/api/v1/status/runtimeinfo", "/api/v1/status/buildinfo",
}

func TestEveryPathAnswersToItsMethods(t *testing.T) {
	t.Parallel()
	s := newStack()
	s.Config.CORS = (&httpserver.WebConfig{}).CORS
	c := s.serve(t)
	for _, path := range append(paths, query("up", "engine", "thanos")) {
		r := c.get(path)
		r.ok(t)
		require.Equal(t, "*", r.Header.Get("Access-Control-Allow-Origin"), path)
		r = c.do(http.MethodOptions, path, "")
		require.Equal(t, http.StatusNoContent, r.Code, path)
		require.Empty(t, r.Body)
		require.Equal(t, "GET, POST, OPTIONS", r.Header.Get("Access-Control-Allow-Methods"))
		require.Equal(t, http.StatusMethodNotAllowed, c.do(http.MethodDelete, path, "").Code, path)
	}
	for path, body := range map[string]string{
		"/api/v1/query": "query=up", "/api/v1/query_range": "query=up&start=1&end=2&step=1", "/api/v1/series": "match[]=up",
		"/api/v1/labels": "match[]=up", "/api/v1/query_exemplars": "query=up",
		"/api/v1/query_explain": "query=up&engine=thanos", "/api/v1/query_range_explain": "query=up&engine=thanos&start=1&end=2&step=1",
	} {
		c.do(http.MethodPost, path, body).ok(t)
	}
	require.Equal(t, http.StatusMethodNotAllowed, c.do(http.MethodPost, "/api/v1/rules", "").Code)
	for _, path := range []string{"/", "/graph", "/api/v1/", "/api/v1/nope", "/api/v2/query", "/api/v1/label/values"} {
		r := c.get(path)
		require.Equal(t, http.StatusNotFound, r.Code, path)
		require.Equal(t, "404 page not found\n", r.Body)
	}
	require.Equal(t, http.StatusNoContent, c.do(http.MethodOptions, "/api/v1/nope", "").Code)
}

func TestAFailingStoreIsAWarningThatNamesItOrAnError(t *testing.T) {
	t.Parallel()
	broken := up(t, 1, ext("replica", "b"))
	broken.Err = errors.New("disk on fire")
	bad := fakepeer.StartStore(t, broken)
	c := newStack(fakepeer.StartStore(t, up(t, 2, ext("replica", "a"))), bad).serve(t)
	for _, path := range paths[:5] {
		r := c.get(path)
		require.NotEqual(t, "[]", r.ok(t), path)
		require.Len(t, r.Warnings, 1, path)
		require.Contains(t, r.Warnings[0], bad.Addr)
		require.Contains(t, r.Warnings[0], "disk on fire")
		require.Equal(t, "no-store", r.Header.Get("Cache-Control"), path)

		sep := "?"
		if strings.Contains(path, "?") {
			sep = "&"
		}
		r = c.get(path + sep + "partial_response=false")
		r.fails(t, http.StatusUnprocessableEntity, "execution", bad.Addr)
		require.Contains(t, r.Error, "disk on fire")
	}
	// Only the broken store is left out by its address.
	r := c.get(query("up", "storeMatch[]", `{__address__!="`+bad.Addr+`"}`))
	r.ok(t)
	require.Empty(t, r.Warnings)
	require.Empty(t, r.Header.Get("Cache-Control"))
}

func TestRemarksOfTheEngineDoNotForbidCaching(t *testing.T) {
	t.Parallel()
	c := newStack(fakepeer.StartStore(t, up(t, 1, ext()))).serve(t)
	r := c.get(query("rate(up[5m])"))
	r.ok(t)
	require.Len(t, r.Warnings, 1, "infos are shown as warnings")
	require.Contains(t, r.Warnings[0], "PromQL info")
	require.Empty(t, r.Infos)
	require.Empty(t, r.Header.Get("Cache-Control"))
}

// peer makes an endpoint of services.
func (s *services) peer(t testing.TB) endpoints.Endpoint {
	addr := fakepeer.Start(t, &fakepeer.Peer{Register: []func(grpc.ServiceRegistrar){s.register}})
	return endpoints.Endpoint{
		Addr: addr, Conn: fakepeer.Dial(t, addr), ComponentType: endpoints.ComponentSidecar,
		Exemplars: &endpoints.TimeRange{MinTime: -1 << 50, MaxTime: 1 << 50}, Rules: true, Targets: true, Metadata: true, Status: true,
	}
}

func TestAFailingPeerIsAWarningOrAnError(t *testing.T) {
	t.Parallel()
	s := &services{err: errors.New("no way")}
	peer := s.peer(t)
	c := newStack(peer).serve(t)
	for path, kind := range map[string]struct {
		code int
		typ  string
	}{
		"/api/v1/rules?":                    {500, "internal"},
		"/api/v1/alerts?":                   {500, "internal"},
		"/api/v1/targets?":                  {500, "internal"},
		"/api/v1/metadata?":                 {500, "internal"},
		"/api/v1/status/tsdb?":              {500, "internal"},
		"/api/v1/query_exemplars?query=up&": {422, "execution"},
	} {
		r := c.get(path)
		r.ok(t)
		require.Len(t, r.Warnings, 1, path)
		require.Contains(t, r.Warnings[0], peer.Addr)
		require.Contains(t, r.Warnings[0], "no way")
		require.Equal(t, "no-store", r.Header.Get("Cache-Control"), path)
		r = c.get(path + "partial_response=false")
		r.fails(t, kind.code, kind.typ, "no way")
		require.Contains(t, r.Error, peer.Addr)
		c.get(path+"partial_response=x").fails(t, 400, "bad_data", "'partial_response' parameter")
	}
}

func TestParametersReachThePeers(t *testing.T) {
	t.Parallel()
	s := &services{
		exemplars: []*thanos.ExemplarData{{
			SeriesLabels: wireSet(ext("__name__", "up")),
			Exemplars:    []*thanos.Exemplar{{Labels: wireLabels(ext("trace", "1")), Value: 0.25, Ts: 1500}},
		}},
		stats: map[string]*thanos.TSDBStatisticsEntry{
			"a": {HeadStatistics: &thanos.HeadStatistics{NumSeries: 1, MinTime: 5, MaxTime: 6}},
			"b": {HeadStatistics: &thanos.HeadStatistics{NumSeries: 2, MinTime: 4, MaxTime: 5}},
		},
	}
	c := newStack(s.peer(t)).serve(t)

	c.get("/api/v1/rules", "type", "record", "match[]", `{a="b"}`, "match[]", `{c="d"}`, "rule_name[]", "n", "rule_group[]", "g", "file[]", "f").ok(t)
	require.Equal(t, thanos.RulesRequest_RECORD, s.rulesReq.Type)
	require.Equal(t, []string{`{a="b"}`, `{c="d"}`}, s.rulesReq.MatcherString)
	require.Equal(t, []string{"n"}, s.rulesReq.RuleName)
	require.Equal(t, []string{"g"}, s.rulesReq.RuleGroup)
	require.Equal(t, []string{"f"}, s.rulesReq.File)
	require.Equal(t, thanos.PartialResponseStrategy_WARN, s.rulesReq.PartialResponseStrategy)
	c.get("/api/v1/rules", "type", "x").fails(t, 400, "bad_data", `"x"`)
	c.get("/api/v1/rules", "match[]", "{").fails(t, 400, "bad_data", "parse error")

	c.get("/api/v1/alerts", "type", "record", "match[]", "{").ok(t)
	require.Equal(t, thanos.RulesRequest_ALERT, s.rulesReq.Type)

	c.get("/api/v1/targets", "state", "dropped").ok(t)
	require.Equal(t, thanos.TargetsRequest_DROPPED, s.targetsReq.State)
	c.get("/api/v1/targets", "state", "x").fails(t, 400, "bad_data", `"x"`)

	c.get("/api/v1/metadata", "metric", "up", "limit", "7").ok(t)
	require.Equal(t, "up", s.metadataReq.Metric)
	require.EqualValues(t, 7, s.metadataReq.Limit)
	c.get("/api/v1/metadata").ok(t)
	require.EqualValues(t, -1, s.metadataReq.Limit)

	r := c.get("/api/v1/query_exemplars", "query", "rate(up[5m])", "start", "1", "end", "2.5")
	require.JSONEq(t, `[{"seriesLabels":{"__name__":"up"},"exemplars":[{"labels":{"trace":"1"},"value":"0.25","timestamp":1.500}]}]`, r.ok(t))
	require.EqualValues(t, 1000, s.exemplarsReq.Start)
	require.EqualValues(t, 2500, s.exemplarsReq.End)
	c.get("/api/v1/query_exemplars", "query", "sum((").fails(t, 400, "bad_data", "1:6: parse error: unclosed left parenthesis")
	c.get("/api/v1/query_exemplars").fails(t, 400, "bad_data", "no expression found")

	r = c.get("/api/v1/status/tsdb", "limit", "3", "match[]", `{cluster="eu"}`)
	require.Contains(t, r.ok(t), `"headStats":{"numSeries":3,"numLabelPairs":0,"chunkCount":0,"minTime":4,"maxTime":6}`)
	require.EqualValues(t, 3, s.statsReq.Limit)
	require.Len(t, s.statsReq.Matchers, 1)
	c.get("/api/v1/status/tsdb", "match[]", "a", "match[]", "b").fails(t, 400, "bad_data", "only one selector")
	c.get("/api/v1/status/tsdb", "limit", "0").fails(t, 400, "bad_data", "'limit' parameter")
}

func TestMetadataCallsLookBackAsFarAsConfigured(t *testing.T) {
	t.Parallel()
	requests := make(chan *thanos.SeriesRequest, 1)
	a := up(t, 3, ext())
	a.Requests = requests
	s := newStack(fakepeer.StartStore(t, a))
	s.Config.Defaults.MetadataRange = time.Minute
	now := time.UnixMilli(600_000)
	s.Deps.Now = func() time.Time { return now }
	c := s.serve(t)
	c.get("/api/v1/series", "match[]", "up").ok(t)
	req := <-requests
	require.EqualValues(t, 540_000, req.MinTime)
	require.EqualValues(t, 600_000, req.MaxTime)
	require.True(t, req.SkipChunks)
	c.get("/api/v1/series", "match[]", "up", "start", "1", "limit", "2").ok(t)
	req = <-requests
	require.EqualValues(t, 1000, req.MinTime)
	require.EqualValues(t, 3, req.Limit, "one more, to see whether there is more")
	r := c.get("/api/v1/series", "match[]", "up", "limit", "2")
	require.Equal(t, []string{"results truncated due to limit"}, r.Warnings)
	now = time.UnixMilli(86_400_000)
	require.Equal(t, "[]", c.get("/api/v1/series", "match[]", "up").ok(t))
	require.Equal(t, "[]", c.get("/api/v1/labels").ok(t))
	require.Equal(t, "[]", c.get("/api/v1/label/job/values").ok(t))
}

func TestAnswersAreCompressedIfAccepted(t *testing.T) {
	t.Parallel()
	c := newStack(fakepeer.StartStore(t, up(t, 20, ext()))).serve(t)
	r := c.with("Accept-Encoding", "gzip").get(queryRange("up"))
	r.ok(t)
	require.Equal(t, "gzip", r.Header.Get("Content-Encoding"))
	require.Empty(t, c.with("Accept-Encoding", "identity").get(queryRange("up")).Header.Get("Content-Encoding"))
}

// value adds up the samples of a metric, or of the counts of a histogram, that have the labels.
func value(t testing.TB, reg *prometheus.Registry, name string, lset ...string) float64 {
	t.Helper()
	families, err := reg.Gather()
	require.NoError(t, err)
	sum := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
	next:
		for _, m := range f.GetMetric() {
			have := map[string]string{}
			for _, l := range m.GetLabel() {
				have[l.GetName()] = l.GetValue()
			}
			for i := 0; i < len(lset); i += 2 {
				if have[lset[i]] != lset[i+1] {
					continue next
				}
			}
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return sum
}

func TestRequestsAndQueriesAreCounted(t *testing.T) {
	t.Parallel()
	s := newStack(fakepeer.StartStore(t, up(t, 12, ext())))
	c := s.serve(t)
	require.Equal(t, 9, int(count(t, s.Reg, "thanos_store_api_query_duration_seconds")), "all classes of the default tenant from the start")
	for path, name := range map[string]string{
		query("up"): "query", queryRange("up"): "query_range",
		"/api/v1/query_explain?query=up&engine=thanos": "query",
		"/api/v1/series?match[]=up":                    "series", "/api/v1/labels": "label_names", "/api/v1/label/job/values": "label_values",
		"/api/v1/query_exemplars?query=up": "exemplars", "/api/v1/rules": "rules", "/api/v1/alerts": "alerts",
		"/api/v1/targets": "targets", "/api/v1/metadata": "metadata", "/api/v1/stores": "stores",
		"/api/v1/status/tsdb": "status_tsdb", "/api/v1/status/flags": "status_flags",
		"/api/v1/status/runtimeinfo": "status_runtime", "/api/v1/status/buildinfo": "status_build",
	} {
		before := value(t, s.Reg, "http_requests_total", "handler", name, "tenant", "team", "code", "200", "method", "get")
		c.with("THANOS-TENANT", "team").get(path).ok(t)
		require.InDelta(t, before+1, value(t, s.Reg, "http_requests_total", "handler", name, "tenant", "team", "code", "200", "method", "get"), 0, path)
	}
	c.do(http.MethodOptions, "/api/v1/query", "")
	require.InDelta(t, 1, value(t, s.Reg, "http_requests_total", "handler", "options", "code", "204"), 0)
	// One instant and one range query with 12 series in one chunk each.
	require.InDelta(t, 2, value(t, s.Reg, "thanos_store_api_query_duration_seconds", "tenant", "team", "series_le", "100", "samples_le", "+Inf"), 0)
	require.InDelta(t, 2, value(t, s.Reg, "thanos_store_api_query_duration_seconds"), 0)
	require.InDelta(t, 1, value(t, s.Reg, "thanos_query_range_requested_timespan_duration_seconds"), 0)
}

func count(t testing.TB, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	n, err := testutil.GatherAndCount(reg, name)
	require.NoError(t, err)
	return float64(n)
}

func TestFlagsAreShownAsGiven(t *testing.T) {
	t.Parallel()
	s := newStack()
	s.Config.Flags = map[string]string{"query.timeout": "2m", "objstore.config": "<redacted>"}
	require.JSONEq(t, `{"query.timeout":"2m","objstore.config":"<redacted>"}`, s.serve(t).get("/api/v1/status/flags").ok(t))
	require.JSONEq(t, `{}`, newStack().serve(t).get("/api/v1/status/flags").ok(t))
}

func TestStoresThatCannotBeAskedAreListedWithTheirErrorAndKind(t *testing.T) {
	t.Parallel()
	s := newStack(
		endpoints.Endpoint{Addr: "b:1", ComponentType: "store", Err: errors.New("refused"), LastCheck: time.Unix(1, 0).UTC(), Strict: true, Group: true},
		endpoints.Endpoint{Addr: "c:1", ComponentType: "store", Store: &endpoints.StoreInfo{TimeRange: endpoints.TimeRange{MinTime: 1, MaxTime: 2}}, LastCheck: time.Unix(2, 0).UTC()},
	)
	require.JSONEq(t, `{"store":[
		{"name":"b:1","lastCheck":"1970-01-01T00:00:01Z","lastError":"refused","labelSets":[],"minTime":0,"maxTime":0,"group":true,"strict":true},
		{"name":"c:1","lastCheck":"1970-01-01T00:00:02Z","lastError":null,"labelSets":[],"minTime":1,"maxTime":2}
	]}`, s.serve(t).get("/api/v1/stores").ok(t))
}

func TestAConfigurationThatCannotBeEnforcedIsRefused(t *testing.T) {
	t.Parallel()
	s := newStack()
	s.Config.Tenancy.Enforce, s.Config.Tenancy.Label = true, ""
	_, err := httpapi.New(s.Config, s.Deps)
	require.ErrorContains(t, err, "tenant label")
	s.Config.Tenancy.Label = "tenant_id"
	s.Config.Tenancy.Source.Default = "a/b"
	_, err = httpapi.New(s.Config, s.Deps)
	require.ErrorContains(t, err, "default tenant")
}
