// Package harness starts real processes for tests and asks them questions.
//
// The central idea is a [Stack]: the processes of one test, in a folder of its own, on ports that nobody else uses,
// ended with the test. Each kind of process has a method that starts one and returns where it listens; what a test
// wants of it beyond that goes into further arguments, as an operator would write them.
package harness

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/promontory-io/promontory/libs/procs"
	"github.com/stretchr/testify/require"
)

// requireEnv set to anything makes a missing binary a failure instead of a skipped test: where the tests are the gate.
const requireEnv = "PROMONTORY_E2E_REQUIRED"

// binEnv names another folder than bin/ for our own programs, for who builds them elsewhere.
const binEnv = "PROMONTORY_E2E_BIN"

// Timeout is how long tests wait for something that should come soon.
const Timeout = time.Minute

// Stack is the processes of one test.
type Stack struct {
	t     testing.TB
	dir   string
	group *procs.Group
}

// New returns a stack without processes. What is started is stopped at the end of the test; when the test has failed,
// the last lines of every log go to its output.
func New(t testing.TB) *Stack {
	t.Helper()
	s := &Stack{t: t, dir: t.TempDir()}
	s.group = procs.New(procs.Config{LogDir: s.Dir("logs")})
	var names []string
	t.Cleanup(func() {
		names = s.names()
		if t.Failed() {
			s.logTails(names)
		}
		if err := s.group.Stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return s
}

// Dir is a path below the folder of the stack.
func (s *Stack) Dir(parts ...string) string {
	return filepath.Join(append([]string{s.dir}, parts...)...)
}

// Process is a process of the stack by name: to kill it, to start it again, to wait for words in its log.
func (s *Stack) Process(name string) *procs.Process {
	s.t.Helper()
	p := s.group.Process(name)
	require.NotNil(s.t, p, "no process is named %s", name)
	return p
}

// AwaitLog waits for a line with all parts in the log of a process and returns it.
func (s *Stack) AwaitLog(name string, parts ...string) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), Timeout)
	defer cancel()
	line, err := s.Process(name).WaitLog(ctx, parts[0])
	require.NoError(s.t, err, "no line with %q in the log of %s", parts[0], name)
	for _, part := range parts {
		require.Contains(s.t, line, part)
	}
	return line
}

// Start starts processes and returns when they are ready.
func (s *Stack) Start(specs ...procs.Spec) {
	s.t.Helper()
	require.NoError(s.t, s.TryStart(specs...))
}

// TryStart is Start for a test that wants to see the failure.
func (s *Stack) TryStart(specs ...procs.Spec) error {
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*Timeout)
	defer cancel()
	return s.group.Start(ctx, specs...)
}

func (s *Stack) names() []string {
	logs, err := filepath.Glob(s.Dir("logs", "*.log"))
	if err != nil {
		return nil
	}
	var names []string
	for _, log := range logs {
		names = append(names, filepath.Base(log[:len(log)-len(".log")]))
	}
	return names
}

func (s *Stack) logTails(names []string) {
	for _, name := range names {
		p := s.group.Process(name)
		if p == nil {
			continue
		}
		if lines, err := p.Tail(30); err == nil {
			for _, line := range lines {
				s.t.Logf("%s | %s", name, line)
			}
		}
	}
}

// Addrs returns n free addresses.
func Addrs(t testing.TB, n int) []string {
	t.Helper()
	addrs, err := procs.FreeAddrs(n)
	require.NoError(t, err)
	return addrs
}

// Binary returns the path of one of our own programs, Peer that of a real one of others. A test whose binary is not
// built is skipped, with the way to build it.
func Binary(t testing.TB, name string) string {
	t.Helper()
	return locate(t, "bin", name, "make build")
}

// Peer is Binary for a program of others: prometheus, promtool.
func Peer(t testing.TB, name string) string {
	t.Helper()
	return locate(t, ".bin", name, "make peers")
}

func locate(t testing.TB, folder, name, source string) string {
	t.Helper()
	path := filepath.Join(Root(t), folder, name)
	if other := os.Getenv(binEnv); other != "" && folder == "bin" {
		path = filepath.Join(other, name)
	}
	if _, err := os.Stat(path); err != nil {
		if os.Getenv(requireEnv) != "" {
			t.Fatalf("%s/%s is not built (%s): %v", folder, name, source, err)
		}
		t.Skipf("%s/%s is not built (%s)", folder, name, source)
	}
	return path
}

// Root is the root of the repository.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	require.NoError(t, err)
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		require.NotEqual(t, parent, dir, "no go.work above the test")
		dir = parent
	}
}

// Eventually calls f until it returns nil, and fails the test with f's last error when that takes too long.
func Eventually(t testing.TB, f func() error) {
	t.Helper()
	EventuallyWithin(t, Timeout, f)
}

// EventuallyWithin is Eventually with a time of its own.
func EventuallyWithin(t testing.TB, timeout time.Duration, f func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	poll := time.NewTicker(100 * time.Millisecond)
	defer poll.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("still after %s: %v", timeout, err)
		case <-poll.C:
		}
	}
}

// FreeBasePort returns the first of n ports in a row that nobody listens on.
func FreeBasePort(t testing.TB, n int) string {
	t.Helper()
	for range 100 {
		_, text, err := net.SplitHostPort(Addrs(t, 1)[0])
		require.NoError(t, err)
		base, err := strconv.Atoi(text)
		require.NoError(t, err)
		if allFree(base, n) {
			return text
		}
	}
	t.Fatalf("no %d free ports in a row", n)
	return ""
}

func allFree(base, n int) bool {
	for port := base; port < base+n; port++ {
		listener, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err != nil {
			return false
		}
		_ = listener.Close() // nothing was accepted or written
	}
	return true
}
