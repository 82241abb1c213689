package frontend

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/promontory-io/promontory/libs/promapi/promtypes"
)

func TestSlowQueriesAreLoggedWithWhatExplainsThem(t *testing.T) {
	t.Parallel()
	for limit, logged := range map[time.Duration]bool{0: false, -1: true, time.Hour: false} {
		h := newHouse(t).cached()
		core, logs := observer.New(zap.InfoLevel)
		h.cfg.SlowerThan, h.cfg.ForceStats, h.deps.Logger = limit, true, zap.New(core)
		h.build()
		h.up.fault(func(w http.ResponseWriter, r *http.Request) bool {
			require.Equal(t, "true", r.URL.Query().Get("stats"))
			fmt.Fprint(w, `{"status":"success","data":{"resultType":"matrix","result":[],"stats":{"timings":{"execTotalTime":0.5},"samples":{"totalQueryableSamples":10,"peakSamples":4}}}}`)
			return true
		})
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/api/v1/query_range?query=requests_total&start=0&end=7200&step=60", nil)
		for name, v := range map[string]string{"X-Dashboard-Uid": "d", "X-Panel-Id": "p", "THANOS-TENANT": "team"} {
			r.Header.Set(name, v)
		}
		r.SetBasicAuth("me", "secret")
		w := httptest.NewRecorder()
		h.fe.ServeHTTP(w, r)
		require.NotContains(t, w.Body.String(), "stats", "the client has not asked for them")
		require.Contains(t, w.Header().Get("Server-Timing"), "querier_wall_time;dur=2500.000, response_time;dur=")
		if !logged {
			require.Zero(t, logs.Len())
			continue
		}
		fields := logs.FilterMessage("slow query").All()[0].ContextMap()
		for name, want := range map[string]any{
			"method": "GET", "path": "/api/v1/query_range", "remote_user": "me", "tenant": "team", "grafana_dashboard_uid": "d",
			"grafana_panel_id": "p", "param_query": "requests_total", "param_step": "60", "query_range_hours": int64(2),
			"query_range_human": "2h0m0s", "peak_samples": int64(4), "total_samples_loaded": int64(50), "status": int64(200),
			"parts": int64(5), "cached_parts": int64(0),
		} {
			require.Equal(t, want, fields[name], name)
		}
		require.NotContains(t, fmt.Sprint(fields), "secret")
	}
}

func TestSlowQueriesAreLoggedWithTheReceiptsOfTheirParts(t *testing.T) {
	t.Parallel()
	bill := func(coverage string) string {
		missing := ""
		if coverage != promtypes.CoverageComplete {
			missing = `{"address":"a:1","component":"store","labels":{"replica":"a"},"minTime":0,"maxTime":10,"reason":"gone","covered":false}`
		}
		return `{"version":1,"coverage":"` + coverage + `","total":{"series":2},"stores":[{"address":"a:1","state":"answered","series":2,"requests":1}],"missing":[` + missing + `]}`
	}
	data := `{"status":"success","data":{"resultType":"matrix","result":[]}`
	slow := func() (*house, *observer.ObservedLogs) {
		h := newHouse(t).cached()
		core, logs := observer.New(zap.InfoLevel)
		h.cfg.SlowerThan, h.deps.Logger = -1, zap.New(core)
		return h.build(), logs
	}
	last := func(logs *observer.ObservedLogs) map[string]any {
		all := logs.FilterMessage("slow query").All()
		return all[len(all)-1].ContextMap()
	}
	h, logs := slow()
	h.up.fault(func(w http.ResponseWriter, r *http.Request) bool {
		require.Equal(t, "true", r.URL.Query().Get("receipt"))
		if r.URL.Query().Get("start") == "1800" {
			w.Header().Set("Cache-Control", "no-store")
			fmt.Fprint(w, data+`,"receipt":`+bill(promtypes.CoverageIncomplete)+"}")
			return true
		}
		fmt.Fprint(w, data+`,"receipt":`+bill(promtypes.CoverageComplete)+"}")
		return true
	})
	w := ask(t, h.fe, "query_range", hour()...)
	require.NotContains(t, w.Body.String(), "receipt", "the client has not asked for it")
	fields := last(logs)
	for name, want := range map[string]any{
		"query": "requests_total", "start": "0", "end": "3600", "step": "60", "tenant": "default-tenant", "coverage": promtypes.CoverageIncomplete,
	} {
		require.Equal(t, want, fields[name], name)
	}
	require.Contains(t, fields, "took")
	sum := fields["receipt"].(*promtypes.Receipt)
	require.EqualValues(t, 6, sum.Total.Series)
	require.Equal(t, 3, sum.Stores[0].Requests)
	require.Len(t, sum.Missing, 1)

	// Two of three parts come from the cache now, all of them at the third time.
	ask(t, h.fe, "query_range", hour()...)
	require.Equal(t, promtypes.CoverageIncomplete, last(logs)["coverage"])
	require.EqualValues(t, 2, last(logs)["cached_parts"])
	h.up.fault(func(w http.ResponseWriter, _ *http.Request) bool {
		fmt.Fprint(w, data+"}")
		return true
	})
	ask(t, h.fe, "query_range", hour()...)
	require.NotContains(t, last(logs), "coverage", "the querier knows of no receipts")
	ask(t, h.fe, "query_range", hour()...)
	require.Equal(t, promtypes.CoverageComplete, last(logs)["coverage"])
	require.NotContains(t, last(logs), "receipt")

	// Whoever asks gets it, and failures have one.
	h.up.fault(func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusUnprocessableEntity)
		fmt.Fprint(w, `{"status":"error","errorType":"execution","error":"store a:1 is gone","receipt":`+bill(promtypes.CoverageIncomplete)+"}")
		return true
	})
	w = ask(t, h.fe, "query", "query", "up", "receipt", "true")
	require.Contains(t, w.Body.String(), `"receipt":{"version":1`)
	w = ask(t, h.fe, "query", "query", "up")
	require.JSONEq(t, `{"status":"error","errorType":"execution","error":"store a:1 is gone"}`, w.Body.String())
	fields = last(logs)
	require.Equal(t, "store a:1 is gone", fields["error"])
	require.Equal(t, promtypes.CoverageIncomplete, fields["coverage"])
	w = ask(t, h.fe, "series", "start", "0", "end", "10", "match[]", "up", "match[]", "down", "receipt", "perhaps")
	require.Equal(t, http.StatusUnprocessableEntity, w.Code)
	require.Equal(t, "up, down", last(logs)["query"])
	ask(t, h.fe, "query_range", "query", "up", "start", "x")
	require.Contains(t, last(logs)["error"], "'start'")

	// Who asks is named by the header that says so.
	h.cfg.UserHeader = "X-User"
	h.build()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/api/v1/query?query=up", nil)
	r.Header.Set("X-User", "grafana")
	r.SetBasicAuth("proxy", "secret")
	h.fe.ServeHTTP(httptest.NewRecorder(), r)
	require.Equal(t, "grafana", last(logs)["remote_user"])

	// Without the log nobody is asked for a receipt.
	h = newHouse(t).build()
	ask(t, h.fe, "query_range", hour()...)
	require.Empty(t, h.up.taken()[0].URL.Query().Get("receipt"))
}
