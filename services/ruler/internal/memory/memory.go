// Package memory lets alerts survive a restart.
//
// What is known of each alert is written to a file while the ruler runs. After a short absence, one that
// Alertmanager has not noticed because it still holds what it was sent last, alerts go on as if nothing
// had happened: pending ones fire on time, firing ones keep firing, resolved ones are told as resolved.
// After a longer one, within the outage tolerance, the time that nobody has watched does not count towards
// "for", and alerts that are about to fire wait a grace period. When there is no file, the series
// ALERTS_FOR_STATE say since when alerts have been active: those of the own database, else those
// that queriers know.
package memory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/rules"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/block"
)

// FileName is the name of the file in the data directory.
const FileName = "alerts.json"

// version is that of the file's format.
const version = 1

// Config says what is restored.
type Config struct {
	// Path is the file; empty for none.
	Path string
	// OutageTolerance is how old what is restored may be, GracePeriod how long an alert is pending at least after
	// an outage.
	OutageTolerance, GracePeriod time.Duration
	ResendDelay                  time.Duration
	// Series returns the newest sample of each series ALERTS_FOR_STATE that match, with labels that alerts have.
	Series func(ctx context.Context, ms []*labels.Matcher, from, to time.Time) ([]State, error)
}

// State is a sample of ALERTS_FOR_STATE: the alert with these labels, seen last at Seen, is active since
// ActiveAt.
type State struct {
	Labels         labels.Labels
	Seen, ActiveAt time.Time
}

// saved is one alert in the file.
type saved struct {
	State           string        `json:"state"`
	Labels          labels.Labels `json:"labels"`
	Annotations     labels.Labels `json:"annotations"`
	Value           string        `json:"value"`
	ActiveAt        time.Time     `json:"active_at"`
	FiredAt         time.Time     `json:"fired_at,omitzero"`
	ResolvedAt      time.Time     `json:"resolved_at,omitzero"`
	LastSentAt      time.Time     `json:"last_sent_at,omitzero"`
	ValidUntil      time.Time     `json:"valid_until,omitzero"`
	KeepFiringSince time.Time     `json:"keep_firing_since,omitzero"`
}

// rule is the alerts of one rule at the time of its last evaluation.
type rule struct {
	File   string        `json:"file"`
	Group  string        `json:"group"`
	Name   string        `json:"name"`
	Labels labels.Labels `json:"labels"`
	Query  string        `json:"query"`
	Seen   time.Time     `json:"seen"`
	Alerts []saved       `json:"alerts"`
}

func (r *rule) key() string { return key(r.File, r.Group, r.Name, r.Labels, r.Query) }

func key(file, group, name string, lset labels.Labels, query string) string {
	return file + "\xff" + group + "\xff" + name + "\xff" + lset.String() + "\xff" + query
}

type document struct {
	Version int    `json:"version"`
	Rules   []rule `json:"rules"`
}

// progress is how far the restoration of a rule is.
type progress struct {
	done     bool
	good     int // evaluations that went well
	failures int // attempts to read series
	restored map[uint64]bool
}

// Memory remembers alerts. Its methods may be called concurrently for different groups.
type Memory struct {
	cfg    Config
	logger *zap.Logger

	// found is what was in the file at the start.
	found map[string]rule

	mu       sync.Mutex
	rules    map[string]rule      // guarded by mu; what is in the file or will be
	progress map[string]*progress // guarded by mu; the values belong to their group's goroutine
	dirty    bool                 // guarded by mu
}

// Open reads the file. One that cannot be read is set aside: alerts then begin anew.
func Open(cfg Config, logger *zap.Logger) (*Memory, error) {
	m := &Memory{cfg: cfg, logger: logger.Named("memory"), rules: map[string]rule{}, progress: map[string]*progress{}}
	if cfg.Path == "" {
		return m, nil
	}
	b, err := os.ReadFile(cfg.Path)
	if errors.Is(err, os.ErrNotExist) {
		return m, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read state of alerts: %w", err)
	}
	var doc document
	if err := json.Unmarshal(b, &doc); err != nil || doc.Version != version {
		aside := cfg.Path + ".unreadable"
		m.logger.Error("state of alerts cannot be read and is set aside", zap.String("file", cfg.Path), zap.String("now", aside), zap.Int("version", doc.Version), zap.Error(err))
		return m, os.Rename(cfg.Path, aside)
	}
	for _, r := range doc.Rules {
		m.rules[r.key()] = r
	}
	m.found = maps.Clone(m.rules)
	return m, nil
}

// shortOutage is how long an Alertmanager holds alerts that it was sent.
func (m *Memory) shortOutage(interval time.Duration) time.Duration {
	return 4 * max(interval, m.cfg.ResendDelay)
}

// Before is due before each evaluation of a group.
func (m *Memory) Before(ctx context.Context, g *rules.Group, ts time.Time) {
	for _, r := range g.AlertingRules() {
		k := key(g.File(), g.Name(), r.Name(), r.Labels(), r.Query().String())
		m.mu.Lock()
		p, seen := m.progress[k]
		if !seen {
			p = &progress{restored: map[uint64]bool{}}
			m.progress[k] = p
		}
		m.mu.Unlock()
		was, known := m.found[k]
		if !seen && known && ts.Sub(was.Seen) <= m.shortOutage(g.Interval()) {
			m.revive(ctx, r, was)
			p.done = true
			r.SetRestored(true)
		}
		if !p.done {
			// Samples of alerts would hide those that are to be restored from.
			r.SetRestored(false)
		}
	}
}

// revive gives a rule that has no alerts those it had. The rule makes them itself, by an evaluation whose
// result is made up.
func (m *Memory) revive(ctx context.Context, r *rules.AlertingRule, was rule) {
	if len(was.Alerts) == 0 {
		return
	}
	result := func(context.Context, string, time.Time) (promql.Vector, error) {
		var v promql.Vector
		for _, a := range was.Alerts {
			v = append(v, promql.Sample{Metric: a.Labels, T: was.Seen.UnixMilli(), F: parseValue(a.Value)})
		}
		return v, nil
	}
	if _, err := r.Eval(ctx, 0, was.Seen, result, noURL(), 0); err != nil {
		m.logger.Warn("alerts could not be restored", zap.String("alert", r.Name()), zap.Error(err))
		return
	}
	byLabels := map[uint64]saved{}
	for _, a := range was.Alerts {
		byLabels[a.Labels.Hash()] = a
	}
	restored := 0
	r.ForEachActiveAlert(func(a *rules.Alert) {
		s, ok := byLabels[a.Labels.Hash()]
		if !ok {
			// Its labels come of a template that has other words for it now: the next evaluation forgets it.
			a.State = rules.StatePending
			return
		}
		restored++
		a.State, a.Annotations = parseState(s.State), s.Annotations
		a.ActiveAt, a.FiredAt, a.ResolvedAt = s.ActiveAt, s.FiredAt, s.ResolvedAt
		a.LastSentAt, a.ValidUntil, a.KeepFiringSince = s.LastSentAt, s.ValidUntil, s.KeepFiringSince
	})
	m.logger.Info("alerts go on where they were", zap.String("alert", r.Name()), zap.Int("alerts", restored), zap.Time("seen", was.Seen))
}

// After is due after each evaluation of a group.
func (m *Memory) After(ctx context.Context, g *rules.Group, ts time.Time) {
	for _, r := range g.AlertingRules() {
		k := key(g.File(), g.Name(), r.Name(), r.Labels(), r.Query().String())
		m.mu.Lock()
		p := m.progress[k]
		m.mu.Unlock()
		if p != nil && !p.done {
			m.restore(ctx, g, r, k, p, ts)
		}
		if p != nil && p.done { // until then the file keeps what is to be restored
			m.remember(g, r, k, ts)
		}
	}
}

func (m *Memory) remember(g *rules.Group, r *rules.AlertingRule, k string, ts time.Time) {
	now := rule{
		File: g.File(), Group: g.Name(), Name: r.Name(), Labels: r.Labels(), Query: r.Query().String(), Seen: ts,
	}
	r.ForEachActiveAlert(func(a *rules.Alert) {
		now.Alerts = append(now.Alerts, saved{
			State: a.State.String(), Labels: a.Labels.Copy(), Annotations: a.Annotations.Copy(), Value: formatValue(a.Value),
			ActiveAt: a.ActiveAt, FiredAt: a.FiredAt, ResolvedAt: a.ResolvedAt, LastSentAt: a.LastSentAt,
			ValidUntil: a.ValidUntil, KeepFiringSince: a.KeepFiringSince,
		})
	})
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rules[k] = now
	m.dirty = true
}

// Run writes the file now and then until ctx ends, and once more then.
func (m *Memory) Run(ctx context.Context) error {
	pause := time.Second
	for {
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return m.Save(time.Now())
		case <-timer.C:
		}
		start := time.Now()
		if err := m.Save(start); err != nil {
			m.logger.Error("write state of alerts", zap.Error(err))
		}
		// Many alerts must not keep the disk busy.
		pause = max(time.Second, 20*time.Since(start))
	}
}

// Save writes the file if there is anything new.
func (m *Memory) Save(now time.Time) error {
	if m.cfg.Path == "" {
		return nil
	}
	m.mu.Lock()
	if !m.dirty {
		m.mu.Unlock()
		return nil
	}
	m.dirty = false
	doc := document{Version: version, Rules: []rule{}}
	for k, r := range m.rules {
		if now.Sub(r.Seen) > m.cfg.OutageTolerance && now.Sub(r.Seen) > time.Hour {
			delete(m.rules, k) // of a rule that is no more
			continue
		}
		doc.Rules = append(doc.Rules, r)
	}
	m.mu.Unlock()
	if err := writeFile(m.cfg.Path, doc); err != nil {
		m.mu.Lock()
		m.dirty = true
		m.mu.Unlock()
		return fmt.Errorf("write state of alerts: %w", err)
	}
	return nil
}

func writeFile(path string, doc document) error {
	b, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return err
	}
	return block.WriteFileAtomic(path, b)
}
