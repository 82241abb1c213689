package tracing

import (
	"context"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/promontory-io/promontory/libs/service/internal/echo"
)

// traced serves an echo whose spans belong to tr, and returns a connection to it that makes spans too.
func traced(t *testing.T, tr *Tracing, h echo.Handler) *grpc.ClientConn {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := grpc.NewServer(grpc.StatsHandler(tr.ServerHandler()))
	h.Register(s)
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	cc, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithStatsHandler(tr.ClientHandler()))
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, cc.Close())
		s.Stop()
		<-done
	})
	return cc
}

func TestForcedTracingFollowsGRPCCallsThroughEveryProcess(t *testing.T) {
	t.Parallel()
	c := &collector{}
	tr := load(t, "type: OTLP\nconfig: {insecure: true, sampler_type: neversample, endpoint: \""+overGRPC(t, c)+"\"}")
	traceID := func(ctx context.Context, _ string) (string, error) {
		sc := trace.SpanContextFromContext(ctx)
		if !sc.IsSampled() {
			return "not sampled", nil
		}
		return sc.TraceID().String(), nil
	}
	inner := traced(t, tr, traceID)
	outer := traced(t, tr, func(ctx context.Context, text string) (string, error) { return echo.CallUnary(ctx, inner, text) })

	got, err := echo.CallUnary(t.Context(), outer, "")
	require.NoError(t, err)
	require.Equal(t, "not sampled", got)

	got, err = echo.CallUnary(Force(t.Context()), outer, "")
	require.NoError(t, err)
	require.Regexp(t, "^[0-9a-f]{32}$", got)

	got, err = echo.CallUnary(metadata.AppendToOutgoingContext(t.Context(), "X-Thanos-Force-Tracing", "1"), outer, "")
	require.NoError(t, err)
	require.Regexp(t, "^[0-9a-f]{32}$", got, "a client that makes no spans of its own may ask too")
	require.NoError(t, tr.Shutdown(t.Context()))
}
