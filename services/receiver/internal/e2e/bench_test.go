package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/promontory-io/promontory/libs/procs"
)

const (
	benchSeries     = 50_000
	benchPerRequest = 2_000
	benchRounds     = 20
)

// cpu is the processor time of a process so far.
func cpu(t testing.TB, pid int) time.Duration {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	require.NoError(t, err)
	fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	ticks := int64(0)
	for _, f := range fields[11:13] { // utime and stime
		n, err := strconv.ParseInt(f, 10, 64)
		require.NoError(t, err)
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond // 100 ticks a second
}

// peakMB is the peak resident memory of a process.
func peakMB(t testing.TB, pid int) float64 {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	require.NoError(t, err)
	for line := range strings.Lines(string(raw)) {
		var kb float64
		if _, err := fmt.Sscanf(line, "VmHWM: %f kB", &kb); err == nil {
			return kb / 1024
		}
	}
	return 0
}

// drive sends rounds to url and reports what each process spent on them, per million samples.
func drive(b *testing.B, l *load, url string, processes map[string]*procs.Process) {
	b.Helper()
	at := time.Now().Add(-time.Hour).UnixMilli()
	round := func(took *[]time.Duration) {
		at += 15_000
		bodies := make([][]byte, 0, len(l.labels)/l.perRequest)
		for from := 0; from < len(l.labels); from += l.perRequest {
			bodies = append(bodies, l.body(from, at))
		}
		var mu sync.Mutex
		var g errgroup.Group
		g.SetLimit(4)
		for _, body := range bodies {
			g.Go(func() error {
				start := time.Now()
				code, text := l.post(b.Context(), url, body)
				if code/100 != 2 {
					return fmt.Errorf("%d %s", code, text)
				}
				mu.Lock()
				*took = append(*took, time.Since(start))
				mu.Unlock()
				return nil
			})
		}
		require.NoError(b, g.Wait())
	}
	var ignored, took []time.Duration
	round(&ignored) // makes the series
	round(&ignored)
	before := map[string]time.Duration{}
	for name, p := range processes {
		before[name] = cpu(b, p.PID())
	}
	rounds := 0
	for b.Loop() {
		for range benchRounds {
			round(&took)
			rounds++
		}
	}
	millions := float64(rounds*len(l.labels)) / 1e6
	total := 0.0
	for name, p := range processes {
		spent := (cpu(b, p.PID()) - before[name]).Seconds() / millions
		total += spent
		b.ReportMetric(spent, name+"-cpu-s/M")
		b.ReportMetric(peakMB(b, p.PID()), name+"-MB")
	}
	b.ReportMetric(total, "all-cpu-s/M")
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
}

func BenchmarkOneNode(b *testing.B) {
	c := start(b, 1, 1)
	n := c.ingesters[0]
	drive(b, newLoad(benchSeries, benchPerRequest), "http://"+n.write+"/api/v1/receive", map[string]*procs.Process{"node": n.Process})
}

func BenchmarkRouterAndThree(b *testing.B) {
	c := start(b, 3, 3)
	ps := map[string]*procs.Process{"router": c.router.Process}
	for i, n := range c.ingesters {
		ps[fmt.Sprintf("ingester%d", i)] = n.Process
	}
	drive(b, newLoad(benchSeries, benchPerRequest), c.url(), ps)
}

func BenchmarkPrometheus(b *testing.B) {
	prom, err := filepath.Abs("../../../../.bin/prometheus")
	require.NoError(b, err)
	if _, err := os.Stat(prom); err != nil {
		b.Skip("no Prometheus: ", err)
	}
	dir := b.TempDir()
	addrs, err := procs.FreeAddrs(1)
	require.NoError(b, err)
	cfg := filepath.Join(dir, "prometheus.yml")
	require.NoError(b, os.WriteFile(cfg, []byte("global: {}\n"), 0o600))
	g := procs.New(procs.Config{LogDir: dir})
	b.Cleanup(func() { _ = g.Stop() })
	require.NoError(b, g.Start(b.Context(), procs.Spec{
		Name: "prometheus", Binary: prom, Ready: "http://" + addrs[0] + "/-/ready",
		Args: []string{"--config.file=" + cfg, "--storage.tsdb.path=" + filepath.Join(dir, "data"), "--web.listen-address=" + addrs[0], "--web.enable-remote-write-receiver"},
	}))
	drive(b, newLoad(benchSeries, benchPerRequest), "http://"+addrs[0]+"/api/v1/write", map[string]*procs.Process{"prometheus": g.Process("prometheus")})
}
