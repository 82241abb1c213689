package evaluate

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/rulefile"
	"github.com/promontory-io/promontory/services/ruler/internal/gaps"
	"github.com/promontory-io/promontory/services/ruler/internal/memory"
	"github.com/promontory-io/promontory/services/ruler/internal/query"
)

// The tests here go through the cases of Prometheus' compliance suite for generators of alerts (version 1.0 of its
// specification), with a clock of their own: what takes it more than an hour is over in a moment. As in the suite,
// alerts are resent after a minute and groups are evaluated every 30 seconds. Unlike there, the querier never shows
// what the rules record: a rule that reads another reads its own writes.
//
//	PendingAndFiringAndResolved          TestAnAlertIsPendingFiresIsResolvedAndFiresAnew
//	PendingAndResolved, AlwaysInactive   TestAnAlertThatIsOverBeforeItFiresIsNeverSent
//	ZeroFor, SmallFor                    TestWithoutForAnAlertFiresAtOnceWithAShortOneAtTheNextEvaluation
//	NewAlerts, OrderCheck                TestARuleSeesTheAlertsOfThoseBeforeItAndNewAlertsJoin
//	step 2, 3 and templates              TestLabelsAndAnnotationsAreThoseOfTheTemplates
//	step 4                               TestTwoAlertsWithTheSameLabelsFailTheRule
//	(later) keep_firing_for              TestAnAlertIsKeptFiring
const (
	every  = 30 * time.Second
	resend = time.Minute
	// resolvedFor is how long an alert that is over is told.
	resolvedFor = 15 * time.Minute
)

var begin = time.Unix(1_700_000_000, 0).UTC()

// suite is an evaluator whose clock the test has, over a querier that knows the samples of the test.
type suite struct {
	t         *testing.T
	evaluator *Evaluator
	group     *rules.Group
	input     *tsdb.DB
	recorded  *tsdb.DB
	sent      []rules.Alert // by the last evaluation
}

type target struct{ suite *suite }

func (target) Name() string { return "querier" }

func (q target) Query(ctx context.Context, expr string, at time.Time, _ bool) (query.Answer, error) {
	engine := promql.NewEngine(promql.EngineOpts{MaxSamples: 1e6, Timeout: time.Minute})
	instant, err := engine.NewInstantQuery(ctx, q.suite.input, nil, expr, at)
	if err != nil {
		return query.Answer{}, err
	}
	defer instant.Close()
	result := instant.Exec(ctx)
	if v, ok := result.Value.(promql.Vector); ok {
		result.Value = slices.Clone(v)
	}
	return query.Answer{Value: result.Value}, result.Err
}

func newSuite(t *testing.T, ruleLines string) *suite {
	t.Helper()
	s := &suite{t: t, input: open(t), recorded: open(t)}
	file := filepath.Join(t.TempDir(), "rules.yml")
	require.NoError(t, os.WriteFile(file, []byte("groups:\n- name: g\n  interval: 30s\n  rules:\n"+ruleLines), 0o600))
	set, err := rulefile.Read([]string{file})
	require.NoError(t, err)
	mem, err := memory.Open(memory.Config{ResendDelay: resend}, zap.NewNop())
	require.NoError(t, err)
	log, err := gaps.Open("", zap.NewNop())
	require.NoError(t, err)
	client := query.New(func() []query.Target { return []query.Target{target{s}} }, zap.NewNop())
	s.evaluator = New(t.Context(), Config{
		External: labels.FromStrings("cluster", "eu1"), Interval: time.Minute, ResendDelay: resend, ExternalURL: &url.URL{Scheme: "http", Host: "q"},
		Concurrency: 1,
	}, Deps{
		Query: client, Appendable: s.recorded, Memory: mem, Gaps: log, Logger: zap.NewNop(),
		Notify: func(_ context.Context, _ string, alerts ...*rules.Alert) {
			for _, a := range alerts {
				s.sent = append(s.sent, *a)
			}
		},
	})
	s.evaluator.set.Store(set)
	groups, errs := s.evaluator.managers[rulefile.Abort].LoadGroups(time.Minute, s.evaluator.cfg.External, "http://q", s.evaluator.iteration(rulefile.Abort), false, file)
	require.Empty(t, errs)
	require.Len(t, groups, 1)
	s.group = groups[rules.GroupKey(file, "g")]
	return s
}

func open(t *testing.T) *tsdb.DB {
	t.Helper()
	o := tsdb.DefaultOptions()
	o.MinBlockDuration, o.MaxBlockDuration = (24 * time.Hour).Milliseconds(), (24 * time.Hour).Milliseconds()
	db, err := tsdb.Open(t.TempDir(), nil, nil, o, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

// at brings samples to the querier and evaluates the group, minutes after the begin.
func (s *suite) at(minutes float64, samples map[string]float64) time.Time {
	s.t.Helper()
	ts := begin.Add(time.Duration(minutes * float64(time.Minute)))
	app := s.input.Appender(s.t.Context())
	for variant, v := range samples {
		_, err := app.Append(0, labels.FromStrings("__name__", "x", "variant", variant), ts.UnixMilli(), v)
		require.NoError(s.t, err)
	}
	require.NoError(s.t, app.Commit())
	s.sent = nil
	s.evaluator.iteration(rulefile.Abort)(s.t.Context(), s.group, ts)
	return ts
}

// states are those of the active alerts of a rule, by variant.
func (s *suite) states(name string) map[string]string {
	out := map[string]string{}
	for _, r := range s.group.AlertingRules() {
		if r.Name() == name {
			for _, a := range r.ActiveAlerts() {
				out[a.Labels.Get("variant")] = a.State.String()
			}
		}
	}
	return out
}

// series returns the samples of ALERTS that were recorded at a time, by alert, variant and state; -1 marks an end.
func (s *suite) series(metric string, ts time.Time) map[string]float64 {
	s.t.Helper()
	q, err := s.recorded.Querier(ts.UnixMilli(), ts.UnixMilli())
	require.NoError(s.t, err)
	defer q.Close()
	out := map[string]float64{}
	set := q.Select(s.t.Context(), false, nil, labels.MustNewMatcher(labels.MatchEqual, "__name__", metric))
	for set.Next() {
		l := set.At().Labels()
		for it := set.At().Iterator(nil); it.Next() == chunkenc.ValFloat; {
			_, v := it.At()
			if value.IsStaleNaN(v) {
				v = -1
			}
			out[strings.Trim(l.Get("alertname")+" "+l.Get("variant")+" "+l.Get("alertstate"), " ")] = v
		}
	}
	require.NoError(s.t, set.Err())
	return out
}

const simple = "  - {alert: A, expr: x > 10, for: 6m, labels: {foo: bar}, annotations: {summary: '{{$value}} {{.Value}}'}}\n"

func TestAnAlertIsPendingFiresIsResolvedAndFiresAnew(t *testing.T) {
	t.Parallel()
	s := newSuite(t, simple)
	var fired, resolved, lastSent time.Time
	var active time.Time
	for m := 0.0; m <= 60; m += 0.5 {
		v := 5.0
		on := m >= 4 && m < 14 || m >= 32 && m < 45 // the alert is over for 18 minutes, more than it is told to be
		if on {
			v = 15 + m
		}
		ts := s.at(m, map[string]float64{"one": v})
		name := fmt.Sprintf("minute %v", m)
		if m == 4 || m == 32 {
			active = ts
		}
		hold := ts.Sub(active)
		switch {
		case on && hold < 6*time.Minute:
			require.Equal(t, map[string]string{"one": "pending"}, s.states("A"), name)
			require.Empty(t, s.sent, name)
			require.Equal(t, 1.0, s.series("ALERTS", ts)["A one pending"], name)
			require.Equal(t, float64(active.Unix()), s.series("ALERTS_FOR_STATE", ts)["A one"], name)
		case on:
			if hold == 6*time.Minute {
				fired, lastSent = ts, time.Time{}
				require.Equal(t, map[string]float64{"A one firing": 1, "A one pending": -1}, s.series("ALERTS", ts), name)
			}
			require.Equal(t, map[string]string{"one": "firing"}, s.states("A"), name)
			s.requireSent(ts, &lastSent, fired, time.Time{}, name)
			if len(s.sent) > 0 {
				require.Equal(t, fmt.Sprintf("%v %v", v, v), s.sent[0].Annotations.Get("summary"), "the newest value, %s", name)
				require.Equal(t, `{alertname="A", foo="bar", variant="one"}`, s.sent[0].Labels.String())
			}
		case m == 14 || m == 45:
			resolved, lastSent = ts, time.Time{}
			fallthrough
		case !resolved.IsZero() && ts.Sub(resolved) < resolvedFor:
			require.Equal(t, rules.StateInactive, s.group.AlertingRules()[0].State(), name)
			s.requireSent(ts, &lastSent, fired, resolved, name)
			require.NotContains(t, s.series("ALERTS", ts), "A one pending", name)
			if ts.Equal(resolved) {
				require.Equal(t, -1.0, s.series("ALERTS", ts)["A one firing"], "it has ended, %s", name)
			}
		case ts.Sub(resolved) > resolvedFor:
			require.Empty(t, s.states("A"), name)
			require.Empty(t, s.sent, name)
			require.Empty(t, s.series("ALERTS", ts), name)
		}
	}
}

// requireSent checks what was sent: once at first, then when the last time is at least the resend delay ago.
func (s *suite) requireSent(ts time.Time, last *time.Time, fired, resolved time.Time, name string) {
	s.t.Helper()
	if !last.IsZero() && ts.Sub(*last) <= resend {
		// The first multiple of the interval beyond the delay: the next evaluation will send it.
		require.Empty(s.t, s.sent, name)
		return
	}
	require.Len(s.t, s.sent, 1, name)
	a := s.sent[0]
	require.Equal(s.t, resolved, a.ResolvedAt, name)
	require.Equal(s.t, fired, a.FiredAt, name)
	require.Equal(s.t, ts.Add(4*resend), a.ValidUntil, "it holds for four times the delay, %s", name)
	*last = ts
}

func TestAnAlertThatIsOverBeforeItFiresIsNeverSent(t *testing.T) {
	t.Parallel()
	s := newSuite(t, "  - {alert: Pending, expr: x > 10, for: 3m}\n  - {alert: Inactive, expr: x > 99, for: 3m}\n")
	for m := 0.0; m <= 25; m += 0.5 {
		v, on := 5.0, m >= 2 && m < 4.5
		if on {
			v = 15
		}
		ts := s.at(m, map[string]float64{"one": v})
		want := map[string]string{}
		if on {
			want["one"] = "pending"
		}
		require.Equal(t, want, s.states("Pending"), "minute %v", m)
		require.Empty(t, s.states("Inactive"), "minute %v", m)
		require.Empty(t, s.sent, "minute %v", m)
		require.NotContains(t, s.series("ALERTS", ts), "Pending one firing")
	}
}

func TestWithoutForAnAlertFiresAtOnceWithAShortOneAtTheNextEvaluation(t *testing.T) {
	t.Parallel()
	s := newSuite(t, "  - {alert: Zero, expr: x > 10}\n  - {alert: Small, expr: x > 13, for: 15s}\n")
	s.at(-0.5, nil) // series of alerts begin when what is to be restored is
	s.at(0, map[string]float64{"one": 5})
	ts := s.at(0.5, map[string]float64{"one": 15})
	require.Equal(t, map[string]string{"one": "firing"}, s.states("Zero"))
	require.Equal(t, map[string]string{"one": "pending"}, s.states("Small"))
	require.Equal(t, map[string]float64{"Zero one firing": 1, "Small one pending": 1}, s.series("ALERTS", ts))
	require.Len(t, s.sent, 1)
	require.Equal(t, ts, s.sent[0].FiredAt)
	ts = s.at(1, map[string]float64{"one": 15})
	require.Equal(t, map[string]string{"one": "firing"}, s.states("Small"))
	require.Len(t, s.sent, 1)
	require.Equal(t, "Small", s.sent[0].Labels.Get("alertname"))
	require.Equal(t, ts, s.sent[0].FiredAt)
	s.at(1.5, map[string]float64{"one": 5})
	require.Len(t, s.sent, 2, "both are over")
	// A new alert with the labels of one that is over takes its place.
	ts = s.at(2, map[string]float64{"one": 12})
	require.Len(t, s.sent, 1)
	require.Equal(t, ts, s.sent[0].FiredAt)
	require.True(t, s.sent[0].ResolvedAt.IsZero())
}

func TestARuleSeesTheAlertsOfThoseBeforeItAndNewAlertsJoin(t *testing.T) {
	t.Parallel()
	s := newSuite(t, `  - {alert: First, expr: x > 10, for: 3m, labels: {foo: bar}}
  - alert: Second
    expr: (ALERTS{alertstate="firing", alertname="First", variant="one"} + ignoring (variant) ALERTS{alertstate="firing", alertname="First", variant="two"}) == 2
    labels: {foo: baz, ba_dum: tss}
    annotations: {description: 'was {{$labels.alertname}}, foo was {{.Labels.foo}}'}
`)
	for m := 0.0; m < 12; m += 0.5 {
		samples := map[string]float64{"one": 15}
		if m >= 2 {
			samples["two"] = 15
		}
		if m >= 9 {
			samples["one"] = 1
		}
		s.at(m, samples)
		name := fmt.Sprintf("minute %v", m)
		state := func(since float64) string {
			switch {
			case m < since:
				return ""
			case m < since+3:
				return "pending"
			}
			return "firing"
		}
		want := map[string]string{"one": state(0), "two": state(2)}
		if m >= 9 {
			delete(want, "one")
		}
		if m < 2 {
			delete(want, "two")
		}
		require.Equal(t, want, s.states("First"), name)
		second := s.states("Second")
		switch {
		case m < 5:
			require.Empty(t, second, name)
		case m < 9: // at 5 minutes both fire, and it does in the very same evaluation
			require.Equal(t, map[string]string{"": "firing"}, second, name)
		default:
			require.Empty(t, second, name)
		}
		if m == 5 {
			i := slices.IndexFunc(s.sent, func(a rules.Alert) bool { return a.Labels.Get("alertname") == "Second" })
			require.GreaterOrEqual(t, i, 0)
			require.Equal(t, "was First, foo was bar", s.sent[i].Annotations.Get("description"))
			require.Equal(t, `{alertname="Second", alertstate="firing", ba_dum="tss", cluster="eu1", foo="baz"}`, s.sent[i].Labels.String())
		}
	}
}

func TestLabelsAndAnnotationsAreThoseOfTheTemplates(t *testing.T) {
	t.Parallel()
	s := newSuite(t, `  - alert: A
    expr: x > 10
    labels: {variant: 'is {{$labels.variant}}', cluster: '{{$externalLabels.cluster}} {{.ExternalURL}}'}
    annotations:
      numbers: '{{humanize 1048576}} {{humanize1024 1048576}} {{humanizeDuration 135.3563}} {{humanizePercentage 0.959}} {{humanizeTimestamp 1643114203}}'
      strings: '{{title "this part"}} {{toUpper "is testing"}} {{toLower "THE STRINGS"}}. {{stripPort "[::1]:6006"}} {{stripPort "127.0.0.1:4004"}}. {{parseDuration "2h10m15s"}}. {{if match "[0-9]+" "1234"}}{{reReplaceAll "r.*d" "replaced" "rpld text"}}{{end}}.{{if match "[0-9]+$" "1234a"}}WRONG{{end}}'
      query: '{{define "t"}}{{.arg0}} {{.arg1}} {{.arg2}}. {{with query "x{variant=~''a|b''}"}}{{. | sortByLabel "variant" | first | label "variant"}}{{range sortByLabel "variant" .}}, {{. | label "variant"}}: {{. | value}}{{end}}{{end}}{{end}}{{template "t" (args "foo" "bar" 99)}}'
`)
	s.at(0, map[string]float64{"one": 15, "a": 1, "b": 2})
	require.Len(t, s.sent, 1)
	require.Equal(t, `{alertname="A", cluster="eu1 http://q", variant="is one"}`, s.sent[0].Labels.String())
	require.Equal(t, map[string]string{
		"numbers": "1.049M 1Mi 2m 15s 95.9% 2022-01-25 12:36:43 +0000 UTC",
		"strings": "This Part IS TESTING the strings. ::1 127.0.0.1. 7815. replaced text.",
		"query":   "foo bar 99. a, a: 1, b: 2",
	}, s.sent[0].Annotations.Map())
}

func TestTwoAlertsWithTheSameLabelsFailTheRule(t *testing.T) {
	t.Parallel()
	s := newSuite(t, "  - {alert: A, expr: x > 10, labels: {variant: same}}\n  - {alert: B, expr: x > 10}\n")
	ts := s.at(0, map[string]float64{"one": 15, "two": 15})
	r := s.group.Rules()[0]
	require.Equal(t, rules.HealthBad, r.Health())
	require.ErrorContains(t, r.LastError(), "labels")
	require.Len(t, s.sent, 2, "those of the other rule")
	require.NotContains(t, fmt.Sprint(s.series("ALERTS", ts)), "A same")
	require.Len(t, s.evaluator.Gaps(), 1)
}

func TestAnAlertIsKeptFiring(t *testing.T) {
	t.Parallel()
	s := newSuite(t, "  - {alert: A, expr: x > 10, keep_firing_for: 2m}\n")
	s.at(0, map[string]float64{"one": 15})
	for m := 0.5; m < 2.5; m += 0.5 {
		ts := s.at(m, map[string]float64{"one": 5})
		require.Equal(t, map[string]string{"one": "firing"}, s.states("A"), "minute %v", m)
		require.Equal(t, map[string]float64{"A one firing": 1}, s.series("ALERTS", ts), "minute %v", m)
	}
	ts := s.at(2.5, map[string]float64{"one": 5})
	require.Empty(t, s.states("A"))
	require.Equal(t, ts, s.sent[0].ResolvedAt)
}
