package httpapi_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/service/requestctx"
	"github.com/promontory-io/promontory/libs/tenancy"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/services/querier/internal/deny"
	"github.com/promontory-io/promontory/services/querier/internal/fakepeer"
	"github.com/promontory-io/promontory/services/querier/internal/grpcapi"
)

// whose is an engine that remembers for whom and what it was asked.
type whose struct {
	tenant, text string
}

func (w *whose) NewQuery(ctx context.Context, _ storage.Queryable, spec grpcapi.QuerySpec) (promql.Query, error) {
	w.tenant, w.text = requestctx.TenantOrDefault(ctx), spec.Text
	return failedQuery{err: context.Canceled}, nil
}

func TestTheTenantIsThatOfTheHeader(t *testing.T) {
	t.Parallel()
	w := &whose{}
	s := newStack()
	s.Deps.Engine = w
	s.Config.Tenancy.Source = tenancy.Source{Header: "X-Team", Default: "nobody"}
	c := s.serve(t)
	ask := func(c *client) string {
		c.get(query("up"))
		return w.tenant
	}
	require.Equal(t, "nobody", ask(c))
	require.Equal(t, "a", ask(c.with("X-Team", "a")))
	require.Equal(t, "b", ask(c.with("THANOS-TENANT", "b")), "the header between our own processes is always known")
	require.Equal(t, "a", ask(c.with("THANOS-TENANT", "b").with("X-Team", "a")))
	for _, bad := range []string{"..", "a/b", "."} {
		c.with("X-Team", bad).get(query("up")).fails(t, 400, "bad_data", "invalid tenant")
	}
	require.InDelta(t, 3, value(t, s.Reg, "http_requests_total", "code", "400", "tenant", "nobody"), 0, "what is refused makes no tenant")
	require.Equal(t, "up", w.text, "nothing is enforced")
}

func TestTheTenantIsThatOfTheCertificate(t *testing.T) {
	t.Parallel()
	w := &whose{}
	s := newStack()
	s.Deps.Engine = w
	s.Config.Tenancy.Source.Field = tenancy.CommonName
	api := s.api(t)
	ask := func(state *tls.ConnectionState) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodGet, query("up"), nil)
		r.Header.Set("THANOS-TENANT", "liar")
		r.TLS = state
		out := httptest.NewRecorder()
		api.ServeHTTP(out, r)
		return out
	}
	require.Equal(t, http.StatusBadRequest, ask(nil).Code)
	ask(&tls.ConnectionState{PeerCertificates: []*x509.Certificate{{Subject: pkix.Name{CommonName: "honest"}}}})
	require.Equal(t, "honest", w.tenant)
}

func TestWithEnforcementATenantSeesItsOwnOnly(t *testing.T) {
	t.Parallel()
	a, b := up(t, 1, ext("tenant_id", "a")), up(t, 2, ext("tenant_id", "b"))
	entry := func(n uint64) *thanos.TSDBStatisticsEntry {
		return &thanos.TSDBStatisticsEntry{HeadStatistics: &thanos.HeadStatistics{NumSeries: n}}
	}
	svc := &services{
		discovery: &thanos.TargetDiscovery{
			ActiveTargets: []*thanos.ActiveTarget{
				{Labels: wireLabels(ext("tenant_id", "a")), ScrapePool: "mine"},
				{Labels: wireLabels(ext("tenant_id", "b")), ScrapePool: "theirs"},
				{Labels: wireLabels(ext("job", "x")), ScrapePool: "nobodys"},
			},
			DroppedTargets: []*thanos.DroppedTarget{
				{DiscoveredLabels: wireLabels(ext("tenant_id", "a", "dropped", "mine"))},
				{DiscoveredLabels: wireLabels(ext("tenant_id", "b", "dropped", "theirs"))},
			},
		},
		metas: map[string]*thanos.MetricMetadataEntry{
			"up": {Metas: []*thanos.Meta{{Type: "gauge", Help: "mine"}}}, "secret": {Metas: []*thanos.Meta{{Type: "gauge", Help: "theirs"}}},
		},
		stats: map[string]*thanos.TSDBStatisticsEntry{"a": entry(1), "b": entry(2), "": entry(4)},
	}
	s := newStack(fakepeer.StartStore(t, a), fakepeer.StartStore(t, b), svc.peer(t))
	s.Config.Tenancy.Enforce = true
	c := s.serve(t).with("THANOS-TENANT", "a")

	for _, name := range []string{"prometheus", "thanos"} {
		for expr, want := range map[string]string{
			`count(up)`:                       `"1"`,
			`count(up{tenant_id=~"a|b"})`:     `"1"`,
			`count(max_over_time(up[5m:1m]))`: `"1"`,
			`count(up) + count(up offset 1m)`: `"2"`,
		} {
			require.Contains(t, c.get(query(expr, "engine", name)).ok(t), want, expr)
			c.get(queryRange(expr, "engine", name)).ok(t)
		}
		require.Contains(t, c.get(query(`up{tenant_id="b"}`, "engine", name)).ok(t), `"result":[]`, "theirs and mine is nothing")
	}
	c.get(query("info(up)")).fails(t, 400, "bad_data", "cannot be restricted to a tenant")
	c.get(query("sum((")).fails(t, 400, "bad_data", "1:6: parse error: unclosed left parenthesis")

	require.JSONEq(t, `[{"__name__":"up","instance":"a","job":"x","tenant_id":"a"}]`, c.get("/api/v1/series", "match[]", "up").ok(t))
	require.JSONEq(t, `[]`, c.get("/api/v1/series", "match[]", `up{tenant_id="b"}`).ok(t))
	require.JSONEq(t, `["a"]`, c.get("/api/v1/label/tenant_id/values").ok(t))
	require.JSONEq(t, `["a"]`, c.get("/api/v1/label/instance/values", "match[]", "up", "match[]", `up{tenant_id="b"}`).ok(t))
	require.JSONEq(t, `["__name__","instance","job","tenant_id"]`, c.get("/api/v1/labels").ok(t))

	c.get("/api/v1/query_exemplars", "query", "rate(up[5m])").ok(t)
	require.Equal(t, `{tenant_id="a", __name__="up"}`, svc.exemplarsReq.Query)
	c.get("/api/v1/rules").ok(t)
	require.Equal(t, []string{`{tenant_id="a"}`}, svc.rulesReq.MatcherString)
	c.get("/api/v1/rules", "match[]", `{team="x"}`).ok(t)
	require.Equal(t, []string{`{team="x",tenant_id="a"}`}, svc.rulesReq.MatcherString)
	c.get("/api/v1/alerts").ok(t)
	require.Equal(t, []string{`{tenant_id="a"}`}, svc.rulesReq.MatcherString)

	targets := c.get("/api/v1/targets").ok(t)
	require.Contains(t, targets, "mine")
	require.NotContains(t, targets, "theirs")
	require.NotContains(t, targets, "nobodys")

	require.JSONEq(t, `{"up":[{"type":"gauge","help":"mine","unit":""}]}`, c.get("/api/v1/metadata").ok(t))

	status := c.get("/api/v1/status/tsdb").ok(t)
	require.Contains(t, status, `"numSeries":1,`)
	require.Equal(t, "tenant_id", svc.statsReq.Matchers[0].Name)
	require.Contains(t, c.with("THANOS-TENANT", "z").get("/api/v1/status/tsdb").ok(t), `"numSeries":0,`)
}

func TestEnforcementKnowsTheFunctionsOfBothEngines(t *testing.T) {
	t.Parallel()
	s := newStack(fakepeer.StartStore(t, up(t, 1, ext("tenant_id", "a"))), fakepeer.StartStore(t, up(t, 2, ext("tenant_id", "b"))))
	s.Config.Tenancy.Enforce, s.Engine.XFunctions = true, true
	c := s.serve(t).with("THANOS-TENANT", "b")
	require.Contains(t, c.get(query("count(xrate(up[5m]))", "engine", "thanos")).ok(t), `"2"`)
	c.get(query("xrate(up[5m])")).fails(t, 400, "bad_data", `unknown function with name "xrate"`)
}

func TestDeniedSelectorsAreRefusedOnEveryPath(t *testing.T) {
	t.Parallel()
	s := newStack(fakepeer.StartStore(t, up(t, 1, ext("tenant_id", "a"))))
	var err error
	s.Config.Deny, err = deny.Parse([]string{`{__name__=~"debug_.*"}`})
	require.NoError(t, err)
	c := s.serve(t)
	const rule = `denied here by the rule {__name__=~"debug_.*"}`
	for _, engine := range []string{"prometheus", "thanos"} {
		c.get(query("up or max_over_time(sum(debug_x)[5m:])", "engine", engine)).fails(t, 400, "bad_data", rule)
		c.get(queryRange("rate(debug_x[5m])", "engine", engine)).fails(t, 400, "bad_data", rule)
		c.get(query("up", "engine", engine)).ok(t)
	}
	c.get("/api/v1/series", "match[]", "up", "match[]", "debug_x").fails(t, 400, "bad_data", rule)
	c.get("/api/v1/labels", "match[]", "debug_x").fails(t, 400, "bad_data", rule)
	c.get("/api/v1/label/job/values", "match[]", "debug_x").fails(t, 400, "bad_data", rule)
	c.get("/api/v1/query_exemplars", "query", "debug_x").fails(t, 400, "bad_data", rule)
	c.get("/api/v1/query_explain", "query", "debug_x", "engine", "thanos").fails(t, 400, "bad_data", rule)
}
