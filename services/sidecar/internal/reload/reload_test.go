package reload

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	// due is how long something may take that has to happen, tick how often it is looked at.
	due  = 20 * time.Second
	tick = 5 * time.Millisecond
)

// countingTrigger counts reloads and fails on demand.
type countingTrigger struct {
	mu      sync.Mutex
	reloads int
	err     error
}

func (c *countingTrigger) Method() string { return MethodHTTP }

func (c *countingTrigger) Reload(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reloads++
	return c.err
}

func (c *countingTrigger) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
}

func (c *countingTrigger) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reloads
}

type run struct {
	*Reloader
	trigger *countingTrigger
	done    chan error
}

// watch runs a reloader until the test ends.
func watch(t *testing.T, cfg Config) *run {
	t.Helper()
	r := &run{trigger: &countingTrigger{}, done: make(chan error, 1)}
	if cfg.RetryInterval == 0 {
		cfg.RetryInterval = 10 * time.Millisecond
	}
	r.Reloader = New(cfg, r.trigger, zap.NewNop(), nil)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { r.done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-r.done
	})
	return r
}

// reloaded waits until there were n reloads.
func (r *run) reloaded(t *testing.T, n int) {
	t.Helper()
	require.Eventually(t, func() bool { return r.trigger.count() >= n }, due, tick)
	require.Equal(t, n, r.trigger.count())
}

// roundAfter waits until the files were read once more because of what do does.
func (r *run) roundAfter(t *testing.T, do func()) {
	t.Helper()
	want := testutil.ToFloat64(r.metrics.applies) + 1
	do()
	require.Eventually(t, func() bool { return testutil.ToFloat64(r.metrics.applies) >= want }, due, tick)
}

func put(t *testing.T, name, content string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
	require.NoError(t, os.WriteFile(name, []byte(content), 0o644))
}

func TestPrometheusIsReloadedWhenContentChanges(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config, rules := filepath.Join(dir, "prometheus.yml"), filepath.Join(dir, "rules")
	put(t, config, "a: 1")
	put(t, filepath.Join(rules, "deep", "x.yml"), "groups: []")
	r := watch(t, Config{ConfigFile: config, RuleDirs: []string{rules}})
	r.reloaded(t, 1)
	require.InDelta(t, 1, testutil.ToFloat64(r.metrics.lastSuccessful), 0)
	require.Eventually(t, func() bool { return testutil.ToFloat64(r.metrics.watches) == 3 }, due, tick, "config's folder, rules, rules/deep")

	put(t, config, "a: 2")
	r.reloaded(t, 2)
	put(t, filepath.Join(rules, "deep", "x.yml"), "groups: [x]")
	r.reloaded(t, 3)
	put(t, filepath.Join(rules, "new", "y.yml"), "groups: []")
	r.reloaded(t, 4)
	require.NoError(t, os.Remove(filepath.Join(rules, "deep", "x.yml")))
	r.reloaded(t, 5)
	require.Positive(t, testutil.ToFloat64(r.metrics.watchEvents))

	// Same content, new file: an event and no reload.
	r.roundAfter(t, func() {
		put(t, config+".new", "a: 2")
		require.NoError(t, os.Rename(config+".new", config))
	})
	r.roundAfter(t, r.Kick)
	require.Equal(t, 5, r.trigger.count())
}

func TestFilesAreReadAgainWithoutEvents(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	// The events come from the folder of the link, where nothing happens.
	target, link := filepath.Join(dir, "elsewhere", "target.yml"), filepath.Join(dir, "watched", "prometheus.yml")
	put(t, target, "a: 1")
	require.NoError(t, os.MkdirAll(filepath.Dir(link), 0o755))
	require.NoError(t, os.Symlink(target, link))
	r := watch(t, Config{ConfigFile: link, WatchInterval: 50 * time.Millisecond})
	r.reloaded(t, 1)
	put(t, target, "a: 2")
	r.reloaded(t, 2)
}

func TestAFailedReloadIsTriedAgain(t *testing.T) {
	t.Parallel()
	config := filepath.Join(t.TempDir(), "prometheus.yml")
	put(t, config, "a: 1")
	r := watch(t, Config{ConfigFile: config, WatchInterval: time.Hour})
	r.reloaded(t, 1)
	r.trigger.fail(errors.New("bad configuration"))
	put(t, config, "a: 2")
	require.Eventually(t, func() bool { return r.trigger.count() >= 4 }, due, tick)
	require.InDelta(t, 0, testutil.ToFloat64(r.metrics.lastSuccessful), 0)
	require.GreaterOrEqual(t, testutil.ToFloat64(r.metrics.reloadsFailed), 3.0)
	require.GreaterOrEqual(t, testutil.ToFloat64(r.metrics.appliesFailed), 3.0)
	r.trigger.fail(nil)
	require.Eventually(t, func() bool { return testutil.ToFloat64(r.metrics.lastSuccessful) == 1 }, due, tick)
	n := r.trigger.count()
	r.roundAfter(t, r.Kick)
	require.Equal(t, n, r.trigger.count(), "once it worked that was it")
}

func TestEnvironmentVariablesAreFilledIn(t *testing.T) {
	t.Setenv("SIDECAR_TEST_REPLICA", "r $1")
	dir := t.TempDir()
	config, output := filepath.Join(dir, "prometheus.tmpl.yml"), filepath.Join(dir, "prometheus.yml")
	template := "replica: $(SIDECAR_TEST_REPLICA)\nleft: $SIDECAR_TEST_REPLICA ${SIDECAR_TEST_REPLICA} $(1)\n"
	want := "replica: r $1\nleft: $SIDECAR_TEST_REPLICA ${SIDECAR_TEST_REPLICA} $(1)\n"
	put(t, config, template)
	r := watch(t, Config{ConfigFile: config, OutputFile: output})
	r.reloaded(t, 1)
	got, err := os.ReadFile(output)
	require.NoError(t, err)
	require.Equal(t, want, string(got))

	// Compressed, with a change.
	var packed bytes.Buffer
	zw := gzip.NewWriter(&packed)
	_, err = zw.Write([]byte(template + "b: 2\n"))
	require.NoError(t, err)
	require.NoError(t, zw.Close())
	put(t, config, packed.String())
	r.reloaded(t, 2)
	got, err = os.ReadFile(output)
	require.NoError(t, err)
	require.Equal(t, want+"b: 2\n", string(got))

	// Somebody else writes the output: it is put right, and Prometheus told.
	put(t, output, "wrong")
	r.reloaded(t, 3)
	got, err = os.ReadFile(output)
	require.NoError(t, err)
	require.Equal(t, want+"b: 2\n", string(got))

	// A variable that is not set leaves all as it is.
	put(t, config, "a: $(SIDECAR_TEST_UNSET) $(SIDECAR_TEST_UNSET) $(SIDECAR_TEST_UNSET_2)\n")
	require.Eventually(t, func() bool { return testutil.ToFloat64(r.metrics.expansionErrors) == 2 }, due, tick)
	got, err = os.ReadFile(output)
	require.NoError(t, err)
	require.Equal(t, want+"b: 2\n", string(got))
	require.Equal(t, 3, r.trigger.count())
	put(t, config, "c: 3\n")
	r.reloaded(t, 4)
	require.InDelta(t, 0, testutil.ToFloat64(r.metrics.expansionErrors), 0)
}

func TestFilesThatCannotBeReadAtTheStartAreNamed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	unset, broken, fine := filepath.Join(dir, "unset.yml"), filepath.Join(dir, "broken.yml.gz"), filepath.Join(dir, "fine.yml")
	put(t, fine, "a: 1")
	put(t, unset, "$(SIDECAR_TEST_UNSET_1) $(SIDECAR_TEST_UNSET_2)")
	put(t, broken, "\x1f\x8b\x08 and nothing")
	for _, tc := range []struct {
		name string
		cfg  Config
		want []string
	}{
		{"no config", Config{ConfigFile: filepath.Join(dir, "missing.yml")}, []string{"--reloader.config-file", "missing.yml", "no such file"}},
		{"no folder of the config", Config{ConfigFile: filepath.Join(dir, "x", "missing.yml")}, []string{"--reloader.config-file", "missing.yml", "no such file"}},
		{"no rules", Config{RuleDirs: []string{filepath.Join(dir, "rules")}}, []string{"--reloader.rule-dir", "rules", "no such file"}},
		{"unset variables", Config{ConfigFile: unset, OutputFile: filepath.Join(dir, "out")}, []string{"unset.yml", "not set: SIDECAR_TEST_UNSET_1, SIDECAR_TEST_UNSET_2"}},
		{"broken gzip", Config{ConfigFile: broken, OutputFile: filepath.Join(dir, "out")}, []string{"broken.yml.gz", "gzip"}},
		{"output without folder", Config{ConfigFile: fine, OutputFile: filepath.Join(dir, "x", "out")}, []string{"--reloader.config-envsubst-file", "no such file"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := New(tc.cfg, &countingTrigger{}, zap.NewNop(), nil)
			err := r.Run(t.Context())
			require.Error(t, err)
			for _, part := range tc.want {
				require.ErrorContains(t, err, part)
			}
		})
	}
}

func TestAFolderMountedByKubernetesIsFollowed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	mount := func(version, content string) {
		put(t, filepath.Join(dir, "..version_"+version, "rules.yml"), content)
		require.NoError(t, os.Symlink("..version_"+version, filepath.Join(dir, "..data_tmp")))
		require.NoError(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
	}
	mount("1", "a")
	require.NoError(t, os.Symlink(filepath.Join("..data", "rules.yml"), filepath.Join(dir, "rules.yml")))
	require.NoError(t, os.Symlink("nowhere", filepath.Join(dir, "dangling.yml")))
	r := watch(t, Config{RuleDirs: []string{dir}})
	r.reloaded(t, 1)
	mount("2", "b")
	r.reloaded(t, 2)
	r.roundAfter(t, func() { mount("3", "b") })
	require.Equal(t, 2, r.trigger.count(), "another version with the same content")
}

func TestNothingToWatchIsFine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		trigger := &countingTrigger{}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- New(Config{WatchInterval: time.Minute}, trigger, zap.NewNop(), nil).Run(ctx) }()
		time.Sleep(time.Hour)
		require.Empty(t, done)
		cancel()
		require.NoError(t, <-done)
		require.Zero(t, trigger.count())
	})
}
