package up

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/promontory-io/promontory/libs/procs"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.yaml.in/yaml/v3"
)

// output is what Run prints; it may be read while Run goes on.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// testConfig is that of a stack of pretenders in fresh folders, with a short history.
func testConfig(t *testing.T) Config {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	c := DefaultConfig()
	dir := t.TempDir()
	c.BinDir, c.PeersDir, c.DataDir = filepath.Join(dir, "bin"), filepath.Join(dir, "peers"), filepath.Join(dir, "data")
	require.NoError(t, os.MkdirAll(c.BinDir, 0o755))
	require.NoError(t, os.MkdirAll(c.PeersDir, 0o755))
	for _, name := range []string{"querier", "sidecar", "store-gateway", "receiver", "ruler"} {
		require.NoError(t, os.Symlink(self, filepath.Join(c.BinDir, name)))
	}
	for _, name := range []string{"prometheus", "alertmanager"} {
		require.NoError(t, os.Symlink(self, filepath.Join(c.PeersDir, name)))
	}
	c.BasePort = freeBasePort(t)
	c.History, c.HistoryInterval = 3*time.Hour, 5*time.Minute
	return c
}

// freeBasePort finds a port with a whole stack's ports free behind it.
func freeBasePort(t *testing.T) int {
	t.Helper()
	for range 100 {
		addrs, err := procs.FreeAddrs(1)
		require.NoError(t, err)
		_, text, err := net.SplitHostPort(addrs[0])
		require.NoError(t, err)
		port, err := strconv.Atoi(text)
		require.NoError(t, err)
		free := true
		for _, setUp := range []string{SetUpSidecar, SetUpReceive} {
			l := layout{Config: Config{SetUp: setUp, BasePort: port, BinDir: "/bin", PeersDir: "/bin"}}
			var listens []procs.Spec
			for _, s := range specs(stack(l)) {
				listens = append(listens, procs.Spec{Name: s.Name, Binary: "/bin/sh", Listen: s.Listen})
			}
			free = free && procs.Preflight(listens...) == nil
		}
		if free {
			return port
		}
	}
	t.Fatal("no free ports for a stack")
	return 0
}

func TestOnceStartsChecksAndStops(t *testing.T) {
	t.Parallel()
	c := testConfig(t)
	c.Once = true
	var out output
	require.NoError(t, Run(t.Context(), c, zap.NewNop(), &out))
	text := out.String()
	for _, want := range []string{
		" blocks made in ", "prometheus-a   ready after", "querier        ready after",
		"answer         10 series, 10 points: sum by (job) (up)", "querier        stopped after", "demo-shop      stopped after",
	} {
		require.Contains(t, text, want)
	}
	require.Less(t, strings.Index(text, "querier        stopped"), strings.Index(text, "prometheus-a   stopped"), "stops in reverse order")
	log, err := os.ReadFile(filepath.Join(c.DataDir, "logs", "querier.log"))
	require.NoError(t, err)
	require.Contains(t, string(log), "--query.replica-label=replica --endpoint=")

	out = output{}
	require.NoError(t, Run(t.Context(), c, zap.NewNop(), &out))
	require.Contains(t, out.String(), "3h0m0s from an earlier run")
}

func TestHistoryThatWasInterruptedIsFinishedByTheNextRun(t *testing.T) {
	t.Parallel()
	c := testConfig(t)
	c.Once = true
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorContains(t, Run(ctx, c, zap.NewNop(), &output{}), "stopped before the answers were checked")
	l := layout{Config: c, data: c.DataDir}
	first, err := loadState(l, time.Now().Add(time.Hour))
	require.NoError(t, err)
	require.False(t, first.History.Complete)

	require.NoError(t, Run(t.Context(), c, zap.NewNop(), &output{}))
	second, err := loadState(l, time.Now())
	require.NoError(t, err)
	require.True(t, second.History.Complete)
	require.Equal(t, first.FirstRun, second.FirstRun, "history ends where the first run began")
}

func TestEndOfContextStopsTheStackWell(t *testing.T) {
	t.Parallel()
	c := testConfig(t)
	c.NoHistory = true
	ctx, cancel := context.WithCancel(t.Context())
	var out output
	done := make(chan error, 1)
	go func() { done <- Run(ctx, c, zap.NewNop(), &out) }()
	require.Eventually(t, func() bool { return strings.Contains(out.String(), "curl -s http://127.0.0.1:") }, 30*time.Second, 20*time.Millisecond)
	require.Contains(t, out.String(), "history        none")

	err := Run(t.Context(), c, zap.NewNop(), &output{})
	require.ErrorContains(t, err, "data folder "+c.DataDir+" is in use by another `promontory up` (pid "+strconv.Itoa(os.Getpid())+")")

	cancel()
	require.NoError(t, <-done)
	require.Contains(t, out.String(), "demo-shop      stopped after")
}

func TestDeathOfAProcessIsReportedWithItsLastWords(t *testing.T) {
	c := testConfig(t)
	c.NoHistory = true
	setBreak(t, "sidecar dies at once")
	err := Run(t.Context(), c, zap.NewNop(), &output{})
	require.ErrorContains(t, err, "sidecar-")
	require.ErrorContains(t, err, "died: exit status 2")
	require.ErrorContains(t, err, "no space left on device")
}

func TestOnceFailsWhereAnAnswerStaysWrong(t *testing.T) {
	c := testConfig(t)
	c.NoHistory, c.Once = true, true
	c.answersTimeout = time.Second
	setBreak(t, "querier answers nothing")
	var out output
	err := Run(t.Context(), c, zap.NewNop(), &out)
	require.ErrorContains(t, err, "query sum by (job) (up): the answer is empty")
	require.Contains(t, out.String(), "demo-shop      stopped after")
}

func setBreak(t *testing.T, what string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "break")
	require.NoError(t, os.WriteFile(path, []byte(what), 0o600))
	t.Setenv(breakFile, path)
}

func TestEverythingInTheWayIsNamedBeforeAnythingStarts(t *testing.T) {
	t.Parallel()
	c := testConfig(t)
	require.NoError(t, os.Remove(filepath.Join(c.BinDir, "querier")))
	require.NoError(t, os.Remove(filepath.Join(c.PeersDir, "prometheus")))
	taken, err := net.Listen("tcp", layout{Config: c}.addr(30))
	require.NoError(t, err)
	t.Cleanup(func() { _ = taken.Close() })
	err = Run(t.Context(), c, zap.NewNop(), &output{})
	require.ErrorContains(t, err, "querier, wanted by querier, is not there (make build)")
	require.ErrorContains(t, err, "prometheus, wanted by prometheus-a, is not there (make peers)")
	require.ErrorContains(t, err, "wanted by store-gateway HTTP, is in use")
	require.NoDirExists(t, filepath.Join(c.DataDir, "logs"))
}

func TestValidateNamesTheFlags(t *testing.T) {
	t.Parallel()
	c := Config{BasePort: 65535, HistoryInterval: time.Hour}
	err := c.Validate()
	for _, flag := range []string{"--ports 65535", "--history 0s", "--history-interval 1h", "--set-up : must be"} {
		require.ErrorContains(t, err, flag)
	}
	c = DefaultConfig()
	require.NoError(t, c.Validate())
}

func TestHistoryIsWrittenAsPrometheusWritesDurations(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{"2d": 48 * time.Hour, "1h30m": 90 * time.Minute, "1w": 168 * time.Hour, "36h": 36 * time.Hour} {
		c := DefaultConfig()
		fs := pflag.NewFlagSet("up", pflag.ContinueOnError)
		c.BindFlags(fs)
		require.Equal(t, "3d", fs.Lookup("history").DefValue)
		require.NoError(t, fs.Parse([]string{"--history=" + text}))
		require.Equal(t, want, c.History)
		require.ErrorContains(t, fs.Parse([]string{"--history=2 days"}), "--history")
	}
}

func TestStateOfALaterVersionIsRefused(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{"version 7": `{"version":7}`, "unexpected end": `{"version"`} {
		l := layout{data: t.TempDir()}
		require.NoError(t, os.WriteFile(l.statePath(), []byte(text), 0o600))
		_, err := loadState(l, time.Now())
		require.ErrorContains(t, err, name)
		require.ErrorContains(t, err, l.statePath())
	}
}

func TestPrometheusScrapesEverythingWithAJobAndTheShop(t *testing.T) {
	t.Parallel()
	l := layout{Config: Config{BasePort: 20000, BinDir: "/b", PeersDir: "/p"}, data: "/d"}
	text, err := yaml.Marshal(prometheusFile(l, stack(l), "b"))
	require.NoError(t, err)
	var c prometheusConfig
	require.NoError(t, yaml.Unmarshal(text, &c))
	require.Equal(t, map[string]string{"cluster": "demo", "replica": "b"}, c.Global.ExternalLabels)
	targets := map[string]int{}
	for _, s := range c.ScrapeConfigs {
		targets[s.JobName] += len(s.StaticConfigs)
	}
	require.Equal(t, map[string]int{
		"prometheus": 2, "sidecar": 2, "store-gateway": 1, "querier": 1, "frontend": 3, "catalog": 2, "checkout": 2, "node": 2,
		"ruler": 1, "alertmanager": 1,
	}, targets)
}

func TestQuerierAsksEveryStoreOfTheStack(t *testing.T) {
	t.Parallel()
	members := stack(layout{Config: Config{BasePort: 20000}})
	last := members[len(members)-1]
	require.Equal(t, "querier", last.Name)
	for _, want := range []string{"--endpoint=127.0.0.1:20012", "--endpoint=127.0.0.1:20022", "--endpoint=127.0.0.1:20031", "--endpoint=127.0.0.1:20004"} {
		require.Contains(t, last.Args, want)
	}
	require.Equal(t, []string{"sidecar-a", "sidecar-b", "store-gateway", "ruler"}, last.After)
}

func TestVerifyFindsWhatAnAnswerLacks(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		e       example
		points  map[string]int
		atLeast int
		want    string
	}{
		{name: "empty", want: "the answer is empty"},
		{name: "a job is missing", e: example{series: []model.Metric{{"job": "x"}, {"job": "y"}}}, points: map[string]int{`{job="x"}`: 1}, want: `no series {job="y"}`},
		{name: "replicas", points: map[string]int{`up{replica="a"}`: 1}, want: "not merged"},
		{name: "gaps", points: map[string]int{"x": 53}, atLeast: 54, want: "53 points, want at least 54"},
		{name: "full", points: map[string]int{"x": 54}, atLeast: 54},
	} {
		err := tc.e.verify(tc.points, tc.atLeast)
		if tc.want == "" {
			require.NoError(t, err, tc.name)
		} else {
			require.ErrorContains(t, err, tc.want, tc.name)
		}
	}
}

func TestPointsAreDemandedOfWhatHistoryCovers(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	ranged := example{span: 2 * time.Hour, step: time.Minute, history: true}
	for _, tc := range []struct {
		name    string
		e       example
		history past
		want    int
	}{
		{name: "all of the range", e: ranged, history: past{now.Add(-24 * time.Hour), now}, want: 108},
		{name: "the second hour", e: ranged, history: past{now.Add(-time.Hour), now}, want: 54},
		{name: "the first hour", e: ranged, history: past{now.Add(-24 * time.Hour), now.Add(-time.Hour)}, want: 54},
		{name: "too old", e: ranged, history: past{now.Add(-24 * time.Hour), now.Add(-23 * time.Hour)}, want: 0},
		{name: "no history", e: ranged, want: 0},
		{name: "instant query", e: example{history: true}, history: past{now.Add(-24 * time.Hour), now}, want: 0},
		{name: "live series", e: example{span: time.Hour, step: time.Minute}, history: past{now.Add(-24 * time.Hour), now}, want: 0},
	} {
		require.Equal(t, tc.want, tc.e.points(tc.history, now), tc.name)
	}
}
