package httpserver

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/crypto/bcrypt"

	"github.com/promontory-io/promontory/libs/service/flags"
	"github.com/promontory-io/promontory/libs/service/internal/testcert"
	"github.com/promontory-io/promontory/libs/service/lifecycle"
	"github.com/promontory-io/promontory/libs/service/logging"
	"github.com/promontory-io/promontory/libs/service/requestctx"
	"github.com/promontory-io/promontory/libs/service/requestlog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func loopback() Config {
	cfg := DefaultConfig()
	cfg.Address = "127.0.0.1:0"
	return cfg
}

// serve runs a server until the test ends and returns its base URL without scheme.
func serve(t *testing.T, s *Server) string {
	t.Helper()
	require.NoError(t, s.Listen())
	done := make(chan error, 1)
	go func() { done <- s.Serve(context.Background()) }()
	t.Cleanup(func() {
		require.NoError(t, s.Shutdown(context.Background()))
		require.NoError(t, <-done)
	})
	return s.Addr().String()
}

// client does not keep connections, which would outlive the test.
func client(t *testing.T) *http.Client {
	tr := &http.Transport{DisableKeepAlives: true, DisableCompression: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func get(t *testing.T, c *http.Client, url string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp, string(body)
}

func TestProbesFollowTheStatus(t *testing.T) {
	t.Parallel()
	status := lifecycle.NewStatus("query", nil)
	base := "http://" + serve(t, New(loopback(), Options{Logger: zap.NewNop(), Status: status}))
	check := func(path string, code int, body string) {
		t.Helper()
		resp, got := get(t, client(t), base+path)
		require.Equal(t, code, resp.StatusCode)
		require.Equal(t, body, got)
		require.Equal(t, "text/plain; charset=utf-8", resp.Header.Get("Content-Type"))
	}
	check("/-/healthy", 503, "NOT OK")
	check("/-/ready", 503, "NOT OK")
	status.SetHealthy(true)
	check("/-/healthy", 200, "OK")
	check("/-/ready", 503, "NOT OK")
	status.SetReady(true)
	check("/-/ready", 200, "OK")
}

func TestMetricsAreNegotiatedAndProfilesAreThere(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	base := "http://" + serve(t, New(loopback(), Options{Logger: zap.NewNop(), Gatherer: reg, Registerer: reg}))
	resp, body := get(t, client(t), base+"/metrics")
	require.Contains(t, resp.Header.Get("Content-Type"), "text/plain")
	require.Contains(t, body, "promhttp_metric_handler_errors_total")
	resp, body = get(t, client(t), base+"/metrics", "Accept", "application/openmetrics-text; version=1.0.0")
	require.Contains(t, resp.Header.Get("Content-Type"), "application/openmetrics-text")
	require.True(t, strings.HasSuffix(body, "# EOF\n"))
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/goroutine?debug=1", "/debug/pprof/symbol", "/debug/pprof/trace?seconds=0.01", "/debug/fgprof?seconds=1"} {
		resp, _ = get(t, client(t), base+path)
		require.Equal(t, 200, resp.StatusCode, path)
	}
	resp, body = get(t, client(t), base+"/nope")
	require.Equal(t, 404, resp.StatusCode)
	require.Equal(t, "404 page not found\n", body)
}

func TestATakenPortIsNamedWithItsFlag(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	cfg := DefaultConfig()
	cfg.Address = l.Addr().String()
	err = New(cfg, Options{Logger: zap.NewNop()}).Listen()
	require.ErrorContains(t, err, "--http-address="+l.Addr().String()+": ")
	require.ErrorContains(t, err, "address already in use")
	err = New(cfg, Options{Logger: zap.NewNop(), AddressFlag: "remote-write.address"}).Listen()
	require.ErrorContains(t, err, "--remote-write.address=")
}

func TestTheListeningAddressIsLogged(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	l, err := logging.New(logging.DefaultConfig(), &out)
	require.NoError(t, err)
	s := New(loopback(), Options{Logger: l})
	require.Nil(t, s.Addr())
	require.NoError(t, s.Listen())
	require.Contains(t, out.String(), "level=info logger=http msg=listening address="+s.Addr().String()+" web_config=false")
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
}

func TestALogThatOnlyTakesErrorsIsNotComplainedAbout(t *testing.T) {
	t.Parallel()
	cfg := logging.DefaultConfig()
	cfg.Level = "error"
	var out bytes.Buffer
	l, err := logging.New(cfg, &out)
	require.NoError(t, err)
	s := New(loopback(), Options{Logger: l.WithOptions(zap.ErrorOutput(zapcore.AddSync(&out)))})
	require.NoError(t, s.Listen())
	require.NoError(t, s.Close())
	require.NoError(t, s.Serve(t.Context()))
	require.Empty(t, out.String())
}

func TestRequestsInFlightMayEndWithinTheGracePeriod(t *testing.T) {
	t.Parallel()
	s := New(loopback(), Options{Logger: zap.NewNop()})
	entered, release := make(chan struct{}), make(chan struct{})
	s.Handle("/slow", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-release
		_, _ = io.WriteString(w, "done")
	}))
	require.NoError(t, s.Listen())
	served := make(chan error, 1)
	go func() { served <- s.Serve(context.Background()) }()
	answer := make(chan string, 1)
	c := client(t)
	go func() {
		resp, err := c.Get("http://" + s.Addr().String() + "/slow")
		if err != nil {
			answer <- err.Error()
			return
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		answer <- string(b)
	}()
	<-entered
	stopped := make(chan error, 1)
	go func() { stopped <- s.Shutdown(context.Background()) }()
	require.NoError(t, <-served, "Serve ends as soon as nothing is accepted any more")
	close(release)
	require.NoError(t, <-stopped)
	require.Equal(t, "done", <-answer)
}

func TestRequestsAreCutOffAfterTheGracePeriod(t *testing.T) {
	t.Parallel()
	cfg := loopback()
	cfg.GracePeriod = time.Millisecond
	s := New(cfg, Options{Logger: zap.NewNop()})
	entered := make(chan struct{})
	s.Handle("/stuck", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
	}))
	require.NoError(t, s.Listen())
	served := make(chan error, 1)
	go func() { served <- s.Serve(context.Background()) }()
	answer := make(chan error, 1)
	c := client(t)
	go func() {
		resp, err := c.Get("http://" + s.Addr().String() + "/stuck")
		if err == nil {
			resp.Body.Close()
		}
		answer <- err
	}()
	<-entered
	require.ErrorIs(t, s.Shutdown(context.Background()), context.DeadlineExceeded)
	require.NoError(t, <-served)
	require.Error(t, <-answer)
}

func TestWebConfigTurnsOnTLSAndBasicAuth(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca := testcert.NewCA(t, dir)
	ca.Issue(t, filepath.Join(dir, "c.pem"), filepath.Join(dir, "k.pem"), "localhost")
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	require.NoError(t, err)
	web := filepath.Join(dir, "web.yaml")
	require.NoError(t, os.WriteFile(web, []byte("tls_server_config: {cert_file: c.pem, key_file: k.pem}\nbasic_auth_users: {me: "+string(hash)+"}\n"), 0o600))
	cfg := loopback()
	cfg.WebConfigFile = web
	require.NoError(t, cfg.Validate())
	status := lifecycle.NewStatus("query", nil)
	status.SetReady(true)
	base := "https://" + serve(t, New(cfg, Options{Logger: zap.NewNop(), Status: status})) + "/-/ready"

	pem, err := os.ReadFile(ca.File)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	c := client(t)
	c.Transport.(*http.Transport).TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	resp, _ := get(t, c, base)
	require.Equal(t, http.StatusUnauthorized, resp.StatusCode)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base, nil)
	require.NoError(t, err)
	req.SetBasicAuth("me", "secret")
	resp, err = c.Do(req)
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, 200, resp.StatusCode)

	require.NoError(t, os.WriteFile(web, []byte("tls_server: {}\n"), 0o600))
	require.ErrorContains(t, cfg.Validate(), "--http.config: "+web+": ")
}

func newTestMiddleware(reg prometheus.Registerer, tenant func(*http.Request) string) *Middleware {
	return NewMiddleware(MiddlewareOptions{Logger: zap.NewNop(), Registerer: reg, Tenant: tenant})
}

func TestRequestsAreMeasuredByHandlerMethodAndCode(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	m := newTestMiddleware(reg, func(r *http.Request) string {
		if v := r.Header.Get(requestctx.TenantHeader); v != "" {
			return v
		}
		return requestctx.DefaultTenant
	})
	h := m.Wrap("query", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		require.Equal(t, 1.0, testutil.ToFloat64(m.metrics.inflight), "this one is in flight")
		if r.URL.Path == "/bad" {
			w.WriteHeader(http.StatusBadRequest)
		}
		_, _ = io.WriteString(w, "four")
	}))
	for _, req := range []*http.Request{
		httptest.NewRequest(http.MethodGet, "/", nil),
		httptest.NewRequest(http.MethodGet, "/", nil),
	} {
		h.ServeHTTP(httptest.NewRecorder(), req)
	}
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP http_requests_total HTTP requests answered.
# TYPE http_requests_total counter
http_requests_total{code="200",handler="query",method="get",tenant="default-tenant"} 2
# HELP http_inflight_requests HTTP requests being answered.
# TYPE http_inflight_requests gauge
http_inflight_requests{handler="query",method="GET",tenant="default-tenant"} 0
# HELP http_response_size_bytes Size of the bodies of HTTP responses, as sent.
# TYPE http_response_size_bytes histogram
http_response_size_bytes_bucket{code="200",handler="query",method="get",tenant="default-tenant",le="64"} 2
http_response_size_bytes_bucket{code="200",handler="query",method="get",tenant="default-tenant",le="128"} 2
http_response_size_bytes_bucket{code="200",handler="query",method="get",tenant="default-tenant",le="256"} 2
http_response_size_bytes_bucket{code="200",handler="query",method="get",tenant="default-tenant",le="512"} 2
http_response_size_bytes_bucket{code="200",handler="query",method="get",tenant="default-tenant",le="1024"} 2
http_response_size_bytes_bucket{code="200",handler="query",method="get",tenant="default-tenant",le="2048"} 2
http_response_size_bytes_bucket{code="200",handler="query",method="get",tenant="default-tenant",le="4096"} 2
http_response_size_bytes_bucket{code="200",handler="query",method="get",tenant="default-tenant",le="8192"} 2
http_response_size_bytes_bucket{code="200",handler="query",method="get",tenant="default-tenant",le="16384"} 2
http_response_size_bytes_bucket{code="200",handler="query",method="get",tenant="default-tenant",le="32768"} 2
http_response_size_bytes_bucket{code="200",handler="query",method="get",tenant="default-tenant",le="+Inf"} 2
http_response_size_bytes_sum{code="200",handler="query",method="get",tenant="default-tenant"} 8
http_response_size_bytes_count{code="200",handler="query",method="get",tenant="default-tenant"} 2
`), "http_requests_total", "http_inflight_requests", "http_response_size_bytes"))
}

func TestDurationHistogramHasTheBucketsDashboardsReadAndIsNativeToo(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	h := newTestMiddleware(reg, nil).Wrap("query", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/", nil))
	families, err := reg.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() != "http_request_duration_seconds" {
			continue
		}
		hist := f.GetMetric()[0].GetHistogram()
		var bounds []float64
		for _, b := range hist.GetBucket() {
			bounds = append(bounds, b.GetUpperBound())
		}
		require.Equal(t, []float64{0.001, 0.01, 0.1, 0.3, 0.6, 1, 3, 6, 9, 20, 30, 60, 90, 120, 240, 360, 720}, bounds)
		require.NotNil(t, hist.Schema, "native histogram")
		return
	}
	t.Fatal("no duration histogram")
}

func TestSampledTracesAreExemplars(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	h := newTestMiddleware(reg, nil).Wrap("query", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	id := trace.TraceID{1, 2, 3}
	ctx := trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: id, SpanID: trace.SpanID{1}, TraceFlags: trace.FlagsSampled,
	}))
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil).WithContext(ctx))
	base := "http://" + serve(t, New(loopback(), Options{Logger: zap.NewNop(), Gatherer: reg}))
	_, body := get(t, client(t), base+"/metrics", "Accept", "application/openmetrics-text; version=1.0.0")
	require.Contains(t, body, ` # {traceID="`+id.String()+`"} `)
}

func TestUnknownMethodsShareOneLabelValue(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	h := newTestMiddleware(reg, nil).Wrap("query", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for _, method := range []string{"A", "B", "C"} {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(method, "/", nil))
	}
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP http_requests_total HTTP requests answered.
# TYPE http_requests_total counter
http_requests_total{code="200",handler="query",method="unknown"} 3
`), "http_requests_total"))
}

func TestAPanicCostsOneRequest(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	m := newTestMiddleware(reg, nil)
	s := New(loopback(), Options{Logger: zap.NewNop()})
	s.Handle("/early", m.Wrap("early", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("bug") })))
	s.Handle("/late", m.Wrap("late", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, strings.Repeat("x", 1<<20))
		panic("bug")
	})))
	base := "http://" + serve(t, s)
	resp, body := get(t, client(t), base+"/early")
	require.Equal(t, 500, resp.StatusCode)
	require.Equal(t, "internal error\n", body)
	resp, err := client(t).Get(base + "/late")
	if err == nil {
		_, err = io.ReadAll(resp.Body)
		resp.Body.Close()
	}
	require.Error(t, err, "half an answer must not look whole")
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP http_requests_total HTTP requests answered.
# TYPE http_requests_total counter
http_requests_total{code="500",handler="early",method="get"} 1
http_requests_total{code="500",handler="late",method="get"} 1
`), "http_requests_total"))
}

func TestLargeAnswersAreCompressedForThoseWhoTakeIt(t *testing.T) {
	t.Parallel()
	m := newTestMiddleware(nil, nil)
	large := `{"data":"` + strings.Repeat("x", 10_000) + `"}`
	answer := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, large)
	}
	s := New(loopback(), Options{Logger: zap.NewNop()})
	s.Handle("/wrap", m.Wrap("a", http.HandlerFunc(answer)))
	s.Handle("/plain", m.Plain("b", http.HandlerFunc(answer)))
	base := "http://" + serve(t, s)
	resp, body := get(t, client(t), base+"/wrap", "Accept-Encoding", "gzip")
	require.Equal(t, "gzip", resp.Header.Get("Content-Encoding"))
	zr, err := gzip.NewReader(strings.NewReader(body))
	require.NoError(t, err)
	got, err := io.ReadAll(zr)
	require.NoError(t, err)
	require.Equal(t, large, string(got))
	resp, body = get(t, client(t), base+"/wrap", "Accept-Encoding", "zstd")
	require.Equal(t, "zstd", resp.Header.Get("Content-Encoding"))
	zd, err := zstd.NewReader(strings.NewReader(body))
	require.NoError(t, err)
	defer zd.Close()
	got, err = io.ReadAll(zd)
	require.NoError(t, err)
	require.Equal(t, large, string(got))
	resp, _ = get(t, client(t), base+"/wrap", "Accept-Encoding", "gzip, deflate, br, zstd")
	require.Equal(t, "gzip", resp.Header.Get("Content-Encoding"), "who takes both gets what everybody knows")
	for _, path := range []string{"/plain", "/wrap"} {
		encoding := "gzip"
		if path == "/wrap" {
			encoding = "identity"
		}
		resp, body = get(t, client(t), base+path, "Accept-Encoding", encoding)
		require.Empty(t, resp.Header.Get("Content-Encoding"))
		require.Equal(t, large, body)
	}
}

func TestRequestIDIsKeptOrMade(t *testing.T) {
	t.Parallel()
	var seen string
	h := newTestMiddleware(nil, nil).Wrap("q", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		seen, _ = requestctx.RequestID(r.Context())
	}))
	for given, want := range map[string]string{"abc": "^abc$", "": "^[0-9A-Z]{26}$", strings.Repeat("x", 200): "^[0-9A-Z]{26}$"} {
		req := httptest.NewRequest(http.MethodGet, "/", nil)
		req.Header.Set("X-Request-ID", given)
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, req)
		require.Regexp(t, want, seen)
		require.Equal(t, seen, rec.Header().Get("X-Request-ID"))
	}
}

func TestRequestsAreLoggedAsThePolicySays(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	l, err := logging.New(logging.Config{Level: "debug", Format: "logfmt"}, &out)
	require.NoError(t, err)
	c := flags.InlineContent("request.logging-config", "options: {level: DEBUG, decision: {log_start: true, log_end: true}}\nhttp: {config: [{path: /a, port: 10902}]}")
	policy, err := requestlog.Load(&c)
	require.NoError(t, err)
	m := NewMiddleware(MiddlewareOptions{Logger: l, RequestLog: policy, Port: 10902})
	h := m.Wrap("query", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery == "fail" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	for _, target := range []string{"/a", "/b", "/a?fail"} {
		req := httptest.NewRequest(http.MethodGet, target, nil)
		req.Header.Set("X-Request-ID", "id1")
		h.ServeHTTP(httptest.NewRecorder(), req)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	require.Len(t, lines, 4)
	require.Regexp(t, `level=debug logger=http msg="started request" handler=query method=GET path=/a remote=\S+ request_id=id1$`, lines[0])
	require.Regexp(t, `level=debug logger=http msg="finished request" .* code=200 response_bytes=0 took=\S+$`, lines[1])
	require.Regexp(t, `level=error logger=http msg="finished request" .* code=503 `, lines[3])
}

func TestServeEndsWithItsContext(t *testing.T) {
	t.Parallel()
	s := New(loopback(), Options{Logger: zap.NewNop()})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Serve(ctx); err != nil && !errors.Is(err, net.ErrClosed) {
		t.Fatal(err)
	}
}
