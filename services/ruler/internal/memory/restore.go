package memory

import (
	"context"
	"net/url"
	"strconv"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/rules"
	"go.uber.org/zap"
)

const (
	// evaluations is after how many of them alerts are restored no more. The first may lack what recording
	// rules have yet to record.
	evaluations = 2
	// attempts is how often series are read that cannot be read.
	attempts = 10
)

// restore looks for the past of the alerts of a rule whose past is not known yet.
func (m *Memory) restore(ctx context.Context, g *rules.Group, r *rules.AlertingRule, k string, p *progress, ts time.Time) {
	if r.Health() != rules.HealthGood {
		return // there is nothing to restore as long as nothing is known
	}
	p.good++
	finish := func() {
		p.done = true
		r.SetRestored(true)
	}
	if r.HoldDuration() == 0 || r.HoldDuration() < m.cfg.GracePeriod {
		// Such an alert would wait longer than if it began anew.
		finish()
		return
	}
	if r.ActiveAlertsCount() > 0 {
		states, err := m.past(ctx, r, k, ts)
		if err != nil {
			if p.failures++; p.failures < attempts && ctx.Err() == nil {
				m.logger.Warn("past of alerts is not known yet", zap.String("alert", r.Name()), zap.Error(err))
				return
			}
			m.logger.Error("past of alerts is not known, they begin anew", zap.String("alert", r.Name()), zap.Error(err))
			finish()
			return
		}
		byLabels := make(map[uint64]State, len(states))
		for _, s := range states {
			if old, ok := byLabels[s.Labels.Hash()]; !ok || s.Seen.After(old.Seen) {
				byLabels[s.Labels.Hash()] = s
			}
		}
		r.ForEachActiveAlert(func(a *rules.Alert) {
			h := a.Labels.Hash()
			if s, ok := byLabels[h]; ok && !p.restored[h] && a.ActiveAt.After(s.ActiveAt) {
				a.ActiveAt = ActiveSince(s, ts, r.HoldDuration(), m.cfg.GracePeriod)
				p.restored[h] = true
				m.logger.Info("alert was active before", zap.String("alert", r.Name()), zap.Stringer("labels", a.Labels), zap.Time("active_at", a.ActiveAt))
			}
		})
	}
	if p.good >= evaluations {
		finish()
	}
}

// past returns what the file knows of a rule's alerts, else what series do.
func (m *Memory) past(ctx context.Context, r *rules.AlertingRule, k string, ts time.Time) ([]State, error) {
	was, known := m.found[k]
	if known && ts.Sub(was.Seen) <= m.cfg.OutageTolerance && ts.After(was.Seen) {
		var out []State
		for _, a := range was.Alerts {
			if s := parseState(a.State); s == rules.StatePending || s == rules.StateFiring {
				out = append(out, State{Labels: a.Labels, Seen: was.Seen, ActiveAt: a.ActiveAt})
			}
		}
		return out, nil
	}
	if m.cfg.Series == nil {
		return nil, nil
	}
	ms := []*labels.Matcher{
		labels.MustNewMatcher(labels.MatchEqual, labels.MetricName, "ALERTS_FOR_STATE"),
		labels.MustNewMatcher(labels.MatchEqual, labels.AlertName, r.Name()),
	}
	return m.cfg.Series(ctx, ms, ts.Add(-m.cfg.OutageTolerance), ts)
}

// ActiveSince returns since when an alert counts as active that is active again at now.
//
// The time between s.Seen and now does not count: nobody knows what was. An alert that
// had fired goes on firing. One that would fire within the grace period fires at its end.
func ActiveSince(s State, now time.Time, hold, grace time.Duration) time.Time {
	left := hold - s.Seen.Sub(s.ActiveAt)
	switch {
	case left <= 0:
		return s.ActiveAt
	case left < grace:
		return now.Add(grace - hold)
	default:
		return s.ActiveAt.Add(now.Sub(s.Seen))
	}
}

func parseState(s string) rules.AlertState {
	for _, state := range []rules.AlertState{rules.StateInactive, rules.StatePending, rules.StateFiring} {
		if state.String() == s {
			return state
		}
	}
	return rules.StateUnknown
}

// Values are text in the file, which JSON's numbers cannot all be.
func formatValue(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

func parseValue(s string) float64 {
	v, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return 0
	}
	return v
}

// noURL is an external URL for templates that have none.
func noURL() *url.URL { return &url.URL{} }
