package service

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/promontory-io/promontory/libs/service/grpcclient"
	"github.com/promontory-io/promontory/libs/service/grpcserver"
	"github.com/promontory-io/promontory/libs/service/internal/echo"
	"github.com/promontory-io/promontory/libs/service/lifecycle"
	"github.com/promontory-io/promontory/libs/service/requestctx"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("os/signal.loop"))
}

func timeDuration(d model.Duration) time.Duration { return time.Duration(d) }

func loopbackConfig(component string) Config {
	cfg := DefaultConfig(component)
	cfg.HTTP.Address, cfg.GRPC.Address = "127.0.0.1:0", "127.0.0.1:0"
	return cfg
}

// get asks without keeping the connection.
func get(t *testing.T, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	tr := &http.Transport{DisableKeepAlives: true}
	resp, err := tr.RoundTrip(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(b)
}

func TestAProcessServesFromStartToStop(t *testing.T) {
	t.Parallel()
	var logs lockedBuffer
	p, err := NewProcess(loopbackConfig("query"), &logs)
	require.NoError(t, err)
	defer p.Close()

	// A small service: an echo over gRPC, and an HTTP API that calls it.
	synced := make(chan struct{})
	p.Group.AddPart(lifecycle.Part{
		Name:  "syncer",
		Ready: synced,
		Run:   func(ctx context.Context) error { <-ctx.Done(); return nil },
	})
	srv, err := p.GRPC(grpcserver.Options{Register: []func(grpc.ServiceRegistrar){
		echo.Handler(func(_ context.Context, s string) (string, error) { return s, nil }).Register,
	}})
	require.NoError(t, err)
	cc, err := p.Dialer().NewClient(srv.Addr().String(), grpcclient.DefaultConfig())
	require.NoError(t, err)
	defer cc.Close()
	mw := p.Middleware(func(*http.Request) string { return requestctx.DefaultTenant })
	p.HTTP.Handle("/api/v1/query", mw.Wrap("query", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got, err := echo.CallStream(r.Context(), cc, "hello")
		_, _ = fmt.Fprint(w, got, err)
	})))
	base := "http://" + p.HTTP.Addr().String()

	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Serve(ctx) }()

	code, body := get(t, base+"/-/ready")
	require.Equal(t, 503, code, "the syncer is not there yet")
	require.Equal(t, "NOT OK", body)
	health := healthpb.NewHealthClient(cc)
	resp, err := health.Check(t.Context(), &healthpb.HealthCheckRequest{})
	require.NoError(t, err)
	require.Equal(t, healthpb.HealthCheckResponse_NOT_SERVING, resp.GetStatus())
	close(synced)
	require.Eventually(t, func() bool { code, _ := get(t, base+"/-/ready"); return code == 200 }, 10*time.Second, time.Millisecond)
	resp, err = health.Check(t.Context(), &healthpb.HealthCheckRequest{})
	require.NoError(t, err)
	require.Equal(t, healthpb.HealthCheckResponse_SERVING, resp.GetStatus())
	code, body = get(t, base+"/-/healthy")
	require.Equal(t, 200, code)
	require.Equal(t, "OK", body)
	_, body = get(t, base+"/api/v1/query")
	require.Equal(t, "hello<nil>", body)

	checkRecordedMetrics(t, p)
	code, body = get(t, base+"/metrics")
	require.Equal(t, 200, code)
	for _, family := range []string{"go_goroutines", "process_start_time_seconds", "thanos_build_info", `thanos_status{check="ready",component="query"} 1`} {
		require.Contains(t, body, family)
	}

	stop()
	require.NoError(t, <-done)
	require.NoError(t, p.Close())
	_, err = net.DialTimeout("tcp", p.HTTP.Addr().String(), time.Second)
	require.Error(t, err, "the address is free again")
	require.Contains(t, logs.String(), "logger=http msg=listening address="+p.HTTP.Addr().String())
	require.Contains(t, logs.String(), "logger=grpc msg=listening address="+srv.Addr().String())
	require.Contains(t, logs.String(), "logger=lifecycle msg=ready")
}

// checkRecordedMetrics compares type and label names of what the process exposes with what was
// recorded.
func checkRecordedMetrics(t *testing.T, p *Process) {
	t.Helper()
	families, err := p.Registry.Gather()
	require.NoError(t, err)
	have := map[string]string{}
	for _, f := range families {
		labels := map[string]bool{}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = true
			}
		}
		names := make([]string, 0, len(labels))
		for l := range labels {
			names = append(names, l)
		}
		slices.Sort(names)
		have[f.GetName()] = strings.ToLower(dto.MetricType_name[int32(f.GetType())]) + " " + strings.Join(names, ",")
	}
	for _, row := range readTSV(t, "metrics.tsv") {
		require.Equal(t, row[2]+" "+row[3], have[row[1]], row[1])
	}
}

func TestAServiceThatFailsBeforeServeLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	var logs lockedBuffer
	p, err := NewProcess(loopbackConfig("store"), &logs)
	require.NoError(t, err)
	_, err = p.GRPC(grpcserver.Options{})
	require.NoError(t, err)
	addr := p.HTTP.Addr().String()
	require.NoError(t, p.Close())
	l, err := net.Listen("tcp", addr)
	require.NoError(t, err)
	require.NoError(t, l.Close())
}

func TestAPortThatIsTakenIsNamed(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	cfg := loopbackConfig("store")
	cfg.HTTP.Address = l.Addr().String()
	_, err = NewProcess(cfg, io.Discard)
	require.ErrorContains(t, err, "--http-address="+l.Addr().String()+": ")

	cfg = loopbackConfig("store")
	cfg.GRPC.Address = l.Addr().String()
	p, err := NewProcess(cfg, io.Discard)
	require.NoError(t, err)
	defer p.Close()
	_, err = p.GRPC(grpcserver.Options{})
	require.ErrorContains(t, err, "--grpc-address="+l.Addr().String()+": ")
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
