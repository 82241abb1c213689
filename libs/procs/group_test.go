package procs

import (
	"context"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
)

// recorder keeps events as "name kind".
type recorder struct {
	mu     sync.Mutex
	events []string
}

func (r *recorder) add(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e.Name+" "+string(e.Kind))
}

func (r *recorder) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.events...)
}

func newGroup(t *testing.T) (*Group, *recorder) {
	t.Helper()
	rec := &recorder{}
	g := New(Config{LogDir: t.TempDir(), OnEvent: rec.add})
	t.Cleanup(func() { _ = g.Stop() })
	return g, rec
}

// helper is the spec of a process in one of the modes of help.
func helper(t *testing.T, name, mode string, after ...string) Spec {
	t.Helper()
	addrs, err := FreeAddrs(2)
	require.NoError(t, err)
	return Spec{
		Name: name, Binary: os.Args[0], Args: addrs, Env: []string{helperMode + "=" + mode}, After: after,
		Listen: []Address{{"HTTP", addrs[0]}}, Ready: "http://" + addrs[0] + "/", StartTimeout: 20 * time.Second, StopTimeout: 10 * time.Second,
	}
}

func TestGroupStartsInOrderOfNeedAndStopsInReverse(t *testing.T) {
	t.Parallel()
	g, rec := newGroup(t)
	require.NoError(t, g.Start(t.Context(), helper(t, "c", "serve", "b"), helper(t, "a", "serve"), helper(t, "b", "serve", "a")))
	for _, name := range []string{"a", "b", "c"} {
		require.NotZero(t, g.Process(name).PID(), name)
	}
	require.NoError(t, g.Stop())
	want := []string{
		"a starting", "a ready", "b starting", "b ready", "c starting", "c ready",
		"c stopping", "c stopped", "b stopping", "b stopped", "a stopping", "a stopped",
	}
	require.Empty(t, cmp.Diff(want, rec.all()))
}

func TestGroupStartsMoreProcessesLater(t *testing.T) {
	t.Parallel()
	g, _ := newGroup(t)
	require.NoError(t, g.Start(t.Context(), helper(t, "a", "serve")))
	require.NoError(t, g.Start(t.Context(), helper(t, "b", "serve", "a")))
	require.ErrorContains(t, g.Start(t.Context(), helper(t, "b", "serve")), "more than one process is named b")
}

func TestStartSaysWhatIsWrongWithTheList(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		specs []Spec
		want  []string
	}{
		{name: "two of one name", specs: []Spec{{Name: "a"}, {Name: "a"}}, want: []string{"more than one process is named a"}},
		{name: "no name", specs: []Spec{{Binary: "x"}}, want: []string{`a process without a name (binary "x")`}},
		{
			name: "unknown needs", specs: []Spec{{Name: "a", After: []string{"x"}}, {Name: "b", After: []string{"y"}}},
			want: []string{"a waits for x", "b waits for y"},
		},
		{
			name: "circle", specs: []Spec{{Name: "a", After: []string{"b"}}, {Name: "b", After: []string{"a"}}, {Name: "c"}},
			want: []string{"wait for each other: [a b]"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			err := New(Config{LogDir: t.TempDir()}).Start(t.Context(), tc.specs...)
			for _, want := range tc.want {
				require.ErrorContains(t, err, want)
			}
		})
	}
}

func TestStartReportsTheLastWordsOfAProcessThatEnds(t *testing.T) {
	t.Parallel()
	g, _ := newGroup(t)
	err := g.Start(t.Context(), helper(t, "querier", "fail"), helper(t, "never", "serve", "querier"))
	require.ErrorContains(t, err, "querier died: exit status 3")
	require.ErrorContains(t, err, "the disk is on fire")
	require.Nil(t, g.Process("never"), "what waits for a dead process must not start")
}

func TestStartReportsWhatAProcessSaysThatDoesNotBecomeReady(t *testing.T) {
	t.Parallel()
	g, _ := newGroup(t)
	spec := helper(t, "querier", "unready")
	spec.StartTimeout = 500 * time.Millisecond
	err := g.Start(t.Context(), spec)
	require.ErrorContains(t, err, "querier is not ready after 500ms")
	require.ErrorContains(t, err, "503 Service Unavailable still loading")
}

func TestStartEndsWithItsContext(t *testing.T) {
	t.Parallel()
	g, _ := newGroup(t)
	ctx, cancel := context.WithCancel(t.Context())
	spec := helper(t, "querier", "unready")
	done := make(chan error, 1)
	go func() { done <- g.Start(ctx, spec) }()
	require.Eventually(t, func() bool { p := g.Process("querier"); return p != nil && p.PID() != 0 }, 10*time.Second, 10*time.Millisecond)
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	require.NoError(t, g.Stop())
}

func TestStartReportsABinaryThatIsNotThere(t *testing.T) {
	t.Parallel()
	g, _ := newGroup(t)
	err := g.Start(t.Context(), Spec{Name: "querier", Binary: "/nowhere/querier"})
	require.ErrorContains(t, err, "start querier: ")
	require.ErrorContains(t, err, "/nowhere/querier")
}

func TestWaitNamesWhoDiedAndIsSilentAboutWhoWasStopped(t *testing.T) {
	t.Parallel()
	g, _ := newGroup(t)
	require.NoError(t, g.Start(t.Context(), helper(t, "a", "serve"), helper(t, "b", "serve"), helper(t, "c", "serve")))
	g.Process("a").Kill()
	require.NoError(t, g.Process("c").Stop())
	require.NoError(t, g.Process("b").Signal(syscall.SIGKILL))
	err := g.Wait(t.Context())
	require.ErrorContains(t, err, "b died: signal: killed")
	require.ErrorContains(t, err, "mode serve")
}

func TestWaitEndsWithItsContext(t *testing.T) {
	t.Parallel()
	g, _ := newGroup(t)
	require.NoError(t, g.Start(t.Context(), helper(t, "a", "serve")))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, g.Wait(ctx))
}

func TestStopKillsWhoDoesNotListen(t *testing.T) {
	t.Parallel()
	g, rec := newGroup(t)
	spec := helper(t, "deaf", "deaf")
	spec.StopTimeout = 300 * time.Millisecond
	require.NoError(t, g.Start(t.Context(), spec))
	err := g.Stop()
	require.ErrorContains(t, err, "deaf did not stop within 300ms and was killed")
	require.Equal(t, "deaf killed", rec.all()[len(rec.all())-1])
	requireFree(t, spec.Listen[0].Addr)
}

func TestNothingOutlivesAProcess(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*Process) error{
		"stopped": (*Process).Stop,
		"killed":  func(p *Process) error { p.Kill(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, _ := newGroup(t)
			spec := helper(t, "parent", "parent")
			require.NoError(t, g.Start(t.Context(), spec))
			require.Empty(t, waitProbe(t, "http://"+spec.Args[1]), "the child serves")
			require.NoError(t, end(g.Process("parent")))
			requireFree(t, spec.Args[1])
		})
	}
}

func TestProcessesDieWithTheirSupervisor(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has a signal for the death of the parent")
	}
	g, _ := newGroup(t)
	spec := helper(t, "supervisor", "group")
	spec.Args = append(spec.Args, t.TempDir())
	require.NoError(t, g.Start(t.Context(), spec))
	require.Empty(t, probe(t.Context(), "http://"+spec.Args[1]), "the grandchild serves")
	require.NoError(t, g.Process("supervisor").Signal(syscall.SIGKILL))
	requireFree(t, spec.Args[1])
}

func TestProcessStartsAgainInItsLog(t *testing.T) {
	t.Parallel()
	g, _ := newGroup(t)
	require.NoError(t, g.Start(t.Context(), helper(t, "a", "serve")))
	p := g.Process("a")
	first := p.PID()
	require.ErrorContains(t, p.Start(t.Context()), "it runs")
	require.NoError(t, p.Stop())
	require.Zero(t, p.PID())
	line, err := p.WaitLog(t.Context(), "bye")
	require.NoError(t, err)
	require.Equal(t, "bye", line)

	require.NoError(t, p.Start(t.Context()))
	require.NotEqual(t, first, p.PID())
	lines, err := p.Tail(5)
	require.NoError(t, err)
	require.Equal(t, []string{"mode serve"}, lines, "only the words of this run")
	text, err := os.ReadFile(p.LogPath())
	require.NoError(t, err)
	require.Equal(t, "mode serve\nbye\nmode serve\n", string(text))
}

func TestWaitLogSaysThatTheProcessEndedWithoutTheWords(t *testing.T) {
	t.Parallel()
	g, _ := newGroup(t)
	require.NoError(t, g.Start(t.Context(), helper(t, "a", "serve")))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := g.Process("a").WaitLog(ctx, "never said")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NoError(t, g.Process("a").Stop())
	_, err = g.Process("a").WaitLog(t.Context(), "never said")
	require.ErrorContains(t, err, `a ended and its log never said "never said"`)
}

func TestLogOfAnEarlierGroupIsSetAside(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for range 2 {
		g := New(Config{LogDir: dir})
		require.NoError(t, g.Start(t.Context(), helper(t, "a", "serve")))
		require.NoError(t, g.Stop())
	}
	for _, name := range []string{"/a.log", "/a.log.old"} {
		text, err := os.ReadFile(dir + name)
		require.NoError(t, err)
		require.Equal(t, "mode serve\nbye\n", string(text), name)
	}
}

// waitProbe probes url until it answers 200.
func waitProbe(t *testing.T, url string) (said string) {
	t.Helper()
	require.Eventually(t, func() bool { said = probe(t.Context(), url); return said == "" }, 10*time.Second, 20*time.Millisecond, url)
	return said
}

// requireFree waits until nobody listens on addr: a killed process' socket goes a moment after it.
func requireFree(t *testing.T, addr string) {
	t.Helper()
	require.Eventually(t, func() bool {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return !strings.Contains(err.Error(), "in use")
		}
		return l.Close() == nil
	}, 10*time.Second, 20*time.Millisecond, addr)
}
