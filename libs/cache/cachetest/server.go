// Package cachetest starts real cache servers for tests.
package cachetest

import (
	"bufio"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Server is a memcached or redis-server that listens on Addr.
type Server struct {
	Addr string
	args []string
	cmd  *exec.Cmd
}

// Memcached starts a memcached, or skips the test where there is none.
func Memcached(t testing.TB) *Server {
	t.Helper()
	addr := freeAddr(t)
	_, port, err := net.SplitHostPort(addr)
	require.NoError(t, err)
	return start(t, addr, "memcached", "-l", "127.0.0.1", "-p", port, "-U", "0", "-m", "64", "-u", "nobody")
}

// Redis starts a redis-server with further arguments, or skips the test where there is none.
func Redis(t testing.TB, args ...string) *Server {
	t.Helper()
	addr := freeAddr(t)
	_, port, err := net.SplitHostPort(addr)
	require.NoError(t, err)
	args = append([]string{"redis-server", "--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no", "--dir", t.TempDir()}, args...)
	return start(t, addr, args...)
}

// Sentinel starts a sentinel that watches master under the name "main", or skips the test where there is none.
func Sentinel(t testing.TB, master *Server) *Server {
	t.Helper()
	host, port, err := net.SplitHostPort(master.Addr)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "sentinel.conf")
	require.NoError(t, writeFile(file, "sentinel monitor main "+host+" "+port+" 1\n"))
	addr := freeAddr(t)
	_, own, err := net.SplitHostPort(addr)
	require.NoError(t, err)
	return start(t, addr, "redis-server", file, "--sentinel", "--bind", "127.0.0.1", "--port", own)
}

func start(t testing.TB, addr string, args ...string) *Server {
	t.Helper()
	if _, err := exec.LookPath(args[0]); err != nil {
		t.Skipf("%s is not installed: %v", args[0], err)
	}
	s := &Server{Addr: addr, args: args}
	t.Cleanup(s.Kill)
	s.Start(t)
	return s
}

// Start starts the server again after Kill, empty, and waits until it listens.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	s.cmd = exec.Command(s.args[0], s.args[1:]...) //nolint:gosec // arguments of tests
	require.NoError(t, s.cmd.Start())
	require.Eventually(t, func() bool {
		conn, err := net.DialTimeout("tcp", s.Addr, time.Second)
		if err != nil {
			return false
		}
		return conn.Close() == nil
	}, 10*time.Second, 10*time.Millisecond, "%s does not listen", s.args[0])
}

// Kill ends the server at once.
func (s *Server) Kill() {
	if s.cmd != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
		s.cmd = nil
	}
}

// freeAddr returns an address where nobody listens.
func freeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, l.Close()) }()
	return l.Addr().String()
}

// Cluster makes a redis-server with cluster-enabled the one node of a cluster.
func Cluster(t testing.TB, s *Server) {
	t.Helper()
	conn, err := net.Dial("tcp", s.Addr)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()
	r := bufio.NewReader(conn)
	ask := func(command string) string {
		_, err := conn.Write([]byte(command + "\r\n"))
		require.NoError(t, err)
		line, err := r.ReadString('\n')
		require.NoError(t, err)
		return strings.TrimSpace(line)
	}
	require.Equal(t, "+OK", ask("CLUSTER ADDSLOTSRANGE 0 16383"))
	require.Eventually(t, func() bool { return ask("GET none") == "$-1" }, 10*time.Second, 10*time.Millisecond)
}
