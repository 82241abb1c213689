// Package promtest runs a real Prometheus server for tests.
package promtest

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/procs"
)

// Wait is how long tests wait for something that is due at once.
const Wait = 30 * time.Second

// Options say what the server is like.
type Options struct {
	// External are its external labels.
	External labels.Labels
	// Config is the rest of its configuration, after the global section; indented as a file.
	Config string
	// Args are given beside those that each server gets, or in place of them.
	Args []string
	// Binary is the server to run; empty means that of [Binary].
	Binary string
	// Prepare, where it is set, is called with the data folder before the server starts.
	Prepare func(dataDir string)
}

// Server is a running Prometheus.
type Server struct {
	// URL is where it answers, Dir its folder, with data and prometheus.yml in it.
	URL *url.URL
	Dir string
	*procs.Process
}

// DataDir is the folder with its data.
func (s *Server) DataDir() string { return filepath.Join(s.Dir, "data") }

// ConfigFile is its configuration.
func (s *Server) ConfigFile() string { return filepath.Join(s.Dir, "prometheus.yml") }

// WriteConfig writes the configuration; the server sees it when it is reloaded.
func (s *Server) WriteConfig(tb testing.TB, external labels.Labels, rest string) {
	tb.Helper()
	require.NoError(tb, os.WriteFile(s.ConfigFile(), []byte(Config(external, rest)), 0o644))
}

// Config is a configuration with external labels and rest after the global section.
func Config(external labels.Labels, rest string) string {
	var b strings.Builder
	b.WriteString("global:\n  scrape_interval: 1s\n  evaluation_interval: 1s\n")
	if !external.IsEmpty() {
		b.WriteString("  external_labels:\n")
		external.Range(func(l labels.Label) { fmt.Fprintf(&b, "    %s: %q\n", l.Name, l.Value) })
	}
	return b.String() + rest
}

// Binary is the path of the server; the test is skipped when it is not built.
func Binary(tb testing.TB) string {
	tb.Helper()
	if path := os.Getenv("PROMETHEUS_BIN"); path != "" {
		return path
	}
	dir, err := os.Getwd()
	require.NoError(tb, err)
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err != nil {
			continue
		}
		path := filepath.Join(dir, ".bin", "prometheus")
		if _, err := os.Stat(path); err != nil {
			tb.Skipf("no Prometheus to test with: %s is missing (make peers builds it; PROMETHEUS_BIN names another)", path)
		}
		return path
	}
	tb.Skip("no Prometheus to test with: not within the repository, and PROMETHEUS_BIN is not set")
	return ""
}

// Start runs a server until the test ends.
func Start(tb testing.TB, opts Options) *Server {
	tb.Helper()
	binary := opts.Binary
	if binary == "" {
		binary = Binary(tb)
	}
	addrs, err := procs.FreeAddrs(1)
	require.NoError(tb, err)
	s := &Server{URL: &url.URL{Scheme: "http", Host: addrs[0]}, Dir: tb.TempDir()}
	require.NoError(tb, os.MkdirAll(s.DataDir(), 0o755))
	s.WriteConfig(tb, opts.External, opts.Config)
	if opts.Prepare != nil {
		opts.Prepare(s.DataDir())
	}
	group := procs.New(procs.Config{LogDir: filepath.Join(s.Dir, "logs")})
	tb.Cleanup(func() {
		require.NoError(tb, group.Stop())
	})
	args := slices.Clone(opts.Args)
	for _, arg := range []string{
		"--config.file=" + s.ConfigFile(), "--storage.tsdb.path=" + s.DataDir(), "--web.listen-address=" + addrs[0],
		"--storage.tsdb.min-block-duration=2h", "--storage.tsdb.max-block-duration=2h", "--storage.tsdb.retention.time=100y",
		"--web.enable-lifecycle", "--web.enable-remote-write-receiver", "--enable-feature=exemplar-storage",
	} {
		name, _, _ := strings.Cut(arg, "=")
		if !slices.ContainsFunc(opts.Args, func(own string) bool { return strings.HasPrefix(own, name+"=") }) {
			args = append(args, arg)
		}
	}
	err = group.Start(context.Background(), procs.Spec{
		Name: "prometheus", Binary: binary, Source: "make peers", Args: args,
		Ready: s.URL.String() + "/-/ready", StopTimeout: Wait,
	})
	require.NoError(tb, err)
	s.Process = group.Process("prometheus")
	return s
}

// Get returns what the server answers to a GET.
func (s *Server) Get(tb testing.TB, path string) string {
	tb.Helper()
	req, err := http.NewRequestWithContext(tb.Context(), http.MethodGet, s.URL.String()+path, nil)
	require.NoError(tb, err)
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	require.NoError(tb, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(tb, err)
	require.Equal(tb, http.StatusOK, resp.StatusCode, "%s: %s", path, body)
	return string(body)
}
