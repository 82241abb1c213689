package memory_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/teststorage"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/services/ruler/internal/memory"
)

func TestSinceWhenAnAlertCountsAsActiveAfterAnOutage(t *testing.T) {
	t.Parallel()
	at := func(minutes int) time.Time { return time.Unix(int64(minutes)*60, 0) }
	for name, tc := range map[string]struct {
		seen, now         int // minutes; active since 0
		hold, grace, want time.Duration
	}{
		"was firing":                        {30, 40, 20 * time.Minute, 10 * time.Minute, 0},
		"just fired":                        {20, 40, 20 * time.Minute, 10 * time.Minute, 0},
		"about to fire waits the grace":     {15, 40, 20 * time.Minute, 10 * time.Minute, 30 * time.Minute},
		"long to go: outage does not count": {5, 40, 20 * time.Minute, 10 * time.Minute, 35 * time.Minute},
	} {
		got := memory.ActiveSince(memory.State{ActiveAt: at(0), Seen: at(tc.seen)}, at(tc.now), tc.hold, tc.grace)
		require.Equal(t, time.Unix(0, 0).Add(tc.want), got, name)
	}
}

// world is a group whose rule has the result that the test wants.
type world struct {
	memory *memory.Memory
	group  *rules.Group
	rule   *rules.AlertingRule
	result promql.Vector
	err    error
	sent   []rules.Alert
}

func newWorld(t *testing.T, cfg memory.Config, hold, keep time.Duration) *world {
	t.Helper()
	w := &world{}
	expr, err := parser.ParseExpr("up == 0")
	require.NoError(t, err)
	w.rule = rules.NewAlertingRule("A", expr, hold, keep, labels.FromStrings("severity", "{{ $value }}"), labels.FromStrings("s", "{{ $labels.job }}"), labels.EmptyLabels(), "", false, nil)
	if w.memory, err = memory.Open(cfg, zap.NewNop()); err != nil {
		t.Fatal(err)
	}
	w.group = rules.NewGroup(rules.GroupOptions{Name: "g", File: "f", Interval: time.Minute, Rules: []rules.Rule{w.rule}, ShouldRestore: true, Opts: &rules.ManagerOptions{
		QueryFunc: func(context.Context, string, time.Time) (promql.Vector, error) { return w.result, w.err },
		NotifyFunc: func(_ context.Context, _ string, alerts ...*rules.Alert) {
			for _, a := range alerts {
				w.sent = append(w.sent, *a)
			}
		},
		Context: t.Context(), Appendable: discard{teststorage.New(t)}, ResendDelay: time.Minute,
	}})
	return w
}

type discard struct{ storage.Storage }

func (w *world) eval(t *testing.T, ts time.Time) {
	t.Helper()
	w.sent = nil
	w.memory.Before(t.Context(), w.group, ts)
	w.group.Eval(t.Context(), ts)
	w.memory.After(t.Context(), w.group, ts)
}

var firing = promql.Vector{{Metric: labels.FromStrings("__name__", "up", "job", "x"), F: 3}}

func TestAfterAShortAbsenceAlertsGoOnAsIfNothingHadHappened(t *testing.T) {
	t.Parallel()
	start := time.Unix(1_700_000_000, 0).UTC()
	cfg := memory.Config{Path: filepath.Join(t.TempDir(), "d", "alerts.json"), OutageTolerance: time.Hour, GracePeriod: 10 * time.Minute, ResendDelay: time.Minute}
	w := newWorld(t, cfg, 5*time.Minute, 10*time.Minute)
	w.result = firing
	w.eval(t, start)
	w.eval(t, start.Add(time.Minute))
	require.NoError(t, w.memory.Save(start))

	w = newWorld(t, cfg, 5*time.Minute, 10*time.Minute)
	w.err = errors.New("queriers are away")
	w.eval(t, start.Add(3*time.Minute))
	require.Len(t, w.rule.ActiveAlerts(), 1)
	require.Equal(t, start, w.rule.ActiveAlerts()[0].ActiveAt)
	w.err, w.result = nil, firing
	w.eval(t, start.Add(5*time.Minute))
	require.Equal(t, rules.StateFiring, w.rule.State(), "it fires on time")
	require.Len(t, w.sent, 1)
	require.NoError(t, w.memory.Save(start.Add(5*time.Minute)))

	// It stopped while nobody watched: it keeps firing as the rule says, and then is told as resolved.
	w = newWorld(t, cfg, 5*time.Minute, 10*time.Minute)
	w.eval(t, start.Add(7*time.Minute))
	require.Equal(t, rules.StateFiring, w.rule.State())
	w.eval(t, start.Add(18*time.Minute))
	require.Equal(t, rules.StateInactive, w.rule.State())
	require.Len(t, w.sent, 1)
	require.Equal(t, start.Add(18*time.Minute), w.sent[0].ResolvedAt)
	require.Equal(t, "3", w.sent[0].Labels.Get("severity"))
	require.Equal(t, "x", w.sent[0].Annotations.Get("s"))
}

func TestAfterALongerAbsenceOnlyWhatTheFlagsAllowIsRestored(t *testing.T) {
	t.Parallel()
	start := time.Unix(1_700_000_000, 0).UTC()
	cfg := memory.Config{Path: filepath.Join(t.TempDir(), "alerts.json"), OutageTolerance: time.Hour, GracePeriod: 10 * time.Minute, ResendDelay: time.Minute}
	w := newWorld(t, cfg, 30*time.Minute, 0)
	w.result = firing
	for i := range 6 {
		w.eval(t, start.Add(time.Duration(i)*time.Minute))
	}
	require.NoError(t, w.memory.Save(start))
	for away, want := range map[time.Duration]time.Time{
		20 * time.Minute: start.Add(20 * time.Minute),                   // the absence does not count
		2 * time.Hour:    start.Add(5 * time.Minute).Add(2 * time.Hour), // it begins anew
	} {
		w = newWorld(t, cfg, 30*time.Minute, 0)
		w.result = firing
		back := start.Add(5 * time.Minute).Add(away)
		w.eval(t, back)
		require.Equal(t, want, w.rule.ActiveAlerts()[0].ActiveAt, "%s", away)
		require.False(t, w.rule.Restored(), "what recording rules have yet to record may add alerts")
		w.eval(t, back.Add(time.Minute))
		require.True(t, w.rule.Restored())
		require.Equal(t, want, w.rule.ActiveAlerts()[0].ActiveAt, "%s", away)
	}
}

func TestWithoutAFileSeriesTellAndFailuresAreTriedAgain(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0).UTC()
	fail := true
	cfg := memory.Config{OutageTolerance: time.Hour, GracePeriod: 10 * time.Minute, Series: func(_ context.Context, ms []*labels.Matcher, from, to time.Time) ([]memory.State, error) {
		if fail {
			return nil, errors.New("away")
		}
		require.Len(t, ms, 2)
		require.Equal(t, time.Hour, to.Sub(from))
		return []memory.State{{Labels: labels.FromStrings("alertname", "A", "job", "x", "severity", "3"), Seen: to.Add(-time.Minute), ActiveAt: to.Add(-40 * time.Minute)}}, nil
	}}
	w := newWorld(t, cfg, 30*time.Minute, 0)
	w.result = firing
	for i := range 3 {
		w.eval(t, now.Add(time.Duration(i)*time.Minute))
		require.False(t, w.rule.Restored())
	}
	fail = false
	now = now.Add(3 * time.Minute)
	w.eval(t, now)
	require.True(t, w.rule.Restored())
	require.Equal(t, now.Add(-40*time.Minute), w.rule.ActiveAlerts()[0].ActiveAt)
	w.eval(t, now.Add(time.Minute))
	require.Equal(t, rules.StateFiring, w.rule.State())
}

func TestAnUnreadableFileIsSetAside(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "alerts.json")
	require.NoError(t, os.WriteFile(path, []byte("{"), 0o600))
	_, err := memory.Open(memory.Config{Path: path}, zap.NewNop())
	require.NoError(t, err)
	require.FileExists(t, path+".unreadable")
	require.NoFileExists(t, path)
}
