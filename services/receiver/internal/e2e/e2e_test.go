package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/procs"
)

// howLong is for how long a cluster is under load: seconds, or what PROMONTORY_E2E_SECONDS says.
func howLong(t testing.TB) time.Duration {
	t.Helper()
	if testing.Short() {
		t.Skip("starts processes")
	}
	if s := os.Getenv("PROMONTORY_E2E_SECONDS"); s != "" {
		n, err := strconv.Atoi(s)
		require.NoError(t, err)
		return time.Duration(n) * time.Second
	}
	return 8 * time.Second
}

// under runs f while the cluster is under load, and returns what the sender saw.
func under(t *testing.T, l *load, url string, f func(*outcome)) *outcome {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	o := &outcome{answers: map[int]int{}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.run(ctx, url, 50*time.Millisecond, o)
	}()
	defer func() {
		cancel()
		<-done
	}()
	o.more(t, 2)
	f(o)
	o.more(t, 2)
	return o
}

func (c *cluster) url() string { return "http://" + c.router.write + "/api/v1/receive" }

func TestWhatIsAcknowledgedSurvivesTheDeathOfAnyIngester(t *testing.T) {
	d := howLong(t)
	c := start(t, 3, 3)
	l := newLoad(2000, 500)
	deaths := 0
	o := under(t, l, c.url(), func(o *outcome) {
		for end := time.Now().Add(d); time.Now().Before(end); deaths++ {
			n := c.ingesters[rand.IntN(3)]
			n.Kill()
			o.more(t, rand.IntN(4)) // while it is gone
			require.NoError(t, n.Start(t.Context()))
		}
	})
	t.Logf("%d deaths, %d rounds of %d series, answers %v", deaths, len(o.rounds), len(l.labels), o.answers)
	require.NotEmpty(t, o.rounds)
	require.Zero(t, l.lost(t, o, found(t, c.ingesters...)), "acknowledged samples that are gone")
}

func TestARollingRestartCostsNoWrite(t *testing.T) {
	d := howLong(t)
	c := start(t, 3, 3)
	l := newLoad(2000, 500)
	o := under(t, l, c.url(), func(o *outcome) {
		for end := time.Now().Add(d); time.Now().Before(end); {
			for _, n := range c.ingesters {
				require.NoError(t, n.Stop())
				o.more(t, 1)
				require.NoError(t, n.Start(t.Context()))
				o.more(t, 1)
			}
		}
	})
	t.Logf("%d rounds, answers %v", len(o.rounds), o.answers)
	require.Empty(t, o.firstBad)
	require.Len(t, o.answers, 1)
	require.Zero(t, l.lost(t, o, found(t, c.ingesters...)))
}

// A router that stops answers what it has taken; one that is killed leaves its senders to ask again. Neither loses
// what was acknowledged.
func TestARouterMayBeStoppedOrKilledAtAnyTime(t *testing.T) {
	d := howLong(t)
	c := start(t, 3, 3)
	l := newLoad(2000, 500)
	stops := 0
	o := under(t, l, c.url(), func(o *outcome) {
		for end := time.Now().Add(d); time.Now().Before(end); stops++ {
			if stops%2 == 0 {
				require.NoError(t, c.router.Stop())
			} else {
				c.router.Kill()
			}
			require.NoError(t, c.router.Start(t.Context()))
			o.more(t, 2)
		}
	})
	t.Logf("%d stops, %d rounds, answers %v", stops, len(o.rounds), o.answers)
	for code := range o.answers {
		require.Contains(t, []int{0, http.StatusNoContent}, code, "no answer or a good one: %s", o.firstBad)
	}
	require.Zero(t, l.lost(t, o, found(t, c.ingesters...)))
}

func TestARingGrowsUnderLoad(t *testing.T) {
	_ = howLong(t)
	c := start(t, 3, 3)
	l := newLoad(2000, 500)
	o := under(t, l, c.url(), func(o *outcome) {
		bin, err := binary()
		require.NoError(t, err)
		c.addIngester(bin)
		c.addIngester(bin)
		c.setRing(c.ingesters...)
		require.Eventually(t, func() bool {
			return metric(t, c.ingesters[4], `prometheus_tsdb_head_series{tenant="default-tenant"}`) > 0
		}, time.Minute, 50*time.Millisecond)
		o.more(t, 10)
	})
	t.Logf("%d rounds, answers %v", len(o.rounds), o.answers)
	require.Empty(t, o.firstBad)
	require.Zero(t, l.lost(t, o, found(t, c.ingesters...)))
}

func TestANodeWhoseDiskIsFullRefusesAndTheOthersGoOn(t *testing.T) {
	_ = howLong(t)
	bin, err := binary()
	require.NoError(t, err)
	// A limit on the size of files fails the writes of the log as a full disk does.
	limited := filepath.Join(t.TempDir(), "limited")
	require.NoError(t, os.WriteFile(limited, []byte("#!/bin/sh\nulimit -f 64\nexec "+bin+" \"$@\"\n"), 0o700)) //nolint:gosec // it is run
	c := start(t, 2, 3-2)                                                                                      // the ring is set below, once the third is there
	c.addIngester(limited, "--no-tsdb.wal-compression")
	c.replicas = 3
	c.setRing(c.ingesters...)
	c.router = c.add(bin, "router-3", "--receive.hashrings-file="+c.ringPath, "--receive.hashrings-algorithm=ketama", "--receive.replication-factor=3")
	l := newLoad(2000, 500)
	o := under(t, l, c.url(), func(o *outcome) {
		require.Eventually(t, func() bool { return metric(t, c.ingesters[2], "promontory_receiver_failed_commits_total") > 0 }, 30*time.Second, 50*time.Millisecond)
		o.more(t, 20) // while it is full
	})
	t.Logf("%d rounds, answers %v", len(o.rounds), o.answers)
	require.Empty(t, o.firstBad)
	require.Zero(t, l.lost(t, o, found(t, c.ingesters[:2]...)))
	require.NotZero(t, c.ingesters[2].PID(), "it is still there")
}

// metric reads one metric without labels.
func metric(t testing.TB, n *node, name string) float64 {
	t.Helper()
	resp, err := http.Get("http://" + n.http + "/metrics")
	if err != nil {
		return -1
	}
	defer resp.Body.Close()
	var v float64
	for line := range linesOf(resp.Body) {
		if _, err := fmt.Sscanf(line, name+" %g", &v); err == nil {
			return v
		}
	}
	return -1
}

func TestARealPrometheusWritesInBothVersions(t *testing.T) {
	_ = howLong(t)
	prom, err := filepath.Abs("../../../../.bin/prometheus")
	require.NoError(t, err)
	if _, err := os.Stat(prom); err != nil {
		t.Skip("no Prometheus: ", err)
	}
	c := start(t, 3, 3)
	addrs, err := procs.FreeAddrs(1)
	require.NoError(t, err)
	cfg := filepath.Join(c.dir, "prometheus.yml")
	text := "global: {scrape_interval: 1s}\nscrape_configs:\n- {job_name: self, static_configs: [{targets: ['" + addrs[0] + "']}]}\nremote_write:\n"
	for tenant, message := range map[string]string{"v1": "prometheus.WriteRequest", "v2": "io.prometheus.write.v2.Request"} {
		text += fmt.Sprintf("- {url: '%s', protobuf_message: %s, headers: {THANOS-TENANT: %s}, queue_config: {batch_send_deadline: 500ms}}\n", c.url(), message, tenant)
	}
	require.NoError(t, os.WriteFile(cfg, []byte(text), 0o600))
	require.NoError(t, c.group.Start(t.Context(), procs.Spec{
		Name: "prometheus", Binary: prom, Ready: "http://" + addrs[0] + "/-/ready",
		Args: []string{"--config.file=" + cfg, "--storage.tsdb.path=" + filepath.Join(c.dir, "prometheus"), "--web.listen-address=" + addrs[0]},
	}))
	series := func(n *node, tenant string) int {
		resp, err := http.Get("http://" + n.write + "/api/v1/status/tsdb?all_tenants=true")
		if err != nil {
			return 0
		}
		defer resp.Body.Close()
		var out struct {
			Data []struct {
				Tenant    string
				HeadStats struct{ NumSeries int }
			}
		}
		require.NoError(t, json.NewDecoder(resp.Body).Decode(&out))
		for _, d := range out.Data {
			if d.Tenant == tenant {
				return d.HeadStats.NumSeries
			}
		}
		return 0
	}
	for _, tenant := range []string{"v1", "v2"} {
		require.Eventually(t, func() bool {
			n := series(c.ingesters[0], tenant)
			return n > 500 && n == series(c.ingesters[1], tenant) && n == series(c.ingesters[2], tenant)
		}, 40*time.Second, 100*time.Millisecond, "three nodes and three replicas: all have every series of %s", tenant)
	}
}
