package grpcserver_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/version"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"github.com/promontory-io/promontory/libs/service/flags"
	"github.com/promontory-io/promontory/libs/service/grpcclient"
	"github.com/promontory-io/promontory/libs/service/grpcserver"
	"github.com/promontory-io/promontory/libs/service/internal/echo"
	"github.com/promontory-io/promontory/libs/service/internal/testcert"
	"github.com/promontory-io/promontory/libs/service/lifecycle"
	"github.com/promontory-io/promontory/libs/service/logging"
	"github.com/promontory-io/promontory/libs/service/requestctx"
	"github.com/promontory-io/promontory/libs/service/requestlog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func config() grpcserver.Config {
	cfg := grpcserver.DefaultConfig()
	cfg.Address = "127.0.0.1:0"
	return cfg
}

// serve runs an echo server until the test ends and returns its address.
func serve(t *testing.T, cfg grpcserver.Config, opts grpcserver.Options, h echo.Handler) string {
	t.Helper()
	if opts.Logger == nil {
		opts.Logger = zap.NewNop()
	}
	opts.Register = append(opts.Register, h.Register)
	s, err := grpcserver.New(cfg, opts)
	require.NoError(t, err)
	require.NoError(t, s.Listen())
	done := make(chan error, 1)
	go func() { done <- s.Serve(context.Background()) }()
	t.Cleanup(func() {
		require.NoError(t, s.Shutdown(context.Background()))
		require.NoError(t, <-done)
	})
	return s.Addr().String()
}

func dial(t *testing.T, addr string, cfg grpcclient.Config, opts grpcclient.Options, extra ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	cc, err := grpcclient.New(opts).NewClient(addr, cfg, extra...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, cc.Close()) })
	return cc
}

func say(_ context.Context, text string) (string, error) { return text, nil }

// wire notes what messages cost on the wire, and with which encoding.
type wire struct {
	mu          sync.Mutex
	compression string
	raw, sent   int
	userAgent   []string
}

func (w *wire) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (w *wire) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (w *wire) HandleConn(context.Context, stats.ConnStats)                       {}
func (w *wire) HandleRPC(_ context.Context, s stats.RPCStats) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch s := s.(type) {
	case *stats.InHeader:
		w.compression, w.userAgent = s.Compression, s.Header.Get("user-agent")
	case *stats.InPayload:
		w.raw, w.sent = s.Length, s.CompressedLength
	}
}

func TestCallsWorkPlainAndWithSnappy(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("the same again ", 20_000)
	for name, want := range map[string]string{"none": "", "snappy": "snappy"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := &wire{}
			addr := serve(t, config(), grpcserver.Options{ServerOptions: []grpc.ServerOption{grpc.StatsHandler(w)}}, say)
			cfg := grpcclient.DefaultConfig()
			cfg.Compression = name
			cc := dial(t, addr, cfg, grpcclient.Options{})
			for _, call := range []func(context.Context, grpc.ClientConnInterface, string, ...grpc.CallOption) (string, error){echo.CallUnary, echo.CallStream} {
				got, err := call(t.Context(), cc, text)
				require.NoError(t, err)
				require.Equal(t, text, got)
				w.mu.Lock()
				require.Equal(t, want, w.compression)
				require.Equal(t, want != "", w.sent < w.raw/2, "%d of %d bytes", w.sent, w.raw)
				require.Contains(t, w.userAgent[0], "Thanos/"+version.Version)
				w.mu.Unlock()
			}
		})
	}
}

func TestMessagesBeyondTheUsualLimitPass(t *testing.T) {
	t.Parallel()
	cc := dial(t, serve(t, config(), grpcserver.Options{}, say), grpcclient.DefaultConfig(), grpcclient.Options{})
	text := strings.Repeat("x", 5<<20)
	got, err := echo.CallUnary(t.Context(), cc, text)
	require.NoError(t, err)
	require.Len(t, got, len(text))
}

func TestAPanicIsAnInternalErrorAndIsCounted(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	var out bytes.Buffer
	l, err := logging.New(logging.DefaultConfig(), &out)
	require.NoError(t, err)
	addr := serve(t, config(), grpcserver.Options{Registerer: reg, Logger: l}, func(context.Context, string) (string, error) { panic("a bug") })
	cc := dial(t, addr, grpcclient.DefaultConfig(), grpcclient.Options{})
	_, err = echo.CallUnary(t.Context(), cc, "x")
	require.Equal(t, codes.Internal, status.Code(err))
	_, err = echo.CallStream(t.Context(), cc, "x")
	require.Equal(t, codes.Internal, status.Code(err))
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP grpc_req_panics_recovered_total Calls that ended in a panic, which was recovered.
# TYPE grpc_req_panics_recovered_total counter
grpc_req_panics_recovered_total 2
`), "grpc_req_panics_recovered_total"))
	n, err := testutil.GatherAndCount(reg, "grpc_server_handled_total")
	require.NoError(t, err)
	require.Positive(t, n)
	require.Contains(t, out.String(), `panic="a bug"`)
	require.Contains(t, out.String(), "method=/test.Echo/Unary")
}

func TestTenantAndRequestIDFollowTheCall(t *testing.T) {
	t.Parallel()
	whoAmI := func(ctx context.Context, _ string) (string, error) {
		tenant, _ := requestctx.Tenant(ctx)
		id, _ := requestctx.RequestID(ctx)
		return tenant + " " + id, nil
	}
	// The first server calls the second with the context of its own call.
	inner := dial(t, serve(t, config(), grpcserver.Options{}, whoAmI), grpcclient.DefaultConfig(), grpcclient.Options{})
	outer := serve(t, config(), grpcserver.Options{}, func(ctx context.Context, text string) (string, error) {
		return echo.CallStream(ctx, inner, text)
	})
	cc := dial(t, outer, grpcclient.DefaultConfig(), grpcclient.Options{})

	ctx := requestctx.WithRequestID(requestctx.WithTenant(t.Context(), "team-a"), "id1")
	got, err := echo.CallUnary(ctx, cc, "")
	require.NoError(t, err)
	require.Equal(t, "team-a id1", got)

	got, err = echo.CallUnary(t.Context(), cc, "")
	require.NoError(t, err)
	require.Regexp(t, "^default-tenant [0-9A-Z]{26}$", got, "made up where the caller says nothing")

	got, err = echo.CallUnary(metadata.AppendToOutgoingContext(ctx, "THANOS-TENANT", "by-hand"), cc, "")
	require.NoError(t, err)
	require.Equal(t, "by-hand id1", got, "what the caller sent itself is not doubled")
}

func TestHealthFollowsReadiness(t *testing.T) {
	t.Parallel()
	st := lifecycle.NewStatus("store", nil)
	cc := dial(t, serve(t, config(), grpcserver.Options{Status: st}, say), grpcclient.DefaultConfig(), grpcclient.Options{})
	check := func() healthpb.HealthCheckResponse_ServingStatus {
		resp, err := healthpb.NewHealthClient(cc).Check(t.Context(), &healthpb.HealthCheckRequest{Service: ""})
		require.NoError(t, err)
		return resp.GetStatus()
	}
	require.Equal(t, healthpb.HealthCheckResponse_NOT_SERVING, check())
	st.SetReady(true)
	require.Equal(t, healthpb.HealthCheckResponse_SERVING, check())
	st.SetReady(false)
	require.Equal(t, healthpb.HealthCheckResponse_NOT_SERVING, check())
}

func TestReflectionListsTheServices(t *testing.T) {
	t.Parallel()
	cc := dial(t, serve(t, config(), grpcserver.Options{}, say), grpcclient.DefaultConfig(), grpcclient.Options{})
	ss, err := reflectionpb.NewServerReflectionClient(cc).ServerReflectionInfo(t.Context())
	require.NoError(t, err)
	require.NoError(t, ss.Send(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}}))
	resp, err := ss.Recv()
	require.NoError(t, err)
	require.NoError(t, ss.CloseSend())
	var names []string
	for _, s := range resp.GetListServicesResponse().GetService() {
		names = append(names, s.GetName())
	}
	require.Contains(t, names, "test.Echo")
	require.Contains(t, names, "grpc.health.v1.Health")
	_, _ = ss.Recv() // the end of the stream
}

func TestServerAndClientMeasureWithTheSameShape(t *testing.T) {
	t.Parallel()
	srvReg, cliReg := prometheus.NewRegistry(), prometheus.NewRegistry()
	addr := serve(t, config(), grpcserver.Options{Registerer: srvReg}, say)

	n, err := testutil.GatherAndCount(srvReg, "grpc_server_handled_total")
	require.NoError(t, err)
	require.Positive(t, n, "all codes of all methods exist from the start")

	cc := dial(t, addr, grpcclient.DefaultConfig(), grpcclient.Options{Registerer: cliReg})
	_, err = echo.CallUnary(t.Context(), cc, "x")
	require.NoError(t, err)
	require.NoError(t, testutil.GatherAndCompare(cliReg, strings.NewReader(`
# HELP grpc_client_handled_total Total number of RPCs completed by the client, regardless of success or failure.
# TYPE grpc_client_handled_total counter
grpc_client_handled_total{grpc_code="OK",grpc_method="Unary",grpc_service="test.Echo",grpc_type="unary"} 1
`), "grpc_client_handled_total"))
	for _, reg := range []*prometheus.Registry{srvReg, cliReg} {
		families, err := reg.Gather()
		require.NoError(t, err)
		found := false
		for _, f := range families {
			if !strings.HasSuffix(f.GetName(), "_handling_seconds") {
				continue
			}
			found = true
			h := f.GetMetric()[0].GetHistogram()
			var bounds []float64
			for _, b := range h.GetBucket() {
				bounds = append(bounds, b.GetUpperBound())
			}
			require.Equal(t, []float64{0.001, 0.01, 0.1, 0.3, 0.6, 1, 3, 6, 9, 20, 30, 60, 90, 120}, bounds)
			require.NotNil(t, h.Schema, "native too")
		}
		require.True(t, found)
	}
}

func TestTLSIsMutualAndReloads(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca := testcert.NewCA(t, dir)
	file := func(name string) string { return filepath.Join(dir, name) }
	ca.Issue(t, file("s.crt"), file("s.key"), "server.test")
	ca.Issue(t, file("c.crt"), file("c.key"), "client.test")
	cfg := config()
	cfg.TLS.CertFile, cfg.TLS.KeyFile, cfg.TLS.ClientCAFile = file("s.crt"), file("s.key"), ca.File
	addr := serve(t, cfg, grpcserver.Options{}, say)

	client := grpcclient.DefaultConfig()
	client.TLS.Enabled, client.TLS.CAFile, client.ServerName = true, ca.File, "server.test"
	_, err := echo.CallUnary(t.Context(), dial(t, addr, client, grpcclient.Options{}), "x")
	require.Equal(t, codes.Unavailable, status.Code(err), "no client certificate")

	client.TLS.CertFile, client.TLS.KeyFile = file("c.crt"), file("c.key")
	got, err := echo.CallUnary(t.Context(), dial(t, addr, client, grpcclient.Options{}), "x")
	require.NoError(t, err)
	require.Equal(t, "x", got)

	// A renewal under another name: clients that ask for it are served at once, without a restart.
	ca.Issue(t, file("s.crt"), file("s.key"), "renewed.test")
	client.ServerName = "renewed.test"
	_, err = echo.CallUnary(t.Context(), dial(t, addr, client, grpcclient.Options{}), "x")
	require.NoError(t, err)

	_, err = echo.CallUnary(t.Context(), dial(t, addr, grpcclient.DefaultConfig(), grpcclient.Options{}), "x")
	require.Equal(t, codes.Unavailable, status.Code(err), "plaintext to a TLS server")
}

func TestBadSettingsAreErrors(t *testing.T) {
	t.Parallel()
	cfg := config()
	cfg.TLS.CertFile = "only.crt"
	_, err := grpcserver.New(cfg, grpcserver.Options{Logger: zap.NewNop()})
	require.ErrorContains(t, err, "give both or none")
	require.ErrorContains(t, cfg.Validate(), "--grpc-server-tls-cert")

	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	cfg = config()
	cfg.Address = l.Addr().String()
	s, err := grpcserver.New(cfg, grpcserver.Options{Logger: zap.NewNop()})
	require.NoError(t, err)
	require.ErrorContains(t, s.Listen(), "--grpc-address="+l.Addr().String()+": ")
	require.NoError(t, s.Close())

	bad := grpcclient.DefaultConfig()
	bad.Compression = "zip"
	_, err = grpcclient.New(grpcclient.Options{}).NewClient("x:1", bad)
	require.ErrorContains(t, err, `gRPC client for x:1: unknown compression "zip"`)
}

func TestCallsInFlightMayEndWithinTheGracePeriod(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		grace time.Duration
		ends  bool
	}{"long enough": {time.Minute, true}, "too short": {time.Millisecond, false}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			entered, release := make(chan struct{}), make(chan struct{})
			cfg := config()
			cfg.GracePeriod = tc.grace
			h := echo.Handler(func(ctx context.Context, text string) (string, error) {
				close(entered)
				select {
				case <-release:
					return text, nil
				case <-ctx.Done():
					return "", ctx.Err()
				}
			})
			s, err := grpcserver.New(cfg, grpcserver.Options{Logger: zap.NewNop(), Register: []func(grpc.ServiceRegistrar){h.Register}})
			require.NoError(t, err)
			require.NoError(t, s.Listen())
			served := make(chan error, 1)
			go func() { served <- s.Serve(context.Background()) }()
			cc := dial(t, s.Addr().String(), grpcclient.DefaultConfig(), grpcclient.Options{})
			answer := make(chan error, 1)
			go func() {
				_, err := echo.CallUnary(context.Background(), cc, "x")
				answer <- err
			}()
			<-entered
			stopped := make(chan error, 1)
			go func() { stopped <- s.Shutdown(context.Background()) }()
			if tc.ends {
				close(release)
				require.NoError(t, <-answer)
				require.NoError(t, <-stopped)
			} else {
				require.ErrorIs(t, <-stopped, context.DeadlineExceeded)
				require.Error(t, <-answer)
			}
			require.NoError(t, <-served)
		})
	}
}

func TestCallsAreLoggedAsThePolicySays(t *testing.T) {
	t.Parallel()
	var out lockedBuffer
	l, err := logging.New(logging.Config{Level: "debug", Format: "logfmt"}, &out)
	require.NoError(t, err)
	c := flags.InlineContent("request.logging-config", "grpc: {options: {level: DEBUG, decision: {log_start: true, log_end: true}}, config: [{service: test.Echo, method: Unary}]}")
	policy, err := requestlog.Load(&c)
	require.NoError(t, err)
	addr := serve(t, config(), grpcserver.Options{Logger: l, RequestLog: policy}, func(_ context.Context, text string) (string, error) {
		if text == "fail" {
			return "", errors.New("broken disk")
		}
		return text, nil
	})
	cc := dial(t, addr, grpcclient.DefaultConfig(), grpcclient.Options{})
	ctx := requestctx.WithRequestID(requestctx.WithTenant(t.Context(), "a"), "id1")
	_, err = echo.CallUnary(ctx, cc, "x")
	require.NoError(t, err)
	_, err = echo.CallUnary(ctx, cc, "fail")
	require.Error(t, err)
	_, err = echo.CallStream(ctx, cc, "x")
	require.NoError(t, err)
	text := out.String()
	require.Equal(t, 2, strings.Count(text, `msg="started call"`), text)
	require.Regexp(t, `level=debug logger=grpc msg="finished call" method=/test.Echo/Unary request_id=id1 tenant=a code=OK took=\S+\n`, text)
	require.Regexp(t, `level=error logger=grpc msg="finished call" .* code=Unknown took=\S+ error="broken disk"\n`, text)
	require.NotContains(t, text, "Stream")
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
