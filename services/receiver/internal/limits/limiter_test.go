package limits

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/limits"
)

const document = `
write:
  global:
    max_concurrency: 2
    meta_monitoring_url: "http://prometheus:9090"
    meta_monitoring_limit_query: "sum(x) by (tenant)"
  default:
    request:
      size_bytes_limit: 1024
      series_limit: 100
      samples_limit: 10
    head_series_limit: 1000
  tenants:
    big:
      request:
        series_limit: 0
        samples_limit: 500
      head_series_limit: 0
`

func newLimiter(t *testing.T, o Options) *Limiter {
	t.Helper()
	o.Logger, o.Registerer = zap.NewNop(), prometheus.NewRegistry()
	l, err := New(o)
	require.NoError(t, err)
	return l
}

func TestRequestsAreMeasured(t *testing.T) {
	t.Parallel()
	l := newLimiter(t, Options{Load: func() ([]byte, error) { return []byte(document), nil }})
	require.NoError(t, l.Size("a", 1024))
	require.ErrorIs(t, l.Size("a", 1025), ErrRequest)
	require.NoError(t, l.Content("a", 100, 10))
	require.ErrorIs(t, l.Content("a", 101, 1), ErrRequest)
	require.ErrorIs(t, l.Content("a", 1, 11), ErrRequest)
	require.NoError(t, l.Content("big", 1_000_000, 500))
	none := newLimiter(t, Options{})
	require.NoError(t, none.Size("a", 1<<40))
	require.NoError(t, none.HeadSeries("a"))
}

func TestActiveSeriesAreLimitedWhileTheirCountIsKnown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		type answer struct {
			counts map[string]uint64
			err    error
		}
		var next atomic.Pointer[answer]
		next.Store(&answer{counts: map[string]uint64{"a": 999, "big": 1 << 40}})
		l := newLimiter(t, Options{
			Load: func() ([]byte, error) { return []byte(document), nil },
			Count: func(context.Context, *limits.Config) (map[string]uint64, error) {
				a := next.Load()
				return a.counts, a.err
			},
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- l.Run(ctx) }()
		synctest.Wait()
		require.NoError(t, l.HeadSeries("a"))
		require.NoError(t, l.HeadSeries("big"))
		next.Store(&answer{counts: map[string]uint64{"a": 1000}})
		time.Sleep(countInterval + time.Second) // of the test's own clock
		synctest.Wait()
		require.ErrorIs(t, l.HeadSeries("a"), ErrHeadSeries)
		next.Store(&answer{err: errors.New("nobody answers")})
		time.Sleep(countInterval + time.Second)
		synctest.Wait()
		require.NoError(t, l.HeadSeries("a"), "nobody is held up by what is not known")
		cancel()
		require.NoError(t, <-done)
	})
}

func TestOnlySoManyAreHandledAtOnce(t *testing.T) {
	t.Parallel()
	l := newLimiter(t, Options{Load: func() ([]byte, error) { return []byte(document), nil }})
	first, err := l.Enter(t.Context())
	require.NoError(t, err)
	_, err = l.Enter(t.Context())
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err = l.Enter(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	got := make(chan error)
	go func() {
		_, err := l.Enter(t.Context())
		got <- err
	}()
	first()
	require.NoError(t, <-got)
}

func TestAChangedFileIsReadAndABrokenOneIsNot(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "limits.yaml")
	// As a ConfigMap does it: a file in the middle of being written has other limits than were meant.
	put := func(text string) {
		require.NoError(t, os.WriteFile(path+".new", []byte(text), 0o600))
		require.NoError(t, os.Rename(path+".new", path))
	}
	put("write: {default: {request: {series_limit: 1}}}")
	l := newLimiter(t, Options{Path: path, Load: func() ([]byte, error) { return os.ReadFile(path) }, Interval: time.Millisecond})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- l.Run(ctx) }()
	allowed := func(n int64) func() bool { return func() bool { return l.Content("t", n, 0) == nil } }
	require.False(t, allowed(2)())
	put("write: {default: {request: {series_limit: 2}}}")
	require.Eventually(t, allowed(2), 5*time.Second, time.Millisecond)
	put("write: {default: {request: {series_limit: broken}}}")
	put("write: {default: {request: {series_limit: 3}}}")
	require.Eventually(t, allowed(3), 5*time.Second, time.Millisecond)
	require.False(t, allowed(4)())
	cancel()
	require.NoError(t, <-done)

	_, err := New(Options{Load: func() ([]byte, error) { return []byte("x: 1"), nil }})
	require.ErrorContains(t, err, "--receive.limits-config:1")
}
