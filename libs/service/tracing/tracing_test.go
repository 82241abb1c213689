package tracing

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/promontory-io/promontory/libs/service/flags"
	"github.com/promontory-io/promontory/libs/service/internal/testcert"
	"github.com/promontory-io/promontory/libs/service/logging"
	"github.com/promontory-io/promontory/libs/service/tlsconfig"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// collector takes spans by both protocols.
type collector struct {
	collectorpb.UnimplementedTraceServiceServer

	mu       sync.Mutex
	spans    []*tracepb.Span
	resource map[string]string
	headers  map[string]string
	path     string
	encoding string
}

func (c *collector) take(req *collectorpb.ExportTraceServiceRequest) {
	c.resource = map[string]string{}
	for _, rs := range req.GetResourceSpans() {
		for _, kv := range rs.GetResource().GetAttributes() {
			c.resource[kv.GetKey()] = kv.GetValue().GetStringValue()
		}
		for _, ss := range rs.GetScopeSpans() {
			c.spans = append(c.spans, ss.GetSpans()...)
		}
	}
}

func (c *collector) Export(ctx context.Context, req *collectorpb.ExportTraceServiceRequest) (*collectorpb.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.headers = map[string]string{}
	md, _ := metadata.FromIncomingContext(ctx)
	for k, v := range md {
		c.headers[k] = v[0]
	}
	c.take(req)
	return &collectorpb.ExportTraceServiceResponse{}, nil
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.path, c.encoding, c.headers = r.URL.Path, r.Header.Get("Content-Encoding"), map[string]string{}
	for k, v := range r.Header {
		c.headers[strings.ToLower(k)] = v[0]
	}
	body := io.Reader(r.Body)
	if c.encoding == "gzip" {
		zr, err := gzip.NewReader(body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		body = zr
	}
	b, err := io.ReadAll(body)
	req := new(collectorpb.ExportTraceServiceRequest)
	if err != nil || proto.Unmarshal(b, req) != nil {
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	c.take(req)
}

func (c *collector) names() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for _, s := range c.spans {
		out = append(out, s.GetName())
	}
	return out
}

// overGRPC serves a collector, with TLS where creds are given, and returns its address.
func overGRPC(t *testing.T, c *collector, opts ...grpc.ServerOption) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := grpc.NewServer(opts...)
	collectorpb.RegisterTraceServiceServer(s, c)
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	t.Cleanup(func() { s.Stop(); <-done })
	return l.Addr().String()
}

func load(t *testing.T, text string) *Tracing {
	t.Helper()
	c := flags.InlineContent("tracing.config", text)
	tr, err := Load(t.Context(), &c, Options{Logger: zap.NewNop(), ServiceName: "thanos-query", Version: "1.2.3"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = tr.Shutdown(context.Background()) })
	return tr
}

func TestWithoutConfigurationNothingHappens(t *testing.T) {
	t.Parallel()
	var unset flags.Content
	tr, err := Load(t.Context(), &unset, Options{Logger: zap.NewNop()})
	require.NoError(t, err)
	for _, tr := range []*Tracing{tr, nil} {
		_, span := tr.Start(t.Context(), "x")
		require.False(t, span.SpanContext().IsSampled())
		require.NotNil(t, tr.ServerHandler())
		require.NotNil(t, tr.ClientHandler())
		rec := httptest.NewRecorder()
		tr.HTTP("x", http.NotFoundHandler()).ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/", nil))
		require.Empty(t, rec.Header().Get(TraceIDHeader))
		require.Equal(t, http.DefaultTransport, tr.RoundTripper("x", http.DefaultTransport))
		require.NoError(t, tr.Shutdown(t.Context()))
	}
}

func TestSpansReachAnOTLPCollectorOverGRPC(t *testing.T) {
	t.Parallel()
	c := &collector{}
	tr := load(t, `
type: otlp
config:
  client_type: grpc
  service_name: my-query
  resource_attributes: {deployment: eu1}
  endpoint: `+overGRPC(t, c)+`
  insecure: true
  compression: gzip
  timeout: 5s
  reconnection_period: 1s
  headers: {x-token: secret}
  retry_config: {retry_enabled: true, retry_initial_interval: 1s, retry_max_interval: 2s, retry_max_elapsed_time: 3s}
`)
	ctx, span := tr.Start(t.Context(), "outer")
	_, inner := tr.Start(ctx, "inner")
	inner.End()
	span.End()
	require.NoError(t, tr.Shutdown(t.Context()))
	require.ElementsMatch(t, []string{"outer", "inner"}, c.names())
	require.Equal(t, map[string]string{"service.name": "my-query", "service.version": "1.2.3", "deployment": "eu1"}, c.resource)
	require.Equal(t, "secret", c.headers["x-token"])
}

func TestSpansReachAnOTLPCollectorOverHTTP(t *testing.T) {
	t.Parallel()
	c := &collector{}
	srv := httptest.NewServer(c)
	defer srv.Close()
	for _, endpoint := range []string{strings.TrimPrefix(srv.URL, "http://") + "\n  insecure: true", srv.URL + "/"} {
		tr := load(t, `
type: OTLP
config:
  client_type: HTTP
  url_path: /custom/traces
  compression: gzip
  headers: {X-Token: secret}
  endpoint: `+endpoint)
		_, span := tr.Start(t.Context(), "work")
		span.End()
		require.NoError(t, tr.Shutdown(t.Context()))
		require.Contains(t, c.names(), "work")
		require.Equal(t, "/custom/traces", c.path)
		require.Equal(t, "gzip", c.encoding)
		require.Equal(t, "secret", c.headers["x-token"])
		require.Equal(t, "thanos-query", c.resource["service.name"])
		c.spans = nil
	}
}

func TestOTLPSpeaksMutualTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca := testcert.NewCA(t, dir)
	file := func(n string) string { return filepath.Join(dir, n) }
	ca.Issue(t, file("s.crt"), file("s.key"), "collector.test")
	ca.Issue(t, file("c.crt"), file("c.key"), "client.test")
	server := tlsconfig.DefaultServer()
	server.CertFile, server.KeyFile, server.ClientCAFile = file("s.crt"), file("s.key"), ca.File
	serverTLS, err := server.Config()
	require.NoError(t, err)
	c := &collector{}
	tr := load(t, `
type: OTLP
config:
  endpoint: `+overGRPC(t, c, grpc.Creds(credentials.NewTLS(serverTLS)))+`
  tls_config: {ca_file: `+ca.File+`, cert_file: `+file("c.crt")+`, key_file: `+file("c.key")+`, server_name: collector.test}
`)
	_, span := tr.Start(t.Context(), "secret work")
	span.End()
	require.NoError(t, tr.Shutdown(t.Context()))
	require.Equal(t, []string{"secret work"}, c.names())
}

func TestABackEndThatIsAwayIsLoggedNotFatal(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := l.Addr().String()
	require.NoError(t, l.Close())
	var out bytes.Buffer
	logger, err := logging.New(logging.DefaultConfig(), &out)
	require.NoError(t, err)
	c := flags.InlineContent("tracing.config", "type: OTLP\nconfig: {client_type: http, insecure: true, timeout: 1s, endpoint: \""+addr+"\", retry_config: {retry_enabled: false}}")
	tr, err := Load(t.Context(), &c, Options{Logger: logger})
	require.NoError(t, err)
	_, span := tr.Start(t.Context(), "x")
	span.End()
	require.NoError(t, tr.Shutdown(t.Context()))
	require.Contains(t, out.String(), `msg="send traces" spans_lost=1`)
}

func TestForcedTracingIsSampledAndAnsweredWithItsID(t *testing.T) {
	t.Parallel()
	c := &collector{}
	tr := load(t, "type: OTLP\nconfig: {insecure: true, sampler_type: neversample, endpoint: \""+overGRPC(t, c)+"\"}")
	// The inner service hears of it by the round tripper's headers.
	inner := httptest.NewServer(tr.HTTP("inner", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
	})))
	defer inner.Close()
	transport := &http.Transport{DisableKeepAlives: true}
	client := &http.Client{Transport: tr.RoundTripper("call", transport)}
	outer := tr.HTTP("outer", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, inner.URL, nil)
		if err != nil {
			t.Error(err)
			return
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Error(err)
			return
		}
		resp.Body.Close()
	}))
	plain, forced := httptest.NewRequest(http.MethodGet, "/", nil), httptest.NewRequest(http.MethodGet, "/", nil)
	forced.Header.Set("X-Thanos-Force-Tracing", "1")
	rec := httptest.NewRecorder()
	outer.ServeHTTP(rec, plain)
	require.Empty(t, rec.Header().Get("X-Thanos-Trace-Id"))
	rec = httptest.NewRecorder()
	outer.ServeHTTP(rec, forced)
	id := rec.Header().Get("X-Thanos-Trace-Id")
	require.Regexp(t, "^[0-9a-f]{32}$", id)
	require.NoError(t, tr.Shutdown(t.Context()))
	require.ElementsMatch(t, []string{"outer", "call", "inner"}, c.names())
	for _, s := range c.spans {
		require.Equal(t, id, trace.TraceID(s.GetTraceId()).String())
	}
}

func TestExemplarsNameSampledTracesOnly(t *testing.T) {
	t.Parallel()
	require.Nil(t, Exemplar(t.Context()))
	provider := sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.AlwaysSample()))
	ctx, span := provider.Tracer("").Start(t.Context(), "x")
	defer span.End()
	require.Equal(t, span.SpanContext().TraceID().String(), Exemplar(ctx)["traceID"])
}

func TestBadConfigurationIsNamed(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"type: ZIPKIN":                                                          `--tracing.config: unknown tracing type "ZIPKIN", want one of ELASTIC_APM, GOOGLE_CLOUD, JAEGER, LIGHTSTEP, OTLP, STACKDRIVER`,
		"config: {}":                                                            `--tracing.config: unknown tracing type ""`,
		"type: OTLP\nconfig:\n  endpont: x":                                     "--tracing.config:3: unknown key endpont",
		"type: OTLP\nconfig:\n  timeout: soon":                                  "--tracing.config:3: ",
		"type: OTLP\nconfig: {client_type: udp}":                                `config: client_type: unknown client "udp"`,
		"type: OTLP\nconfig: {compression: zip}":                                `config: compression: unknown compression "zip"`,
		"type: OTLP\nconfig: {sampler_type: dice}":                              `config: sampler_type: unknown sampler "dice"`,
		"type: OTLP\nconfig: {sampler_type: traceidratiobased}":                 `sampler_param: "" is not a number from 0 to 1`,
		"type: OTLP\nconfig: {tls_config: {ca_file: /none}}":                    "OTLP: tls_config.ca_file: open /none",
		"type: OTLP\nconfig: {tls_config: {cert_file: a}}":                      "give both or none",
		"type: JAEGER\nconfig: {tags: a}":                                       `tags: "a" is not of the form key=value`,
		"type: JAEGER\nconfig: {endpoint: nowhere}":                             `endpoint: "nowhere" is no URL`,
		"type: JAEGER\nconfig: {sampler_type: probabilistic, sampler_param: 2}": "sampler_param: 2 is not from 0 to 1",
		"type: LIGHTSTEP\nconfig: {}":                                           "access_token: empty",
		"type: GOOGLE_CLOUD\nconfig: {}":                                        "project_id: empty",
		"type: ELASTIC_APM\nconfig: {sample_rate: 7}":                           "sample_rate: 7 is not from 0 to 1",
	} {
		c := flags.InlineContent("tracing.config", text)
		_, err := Load(t.Context(), &c, Options{Logger: zap.NewNop()})
		require.ErrorContains(t, err, want, text)
	}
}

func planOf(t *testing.T, text string) plan {
	t.Helper()
	c := flags.InlineContent("tracing.config", text)
	p, _, err := parse(&c)
	require.NoError(t, err)
	return p
}

func TestOlderBackEndsAreReachedByOTLP(t *testing.T) {
	t.Setenv("ELASTIC_APM_SERVER_URL", "https://apm.test:8200/base")
	t.Setenv("ELASTIC_APM_SECRET_TOKEN", "tok")
	for name, tc := range map[string]struct {
		text string
		want exporterConfig
	}{
		"jaeger collector": {
			"type: JAEGER\nconfig: {endpoint: 'http://jaeger:14268/api/traces', user: me, password: pw}",
			exporterConfig{protocol: "http", endpoint: "jaeger:4318", insecure: true, headers: map[string]string{"Authorization": "Basic bWU6cHc="}},
		},
		"jaeger agent": {
			"type: JAEGER\nconfig: {agent_host: agent, agent_port: 6831}",
			exporterConfig{protocol: "grpc", endpoint: "agent:4317", insecure: true},
		},
		"jaeger by default": {"type: jaeger", exporterConfig{protocol: "grpc", endpoint: "localhost:4317", insecure: true}},
		"lightstep": {
			"type: LIGHTSTEP\nconfig: {access_token: t}",
			exporterConfig{protocol: "grpc", endpoint: "ingest.lightstep.com:443", headers: map[string]string{"lightstep-access-token": "t"}},
		},
		"lightstep satellite": {
			"type: LIGHTSTEP\nconfig: {access_token: t, collector: {scheme: http, host: sat, port: 8181, plaintext: true}}",
			exporterConfig{protocol: "grpc", endpoint: "sat:8181", insecure: true, headers: map[string]string{"lightstep-access-token": "t"}},
		},
		"elastic": {
			"type: ELASTIC_APM\nconfig: {service_name: x}",
			exporterConfig{protocol: "http", endpoint: "apm.test:8200", urlPath: "/base/v1/traces", headers: map[string]string{"Authorization": "Bearer tok"}},
		},
		"google": {
			"type: STACKDRIVER\nconfig: {project_id: p}",
			exporterConfig{protocol: "grpc", endpoint: "telemetry.googleapis.com:443", headers: map[string]string{"x-goog-user-project": "p"}, googleAuth: true},
		},
	} {
		p := planOf(t, tc.text)
		require.Equal(t, tc.want, p.exporter, name)
		require.NotEmpty(t, p.warnings, name)
	}
}

func TestWhatOfJaegerHasNoEffectIsSaid(t *testing.T) {
	t.Setenv("POD", "q-0")
	p := planOf(t, `
type: JAEGER
config:
  service_name: q
  tags: a=b, pod=${POD:none}, zone=${NO_SUCH_ZONE:eu}
  rpc_metrics: true
  reporter_log_spans: true
  sampler_type: remote
  reporter_max_queue_size: 10
  reporter_flush_interval: 2s
`)
	require.Equal(t, []attribute.KeyValue{attribute.String("a", "b"), attribute.String("pod", "q-0"), attribute.String("zone", "eu")}, p.attributes)
	require.Len(t, p.batch, 2)
	all := strings.Join(p.warnings, "\n")
	require.Contains(t, all, "without effect: reporter_log_spans, rpc_metrics")
	require.Contains(t, all, "the sampler is not fetched from Jaeger (sampler_type remote): 0.001 of all traces")
	require.True(t, planOf(t, "type: JAEGER\nconfig: {disabled: true}").disabled)
}

// sampledOf returns how many of n root traces a sampler takes.
func sampledOf(s sdktrace.Sampler, parent context.Context, n int) int {
	taken := 0
	for i := range n {
		id := trace.TraceID{byte(i), byte(i >> 8), 1, 8: byte(i*151 + 7), 9: byte(i)}
		if s.ShouldSample(sdktrace.SamplingParameters{ParentContext: parent, TraceID: id}).Decision == sdktrace.RecordAndSample {
			taken++
		}
	}
	return taken
}

func TestSamplersFollowTheirWords(t *testing.T) {
	t.Parallel()
	sampledParent := trace.ContextWithRemoteSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}, TraceFlags: trace.FlagsSampled, Remote: true,
	}))
	for _, tc := range []struct {
		config             string
		atRoot, underChild int // of 256
	}{
		{"type: OTLP", 256, 256},
		{"type: OTLP\nconfig: {sampler_type: AlwaysSample}", 256, 256},
		{"type: OTLP\nconfig: {sampler_type: neversample}", 0, 0},
		{"type: OTLP\nconfig: {sampler_type: parentbasedneversample}", 0, 256},
		{"type: OTLP\nconfig: {sampler_type: parentbased_always_off}", 0, 256},
		{"type: OTLP\nconfig: {sampler_type: traceidratiobased, sampler_param: '0'}", 0, 0},
		{"type: OTLP\nconfig: {sampler_type: parentbasedtraceidratio, sampler_param: '1'}", 256, 256},
		{"type: JAEGER", 0, 256},
		{"type: JAEGER\nconfig: {sampler_type: const, sampler_param: 1}", 256, 256},
		{"type: JAEGER\nconfig: {sampler_type: probabilistic, sampler_param: 0}", 0, 256},
		{"type: JAEGER\nconfig: {sampler_type: const, sampler_parent_config: {local_parent_sampled: true}}", 0, 0},
		{"type: GOOGLE_CLOUD\nconfig: {project_id: p}", 256, 256},
	} {
		s := planOf(t, tc.config).sampler
		require.Equal(t, tc.atRoot, sampledOf(s, t.Context(), 256), tc.config)
		require.Equal(t, tc.underChild, sampledOf(s, sampledParent, 256), tc.config)
	}
	half := planOf(t, "type: OTLP\nconfig: {sampler_type: traceidratiobased, sampler_param: '0.5'}").sampler
	require.InDelta(t, 128, sampledOf(half, t.Context(), 256), 40)
}

func TestRateLimitedSamplingRefillsWithTime(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	s := newRateLimited(2, func() time.Time { return now })
	require.Equal(t, 2, sampledOf(s, t.Context(), 10))
	now = now.Add(500 * time.Millisecond)
	require.Equal(t, 1, sampledOf(s, t.Context(), 10))
	now = now.Add(time.Hour)
	require.Equal(t, 2, sampledOf(s, t.Context(), 10), "saved up for one second at most")
}

func FuzzParseNeverPanics(f *testing.F) {
	f.Add("type: OTLP\nconfig: {endpoint: x}")
	f.Add("type: JAEGER\nconfig: {tags: 'a=${B:c}', endpoint: 'http://x'}")
	f.Fuzz(func(_ *testing.T, text string) {
		c := flags.InlineContent("tracing.config", text)
		_, _, _ = parse(&c)
	})
}
