package storeapi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/promontory-io/promontory/libs/chunks"
	"github.com/promontory-io/promontory/proto/gen/thanos"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// storeFunc is a Store whose Series is a function.
type storeFunc func(ctx context.Context, req *thanos.SeriesRequest, ms []*labels.Matcher, w *Writer) error

func (f storeFunc) Series(ctx context.Context, req *thanos.SeriesRequest, ms []*labels.Matcher, w *Writer) error {
	return f(ctx, req, ms, w)
}

func (f storeFunc) LabelNames(context.Context, *thanos.LabelNamesRequest, []*labels.Matcher) (*thanos.LabelNamesResponse, error) {
	return &thanos.LabelNamesResponse{Names: []string{"a", "b", "c"}}, nil
}

func (f storeFunc) LabelValues(_ context.Context, req *thanos.LabelValuesRequest, _ []*labels.Matcher) (*thanos.LabelValuesResponse, error) {
	return nil, fmt.Errorf("look at %s: %w", req.GetLabel(), ErrNotFound)
}

func serveStore(t testing.TB, store Store, cfg ServerConfig) *grpc.ClientConn {
	t.Helper()
	lis := bufconn.Listen(1 << 20)
	srv := grpc.NewServer(ServerOption())
	Register(srv, store, cfg)
	grpc_health_v1.RegisterHealthServer(srv, health.NewServer())
	served := make(chan error, 1)
	go func() { served <- srv.Serve(lis) }()
	conn, err := grpc.NewClient("passthrough:///store",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()), DialOption())
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, conn.Close())
		srv.Stop()
		require.NoError(t, <-served)
	})
	return conn
}

func anyRequest() *thanos.SeriesRequest {
	return &thanos.SeriesRequest{Matchers: []*thanos.LabelMatcher{{Name: "a", Value: "b"}}, ResponseBatchSize: 16}
}

func TestStreamCarriesSeriesWarningsHintsAndStats(t *testing.T) {
	conn := serveStore(t, storeFunc(func(_ context.Context, _ *thanos.SeriesRequest, ms []*labels.Matcher, w *Writer) error {
		require.Equal(t, `a="b"`, ms[0].String())
		for i := range 100 {
			lset := labels.FromStrings("i", fmt.Sprintf("%03d", i))
			if err := w.Series(lset, []chunks.AggrChunk{rawChunk(1, 2, "abc")}); err != nil {
				return err
			}
		}
		return w.Warning("something is missing")
	}), ServerConfig{})
	for _, ahead := range []int{0, 1, 20} {
		s := NewClient(conn).Series(t.Context(), anyRequest(), StreamOptions{Ahead: ahead, FrameTimeout: time.Minute})
		got := drain(s)
		require.NoError(t, s.Err())
		require.Len(t, got, 100)
		require.Equal(t, []string{"something is missing"}, s.Warnings())
		st := s.Stats()
		require.EqualValues(t, 8, st.Frames) // 7 batches and a warning
		require.EqualValues(t, 100, st.Series)
		require.EqualValues(t, 100, st.Chunks)
		require.Positive(t, st.FirstFrame)
		s.Close()
	}
}

func TestKindsOfErrorsSurviveTheHop(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.code.String(), func(t *testing.T) {
			conn := serveStore(t, storeFunc(func(context.Context, *thanos.SeriesRequest, []*labels.Matcher, *Writer) error {
				return fmt.Errorf("read block 01X: %w", kind.err)
			}), ServerConfig{})
			s := NewClient(conn).Series(t.Context(), anyRequest(), StreamOptions{})
			require.False(t, s.Next())
			require.ErrorIs(t, s.Err(), kind.err)
			require.ErrorContains(t, s.Err(), "read block 01X")
			require.Equal(t, kind.code, status.Code(s.Err()))
			require.Equal(t, kind.code, Code(s.Err()), "a second hop keeps the kind")
			s.Close()
		})
	}
	conn := serveStore(t, storeFunc(nil), ServerConfig{})
	_, err := NewClient(conn).LabelValues(t.Context(), &thanos.LabelValuesRequest{Label: "x"})
	require.ErrorIs(t, err, ErrNotFound)
	names, err := NewClient(conn).LabelNames(t.Context(), &thanos.LabelNamesRequest{Limit: 2})
	require.NoError(t, err)
	require.Equal(t, []string{"a", "b"}, names.GetNames())
}

func TestAStalledStoreIsLeftAfterTheFrameTimeout(t *testing.T) {
	conn := serveStore(t, storeFunc(func(ctx context.Context, _ *thanos.SeriesRequest, _ []*labels.Matcher, w *Writer) error {
		for i := range 16 {
			if err := w.Series(labels.FromStrings("i", fmt.Sprintf("%03d", i)), nil); err != nil {
				return err
			}
		}
		<-ctx.Done()
		return ctx.Err()
	}), ServerConfig{})
	for _, ahead := range []int{0, 4} {
		s := NewClient(conn).Series(t.Context(), anyRequest(), StreamOptions{Ahead: ahead, FrameTimeout: 50 * time.Millisecond})
		require.Len(t, drain(s), 16)
		require.ErrorIs(t, s.Err(), ErrFrameTimeout)
		s.Close()
	}
}

func TestClosingEarlyEndsTheCall(t *testing.T) {
	left := make(chan error, 2)
	conn := serveStore(t, storeFunc(func(ctx context.Context, _ *thanos.SeriesRequest, _ []*labels.Matcher, w *Writer) error {
		var err error
		for i := 0; err == nil; i++ {
			err = w.Series(labels.FromStrings("i", fmt.Sprintf("%012d", i)), []chunks.AggrChunk{rawChunk(1, 2, "abc")})
		}
		left <- err
		return err
	}), ServerConfig{})
	for _, ahead := range []int{0, 4} {
		s := NewClient(conn).Series(t.Context(), anyRequest(), StreamOptions{Ahead: ahead})
		require.True(t, s.Next())
		s.Close()
		s.Close()
		require.False(t, s.Next())
		require.Error(t, <-left)
	}
}

func TestACancelledCallerSeesItsCancellation(t *testing.T) {
	conn := serveStore(t, storeFunc(func(ctx context.Context, _ *thanos.SeriesRequest, _ []*labels.Matcher, _ *Writer) error {
		<-ctx.Done()
		return ctx.Err()
	}), ServerConfig{})
	for _, ahead := range []int{0, 4} {
		ctx, cancel := context.WithCancel(t.Context())
		s := NewClient(conn).Series(ctx, anyRequest(), StreamOptions{Ahead: ahead})
		cancel()
		require.False(t, s.Next())
		require.ErrorIs(t, s.Err(), context.Canceled)
		s.Close()
	}
}

func TestBadRequestsNeverReachTheStore(t *testing.T) {
	conn := serveStore(t, storeFunc(nil), ServerConfig{})
	for want, req := range map[string]*thanos.SeriesRequest{
		"ends (1) before it starts (2)": {MinTime: 2, MaxTime: 1},
		`job=~"("`:                      {Matchers: []*thanos.LabelMatcher{{Type: thanos.LabelMatcher_RE, Name: "job", Value: "("}}},
	} {
		s := NewClient(conn).Series(t.Context(), req, StreamOptions{})
		require.False(t, s.Next())
		require.ErrorIs(t, s.Err(), ErrInvalid)
		require.ErrorContains(t, s.Err(), want)
		s.Close()
	}
}

func TestARuntimeErrorBecomesAWarning(t *testing.T) {
	conn := serveStore(t, storeFunc(func(_ context.Context, req *thanos.SeriesRequest, ms []*labels.Matcher, w *Writer) error {
		if err := w.Series(labels.FromStrings("a", "1"), nil); err != nil {
			return err
		}
		few := make([]int, len(ms))
		_ = few[len(few)+int(req.GetMinTime())]
		return nil
	}), ServerConfig{})
	s := NewClient(conn).Series(t.Context(), anyRequest(), StreamOptions{})
	defer s.Close()
	require.Len(t, drain(s), 1)
	require.NoError(t, s.Err())
	require.Len(t, s.Warnings(), 1)
	require.Contains(t, s.Warnings()[0], "index out of range")
}

func TestServerLimitsAndObserver(t *testing.T) {
	var seen WriterStats
	var seenErr error
	reg := prometheus.NewRegistry()
	done := make(chan struct{}, 1)
	conn := serveStore(t, storeFunc(func(_ context.Context, _ *thanos.SeriesRequest, _ []*labels.Matcher, w *Writer) error {
		for i := range 10 {
			if err := w.Series(labels.FromStrings("i", fmt.Sprint(i)), nil); err != nil {
				return err
			}
		}
		return nil
	}), ServerConfig{Limits: Limits{Series: 4}, Registerer: reg, OnSeries: func(_ context.Context, st WriterStats, err error) {
		seen, seenErr = st, err
		done <- struct{}{}
	}})
	s := NewClient(conn).Series(t.Context(), anyRequest(), StreamOptions{})
	drain(s)
	require.Equal(t, codes.ResourceExhausted, status.Code(s.Err()))
	s.Close()
	<-done
	require.EqualValues(t, 5, seen.Series)
	require.ErrorIs(t, seenErr, ErrLimit)
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP thanos_store_selects_dropped_total Series calls that were refused because of a limit.
# TYPE thanos_store_selects_dropped_total counter
thanos_store_selects_dropped_total{reason="samples"} 0
thanos_store_selects_dropped_total{reason="series"} 1
`), "thanos_store_selects_dropped_total"))
}

func TestOtherServicesOfAServerStillWork(t *testing.T) {
	conn := serveStore(t, storeFunc(nil), ServerConfig{})
	resp, err := grpc_health_v1.NewHealthClient(conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
	require.NoError(t, err)
	require.Equal(t, grpc_health_v1.HealthCheckResponse_SERVING, resp.GetStatus())
}

func TestAnUnreachableStoreIsUnavailable(t *testing.T) {
	conn, err := grpc.NewClient("passthrough:///nobody",
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return nil, errors.New("nobody here") }),
		grpc.WithTransportCredentials(insecure.NewCredentials()), DialOption())
	require.NoError(t, err)
	defer conn.Close()
	s := NewClient(conn).Series(t.Context(), anyRequest(), StreamOptions{Ahead: 2})
	require.False(t, s.Next())
	require.ErrorIs(t, s.Err(), ErrUnavailable)
	s.Close()
}
