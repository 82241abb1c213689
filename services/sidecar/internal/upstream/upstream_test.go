package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/promapi/promclient"
)

// fakeServer answers in memory, so that time can be a fake one too.
type fakeServer struct {
	mu      sync.Mutex
	config  string // YAML
	version string
	flags   string // JSON
	metrics string
	down    bool
	// missing are paths that answer 404.
	missing map[string]bool
	asked   map[string]int
}

func newFakeServer() *fakeServer {
	return &fakeServer{
		config: "global:\n  external_labels:\n    cluster: eu1\n    replica: a\n", version: "3.5.0", flags: `{"x":"y"}`,
		metrics: "prometheus_tsdb_lowest_timestamp_seconds 1.795427251e+09\n", missing: map[string]bool{}, asked: map[string]int{},
	}
}

func (f *fakeServer) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fakeServer) RoundTrip(r *http.Request) (*http.Response, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		return nil, errors.New("connection refused")
	}
	f.asked[r.URL.Path]++
	code, body := http.StatusOK, ""
	switch r.URL.Path {
	case "/api/v1/status/config":
		body = fmt.Sprintf(`{"status":"success","data":{"yaml":%q}}`, f.config)
	case "/api/v1/status/buildinfo":
		body = fmt.Sprintf(`{"status":"success","data":{"version":%q}}`, f.version)
	case "/api/v1/status/flags":
		body = fmt.Sprintf(`{"status":"success","data":%s}`, f.flags)
	case "/metrics":
		body = f.metrics
	}
	if f.missing[r.URL.Path] {
		code, body = http.StatusNotFound, "404 page not found"
	}
	return &http.Response{StatusCode: code, Body: io.NopCloser(strings.NewReader(body)), Request: r, Header: http.Header{}}, nil
}

type run struct {
	*Monitor
	server *fakeServer
	ready  []bool
	reg    *prometheus.Registry
	stop   context.CancelFunc
	done   chan error
}

// watch runs a monitor within a synctest bubble.
func watch(t *testing.T, server *fakeServer, change func(*Config)) *run {
	r := &run{server: server, reg: prometheus.NewRegistry(), done: make(chan error, 1)}
	cfg := Config{Interval: 30 * time.Second, Timeout: 30 * time.Second, ReadyTimeout: 10 * time.Minute}
	cfg.SetReady = func(ready bool) { r.ready = append(r.ready, ready) }
	if change != nil {
		change(&cfg)
	}
	base, err := url.Parse("http://user:secret@prometheus:9090/prom")
	require.NoError(t, err)
	base.Path = ""
	r.Monitor = New(cfg, promclient.New(base, promclient.Options{HTTP: &http.Client{Transport: server}}), zap.NewNop(), r.reg)
	ctx, cancel := context.WithCancel(t.Context())
	r.stop = cancel
	go func() { r.done <- r.Run(ctx) }()
	t.Cleanup(cancel)
	return r
}

func (r *run) started() bool {
	synctest.Wait()
	select {
	case <-r.Started():
		return true
	default:
		return false
	}
}

func (r *run) up(t *testing.T, want int) {
	t.Helper()
	require.NoError(t, testutil.GatherAndCompare(r.reg, strings.NewReader(fmt.Sprintf(`
# HELP thanos_sidecar_prometheus_up Whether Prometheus answered the last time it was asked: 1 for yes, 0 for no.
# TYPE thanos_sidecar_prometheus_up gauge
thanos_sidecar_prometheus_up %d
`, want)), "thanos_sidecar_prometheus_up"))
}

func TestTheStartLearnsAllThatRequestsDependOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := watch(t, newFakeServer(), nil)
		require.True(t, r.started())
		s, ok := r.State()
		require.True(t, ok)
		require.Equal(t, `{cluster="eu1", replica="a"}`, s.External.String())
		require.Equal(t, "3.5.0", s.Version.String())
		require.Equal(t, int64(1_795_427_251_000), s.Lowest)
		require.Equal(t, int64(1_795_427_251_000), r.MinTime())
		require.Zero(t, r.server.asked["/api/v1/status/flags"], "nobody wants to know them")
		require.Empty(t, r.ready, "the start is told by Started")
		r.up(t, 1)
		r.stop()
		require.NoError(t, <-r.done)
	})
}

func TestTheStartWaitsForPrometheus(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer()
		server.down = true
		r := watch(t, server, nil)
		require.False(t, r.started())
		_, ok := r.State()
		require.False(t, ok)
		time.Sleep(5 * time.Minute)
		require.False(t, r.started())
		r.up(t, 0)
		server.set(func() { server.down = false })
		time.Sleep(30 * time.Second)
		require.True(t, r.started())
		r.up(t, 1)
		r.stop()
		require.NoError(t, <-r.done)
	})
}

func TestAPrometheusThatDoesNotComeIsNamed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer()
		server.down = true
		began := time.Now()
		r := watch(t, server, nil)
		err := <-r.done
		require.Equal(t, 10*time.Minute, time.Since(began))
		require.ErrorContains(t, err, "Prometheus at http://user:xxxxx@prometheus:9090 was not ready within 10m0s (--prometheus.ready_timeout)")
		require.ErrorContains(t, err, "connection refused")
	})
}

func TestPrometheusWithoutExternalLabelsIsRefused(t *testing.T) {
	t.Parallel()
	for _, config := range []string{"", "global: {}", "global:\n  external_labels: {}"} {
		synctest.Test(t, func(t *testing.T) {
			server := newFakeServer()
			server.config = config
			err := <-watch(t, server, nil).done
			require.ErrorContains(t, err, "prometheus:9090 has no external labels: set global.external_labels")
		})
	}
}

func TestFlagsAreCheckedWhereSomebodyCares(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		missing bool
		err     error
		want    string
	}{
		{name: "they are fine"},
		{name: "they are refused", err: errors.New("compacts"), want: "Prometheus at http://user:xxxxx@prometheus:9090: compacts"},
		{name: "they are not told", missing: true, err: errors.New("must not be asked")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				server := newFakeServer()
				server.missing["/api/v1/status/flags"] = tc.missing
				r := watch(t, server, func(c *Config) {
					c.CheckFlags = func(f promclient.Flags) error {
						require.Equal(t, promclient.Flags{"x": "y"}, f)
						return tc.err
					}
				})
				if tc.want != "" {
					require.EqualError(t, <-r.done, tc.want)
					return
				}
				require.True(t, r.started())
			})
		})
	}
}

func TestServersThatAreNoPrometheusAreTakenAsTheyAre(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer()
		server.missing["/api/v1/status/buildinfo"] = true
		server.metrics = "some_other_metric 1\n"
		r := watch(t, server, nil)
		require.True(t, r.started())
		s, _ := r.State()
		require.Equal(t, Unknown, s.Lowest)
		require.False(t, s.Version.AtLeast(2, 24), "so old that it does not tell")
	})
}

func TestChangesAreNoticed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := watch(t, newFakeServer(), nil)
		require.True(t, r.started())
		r.server.set(func() {
			r.server.config = "global:\n  external_labels: {cluster: us1}\n"
			r.server.version = "3.6.1"
			r.server.metrics = "prometheus_tsdb_lowest_timestamp_seconds 9.223372036854776e+15\n"
		})
		time.Sleep(30 * time.Second)
		synctest.Wait()
		s, _ := r.State()
		require.Equal(t, `{cluster="us1"}`, s.External.String())
		require.Equal(t, "3.6.1", s.Version.String())
		require.Equal(t, Unknown, s.Lowest, "the database is empty")
		require.Empty(t, r.ready)
	})
}

func TestReadinessFollowsPrometheus(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := watch(t, newFakeServer(), nil)
		require.True(t, r.started())
		before := testutil.ToFloat64(r.metrics.lastHeartbeat)
		r.server.set(func() { r.server.down = true })
		time.Sleep(90 * time.Second)
		synctest.Wait()
		require.Equal(t, []bool{false}, r.ready)
		r.up(t, 0)
		require.InDelta(t, before, testutil.ToFloat64(r.metrics.lastHeartbeat), 0)
		_, ok := r.State()
		require.True(t, ok, "what was known stays known")
		_, ok = r.Labels()
		require.True(t, ok, "blocks that are there can be uploaded")
		r.server.set(func() { r.server.down = false })
		time.Sleep(30 * time.Second)
		synctest.Wait()
		require.Equal(t, []bool{false, true}, r.ready)
		r.up(t, 1)
		require.Greater(t, testutil.ToFloat64(r.metrics.lastHeartbeat), before)
	})
}

func TestLostExternalLabelsStopUploads(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := watch(t, newFakeServer(), nil)
		require.True(t, r.started())
		r.server.set(func() { r.server.config = "global: {}\n" })
		time.Sleep(30 * time.Second)
		synctest.Wait()
		require.Equal(t, []bool{false}, r.ready)
		_, ok := r.Labels()
		require.False(t, ok)
		s, _ := r.State()
		require.Equal(t, `{cluster="eu1", replica="a"}`, s.External.String(), "queries in flight keep what they had")
		r.up(t, 1)
		r.server.set(func() { r.server.config = "global: {external_labels: {cluster: eu1}}\n" })
		time.Sleep(30 * time.Second)
		synctest.Wait()
		lset, ok := r.Labels()
		require.True(t, ok)
		require.Equal(t, `{cluster="eu1"}`, lset.String())
		require.Equal(t, []bool{false, true}, r.ready)
	})
}

func TestTheOldestTimeIsTheLaterOfConfiguredAndStored(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mint := int64(math.MinInt64)
		r := watch(t, newFakeServer(), func(c *Config) { c.MinTime = func() int64 { return mint } })
		require.True(t, r.started())
		require.Equal(t, int64(1_795_427_251_000), r.MinTime())
		mint = 1_795_427_251_001
		require.Equal(t, mint, r.MinTime())
	})
}

func TestVersions(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][2]bool{ // at least 2.24, at least 3.1
		"2.23.9": {false, false}, "2.24.0": {true, false}, "v2.24.0-rc.1": {true, false}, "2.100.0": {true, false},
		"3.0.1": {true, false}, "3.1.0": {true, true}, "10.0": {true, true}, "1.8.2": {false, false}, "2.24-rc.0": {true, false}, "3.1+x": {true, true},
		// Built without a version, or by somebody else.
		"": {true, true}, "main": {true, true}, "a.b.c": {true, true}, "3.x": {true, true},
	} {
		v := ParseVersion(text)
		require.Equal(t, want, [2]bool{v.AtLeast(2, 24), v.AtLeast(3, 1)}, "version %q", text)
	}
	require.Equal(t, "unknown", ParseVersion("").String())
}
