package app

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/service"
	"github.com/promontory-io/promontory/libs/service/flags"
)

const inMemory = "type: IN-MEMORY\nconfig: {max_size: 10MB}"

func TestAFrontendInTheQuerierAnswersAsWithout(t *testing.T) {
	addr, _ := store(t, "a", 1)
	endpoint := flags.InlineContent("endpoint.sd-config", "endpoints:\n  - address: "+addr+"\n")
	plain := start(t, func(c *Config) { c.Endpoints.SDConfig = endpoint })
	fronted := start(t, func(c *Config) {
		c.Endpoints.SDConfig = endpoint
		c.Frontend.Enabled, c.Frontend.SplitInterval, c.Frontend.VerticalShards = true, 10*time.Second, 2
		c.Frontend.RangeCache = flags.InlineContent("query-range.response-cache-config", inMemory)
		c.Frontend.LabelsCache = flags.InlineContent("labels.response-cache-config", inMemory)
	})
	for _, path := range []string{
		"/api/v1/query_range?query=up&start=0&end=100&step=5", "/api/v1/query_range?query=up&start=0&end=100&step=5",
		"/api/v1/query?query=sum+by+(replica)+(up)&time=10", "/api/v1/query?query=sum((",
		"/api/v1/labels?start=0&end=20", "/api/v1/series?match[]=up&start=0&end=20", "/api/v1/label/replica/values?start=0&end=20",
		"/api/v1/status/buildinfo", "/api/v1/rules", "/api/v1/nothing",
	} {
		wantCode, want := plain.get(t, path)
		gotCode, got := fronted.get(t, path)
		require.Equal(t, wantCode, gotCode, path)
		if strings.HasPrefix(want, "{") {
			require.JSONEq(t, want, got, path)
		}
	}
	_, metrics := fronted.get(t, "/metrics")
	require.Contains(t, metrics, `thanos_query_frontend_queries_total{op="query_range"} 2`)
	require.Contains(t, metrics, `http_requests_total{code="200",handler="query-frontend",method="get",tenant="default-tenant"}`)
	require.Contains(t, metrics, `cortex_cache_hits_total{name="query-range"}`)
	require.Contains(t, metrics, `querier_cache_entries{cache="query-range"}`)
}

// startFrontend runs a frontend alone before the server at url. It does not wait until it is ready.
func startFrontend(t *testing.T, url string, change func(*Config)) running {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Role, cfg.Frontend.DownstreamURL = RoleFrontend, url
	cfg.Common.HTTP.Address, cfg.Common.Component, cfg.Common.WithoutGRPC = "127.0.0.1:0", componentFrontend, true
	change(&cfg)
	require.NoError(t, cfg.Validate())
	p, err := service.NewProcess(cfg.Common, io.Discard)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- RunFrontend(ctx, cfg, p) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
		require.NoError(t, p.Close())
		http.DefaultClient.CloseIdleConnections()
	})
	return running{base: "http://" + p.HTTP.Addr().String(), process: p}
}

func TestAFrontendAloneIsReadyWithItsQuerierAndPassesAllElseOn(t *testing.T) {
	var up atomic.Bool
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/-/ready" && !up.Load():
			w.WriteHeader(http.StatusServiceUnavailable)
		case r.URL.Path == "/api/v1/query":
			_ = r.ParseForm()
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"status":"success","data":"`+r.Form.Get("partial_response")+r.Header.Get("THANOS-TENANT")+r.Header.Get("X-Extra")+`"}`)
		default:
			_, _ = io.WriteString(w, r.URL.Path+" of "+r.Header.Get("THANOS-TENANT"))
		}
	}))
	defer srv.Close()
	f := startFrontend(t, srv.URL, func(c *Config) {
		c.Frontend.ForwardHeaders = []string{"x-extra"}
		c.Frontend.DownstreamConfig = flags.InlineContent("query-frontend.downstream-tripper-config", "max_idle_conns_per_host: 7\nidle_conn_timeout: 1m\n")
		c.Frontend.RangePartialResponse = false
	})
	code, _ := f.get(t, "/-/ready")
	require.NotEqual(t, http.StatusOK, code)
	up.Store(true)
	require.Eventually(t, func() bool {
		code, _ := f.get(t, "/-/ready")
		return code == http.StatusOK
	}, 10*time.Second, 10*time.Millisecond)
	code, body := f.get(t, "/anything/else")
	require.Equal(t, http.StatusOK, code)
	require.Equal(t, "/anything/else of default-tenant", body)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, f.base+"/api/v1/query?query=up", nil)
	require.NoError(t, err)
	r.Header.Set("X-Extra", "+x")
	r.Header.Set("THANOS-TENANT", "team")
	resp, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.JSONEq(t, `{"status":"success","data":"falseteam+x"}`, string(text))
	_, metrics := f.get(t, "/metrics")
	require.Contains(t, metrics, `thanos_status{check="ready",component="query-frontend"} 1`)
	srv.Close()
	code, body = f.get(t, "/api/v1/labels?start=0&end=10")
	require.Equal(t, http.StatusBadGateway, code)
	require.Contains(t, body, strings.TrimPrefix(srv.URL, "http://"))
}

func TestBadSettingsOfTheFrontendAreNamed(t *testing.T) {
	t.Parallel()
	cache := filepath.Join(t.TempDir(), "cache.yml")
	require.NoError(t, os.WriteFile(cache, []byte("type: IN-MEMORY\nconfig:\n  max_sise: 1\n"), 0o600))
	for name, tc := range map[string]struct{ args, want []string }{
		"mode":           {[]string{"--mode=magic"}, []string{"--mode", "magic"}},
		"address":        {[]string{"--mode=frontend", "--downstream-url=localhost:9090"}, []string{"--query-frontend.downstream-url", "localhost:9090"}},
		"by word":        {[]string{"query-frontend", "--query-frontend.downstream-url=ftp://x"}, []string{"--query-frontend.downstream-url", "ftp://x"}},
		"both ways":      {[]string{"--query-range.min-split-interval=1h"}, []string{"--query-range.split-interval=24h0m0s", "--query-range.min-split-interval"}},
		"half a dynamic": {[]string{"--query-range.split-interval=0", "--query-range.horizontal-shards=4"}, []string{"--query-range.max-split-interval"}},
		"negative":       {[]string{"--query-frontend.vertical-shards=-1"}, []string{"--query-frontend.vertical-shards", "-1"}},
		"parallelism":    {[]string{"--labels.max-query-parallelism=0"}, []string{"--labels.max-query-parallelism"}},
		"compression":    {[]string{"--cache-compression-type=gzip"}, []string{"--cache-compression-type", "gzip"}},
		"cache":          {[]string{"--query-frontend.enabled", "--query-range.response-cache-config-file=" + cache}, []string{cache + ":3", "max_sise"}},
		"cache alone":    {[]string{"query-frontend", "--labels.response-cache-config=type: MAGIC"}, []string{"--labels.response-cache-config", "MAGIC"}},
		"tripper":        {[]string{"query-frontend", "--query-frontend.downstream-tripper-config=x: 1"}, []string{"--query-frontend.downstream-tripper-config:1", `"x"`}},
		"tenant":         {[]string{"query-frontend", "--query-frontend.default-tenant-id=a/b"}, []string{"--query-frontend.default-tenant-id", "a/b"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := NewCommand()
			cmd.SetOut(io.Discard)
			cmd.SetArgs(append(tc.args, "--log.level=error", "--http-address=127.0.0.1:0", "--grpc-address=127.0.0.1:0"))
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			err := cmd.ExecuteContext(ctx)
			require.Error(t, err)
			for _, w := range tc.want {
				require.Contains(t, err.Error(), w)
			}
		})
	}
}
