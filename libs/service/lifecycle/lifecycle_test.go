package lifecycle

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"
)

func TestMain(m *testing.M) {
	// The runtime keeps its signal goroutine once signals were asked for.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("os/signal.loop"))
}

func newTestGroup(grace time.Duration) (*Group, *Status) {
	s := NewStatus("test", nil)
	return NewGroup(zap.NewNop(), s, grace), s
}

// untilStopped is a part that notes when it stops.
func untilStopped(name string, stopped chan<- string) func(context.Context) error {
	return func(ctx context.Context) error {
		<-ctx.Done()
		stopped <- name
		return ctx.Err()
	}
}

func TestStatusIsExportedFromTheStart(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	s := NewStatus("query", reg)
	want := func(healthy, ready string) string {
		return `# HELP thanos_status Whether the component passes the check: 1 for yes, 0 for no.
# TYPE thanos_status gauge
thanos_status{check="healthy",component="query"} ` + healthy + `
thanos_status{check="ready",component="query"} ` + ready + "\n"
	}
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(want("0", "0")), "thanos_status"))
	s.SetHealthy(true)
	s.SetReady(true)
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(want("1", "1")), "thanos_status"))
	s.SetReady(false)
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(want("1", "0")), "thanos_status"))
}

func TestReadinessIsToldOncePerChange(t *testing.T) {
	t.Parallel()
	s := NewStatus("test", nil)
	var told []bool
	s.OnReadyChange(func(ready bool) { told = append(told, ready) })
	for _, ready := range []bool{true, true, false, false, true} {
		s.SetReady(ready)
	}
	require.Equal(t, []bool{false, true, false, true}, told)
}

func TestPartsStopInReverseOrderOnceReadinessIsGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g, s := newTestGroup(time.Minute)
		stopped := make(chan string, 10)
		g.Add("first", untilStopped("first", stopped))
		g.AddPart(Part{
			Name: "second",
			Run:  untilStopped("second", stopped),
			Stop: func(context.Context) error {
				require.False(t, s.Ready(), "not ready before the first part is stopped")
				stopped <- "stop of second"
				return nil
			},
		})
		g.Add("third", untilStopped("third", stopped))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- g.Run(ctx) }()
		synctest.Wait()
		require.True(t, s.Ready())
		require.True(t, s.Healthy())
		cancel()
		require.NoError(t, <-done)
		close(stopped)
		var got []string
		for name := range stopped {
			got = append(got, name)
		}
		require.Equal(t, []string{"third", "stop of second", "second", "first"}, got)
		require.False(t, s.Ready())
		require.False(t, s.Healthy())
	})
}

func TestTheFirstPartToEndEndsAll(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	for name, tc := range map[string]struct {
		ends error
		want string
	}{
		"with an error":    {boom, "bad: boom"},
		"without an error": {nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, _ := newTestGroup(time.Minute)
			stopped := make(chan string, 1)
			g.Add("good", untilStopped("good", stopped))
			g.Add("bad", func(context.Context) error { return tc.ends })
			err := g.Run(t.Context())
			if tc.want == "" {
				require.NoError(t, err)
			} else {
				require.EqualError(t, err, tc.want)
				require.ErrorIs(t, err, boom)
			}
			require.Equal(t, "good", <-stopped)
		})
	}
}

func TestReadinessWaitsForAllPartsThatHaveToGetReady(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g, s := newTestGroup(time.Minute)
		one, two := make(chan struct{}), make(chan struct{})
		wait := func(ctx context.Context) error { <-ctx.Done(); return nil }
		g.AddPart(Part{Name: "one", Run: wait, Ready: one})
		g.AddPart(Part{Name: "none", Run: wait})
		g.AddPart(Part{Name: "two", Run: wait, Ready: two})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- g.Run(ctx) }()
		synctest.Wait()
		require.True(t, s.Healthy())
		require.False(t, s.Ready())
		close(two)
		synctest.Wait()
		require.False(t, s.Ready())
		close(one)
		synctest.Wait()
		require.True(t, s.Ready())
		cancel()
		require.NoError(t, <-done)
	})
}

func TestAPartThatDoesNotStopIsNamedAfterTheGracePeriod(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g, _ := newTestGroup(2 * time.Minute)
		release := make(chan struct{})
		stopped := make(chan string, 1)
		g.Add("polite", untilStopped("polite", stopped))
		g.Add("deaf", func(context.Context) error { <-release; return nil })
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		start := time.Now()
		err := g.Run(ctx)
		require.ErrorIs(t, err, ErrGraceExceeded)
		require.ErrorContains(t, err, "deaf: ")
		require.Equal(t, 2*time.Minute, time.Since(start))
		require.Equal(t, "polite", <-stopped, "the others are stopped all the same")
		close(release)
	})
}

func TestWhatGoesWrongWhileStoppingIsReported(t *testing.T) {
	t.Parallel()
	g, _ := newTestGroup(time.Minute)
	flush, closing := errors.New("flush"), errors.New("close")
	g.AddPart(Part{
		Name: "db",
		Run:  func(ctx context.Context) error { <-ctx.Done(); return closing },
		Stop: func(context.Context) error { return flush },
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := g.Run(ctx)
	require.ErrorIs(t, err, flush)
	require.ErrorIs(t, err, closing)
}

// Signals are of the process: this test runs alone.
func TestSIGHUPReloadsAndOneFailingHookKeepsNoOtherFromRunning(t *testing.T) {
	g, _ := newTestGroup(time.Minute)
	g.AddReloadSignal()
	reloaded := make(chan struct{}, 1)
	g.OnReload("bad", func(context.Context) error { return errors.New("bad") })
	g.OnReload("good", func(context.Context) error { reloaded <- struct{}{}; return nil })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	for range 2 {
		require.NoError(t, syscall.Kill(syscall.Getpid(), syscall.SIGHUP))
		select {
		case <-reloaded:
		case <-time.After(10 * time.Second):
			t.Fatal("not reloaded")
		}
	}
	cancel()
	require.NoError(t, <-done)
}
