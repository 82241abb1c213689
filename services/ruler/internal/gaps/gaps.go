// Package gaps knows when rules could not be evaluated, so that it can be told and made good later.
//
// A gap is a row of evaluations of one rule that have no result: they failed, they were left out because something was
// missing from the answers, or nobody was there to make them. What is known is kept in a file, so
// that the time between two runs of the ruler is a gap too.
package gaps

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"go.uber.org/zap"
)

const (
	// FileName is the name of the file in the data directory.
	FileName = "gaps.json"
	// version is that of the file's format.
	version = 1
	// maxGaps is how many gaps of a rule are kept, keepFor for how long.
	maxGaps = 100
	keepFor = 30 * 24 * time.Hour
)

// Reasons of gaps that nobody was there to see.
const (
	reasonAway = "the ruler was not running"
	reasonLate = "the evaluation before it took too long"
)

// Kinds of rules.
const (
	Recording = "recording"
	Alerting  = "alerting"
)

// Rule is a rule as it was evaluated: with what its file says, it says all that is needed to evaluate it again.
type Rule struct {
	File  string `json:"file"`
	Group string `json:"group"`
	Name  string `json:"rule"`
	// Index is the rule's place in its group.
	Index int `json:"index"`
	// Type is Recording or Alerting.
	Type  string `json:"type"`
	Query string `json:"query"`
	// Labels are those that the rule adds, external ones left out.
	Labels labels.Labels `json:"labels"`
	// Interval is the time between evaluations and Offset how far back from them the rule looks, in seconds.
	Interval float64 `json:"interval"`
	Offset   float64 `json:"queryOffset"`
}

type key struct {
	file, group, name, query, labels string
	index                            int
}

func (r Rule) key() key {
	return key{r.File, r.Group, r.Name, r.Query, r.Labels.String(), r.Index}
}

func (r Rule) interval() time.Duration { return time.Duration(r.Interval * float64(time.Second)) }

// Span is a row of evaluations without result.
type Span struct {
	// Start and End are the times of the first and the last of them.
	Start       time.Time `json:"start"`
	End         time.Time `json:"end"`
	Evaluations int       `json:"evaluations"`
	// Reason is that of the last.
	Reason string `json:"reason"`
}

// Gap is a gap of a rule.
type Gap struct {
	Rule
	Span
}

// history is what is known of a rule.
type history struct {
	Rule
	// Evaluated is when it was last evaluated, with or without result; zero if what comes next is no gap whenever it comes.
	Evaluated time.Time `json:"evaluated,omitzero"`
	// Open tells that the last gap goes on with the next evaluation that has no result.
	Open bool   `json:"open,omitempty"`
	Gaps []Span `json:"gaps,omitempty"`

	away bool // since this process is there it has not been evaluated
}

type document struct {
	Version int        `json:"version"`
	Rules   []*history `json:"rules"`
}

// Log keeps account of gaps. It is safe for concurrent use.
type Log struct {
	path   string
	logger *zap.Logger

	mu    sync.Mutex
	rules map[key]*history // guarded by mu
	dirty bool             // guarded by mu; something is not in the file
	hasty bool             // guarded by mu; it is a gap
}

// Open reads the file at path; empty is none. One that cannot be read is set aside.
func Open(path string, logger *zap.Logger) (*Log, error) {
	l := &Log{path: path, logger: logger.Named("gaps"), rules: map[key]*history{}}
	if path == "" {
		return l, nil
	}
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return l, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read gaps of rules: %w", err)
	}
	var doc document
	if err := json.Unmarshal(b, &doc); err != nil || doc.Version != version {
		aside := path + ".unreadable"
		l.logger.Error("gaps of rules cannot be read and are set aside", zap.String("file", path), zap.String("now", aside), zap.Int("version", doc.Version), zap.Error(err))
		return l, os.Rename(path, aside)
	}
	for _, h := range doc.Rules {
		if h != nil {
			h.away = true
			l.rules[h.key()] = h
		}
	}
	return l, nil
}

// Note tells of the evaluation of a rule at ts; a nil err is one with a result. It returns how many evaluations are
// missing because of it, those included that should have been before.
func (l *Log) Note(r Rule, ts time.Time, err error) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := r.key()
	h := l.rules[k]
	if h == nil {
		h = &history{}
		l.rules[k] = h
	}
	missing := 0
	if span, ok := unseen(h, r, ts); ok {
		h.add(span)
		missing = span.Evaluations
	}
	h.Rule, h.Evaluated, h.away = r, ts, false
	l.dirty = true
	if err == nil {
		h.Open = false
		l.hasty = l.hasty || missing > 0
		return missing
	}
	l.hasty = true
	h.add(Span{Start: ts, End: ts, Evaluations: 1, Reason: err.Error()})
	return missing + 1
}

// unseen returns the evaluations that should have been between the last one and ts. Pure.
func unseen(h *history, r Rule, ts time.Time) (Span, bool) {
	every := max(r.interval(), h.interval())
	if h.Evaluated.IsZero() || every <= 0 || ts.Sub(h.Evaluated) < every+every/2 {
		return Span{}, false
	}
	n := int((ts.Sub(h.Evaluated)+every/2)/every) - 1
	s := Span{Start: h.Evaluated.Add(every), End: ts.Add(-every), Evaluations: n, Reason: reasonLate}
	if h.away {
		s.Reason = reasonAway
	}
	return s, true
}

// add makes a span the last gap, or part of it if that goes on.
func (h *history) add(s Span) {
	if n := len(h.Gaps); h.Open && n > 0 {
		last := &h.Gaps[n-1]
		last.End, last.Reason = s.End, s.Reason
		last.Evaluations += s.Evaluations
		return
	}
	h.Gaps, h.Open = append(h.Gaps, s), true
	if n := len(h.Gaps); n > maxGaps {
		h.Gaps = slices.Clone(h.Gaps[n-maxGaps:])
	}
}

// Keep tells which rules there are from now on. Gaps of others stay, but what is not evaluated any more has no new ones.
func (l *Log) Keep(exists func(Rule) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for k, h := range l.rules {
		if exists(h.Rule) {
			continue
		}
		h.Evaluated, h.Open = time.Time{}, false
		if len(h.Gaps) == 0 {
			delete(l.rules, k)
		}
		l.dirty = true
	}
}

// List returns all gaps, sorted by rule and time.
func (l *Log) List() []Gap {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := []Gap{}
	for _, h := range l.rules {
		for _, s := range h.Gaps {
			out = append(out, Gap{h.Rule, s})
		}
	}
	slices.SortFunc(out, func(a, b Gap) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Group, b.Group), cmp.Compare(a.Index, b.Index),
			a.Start.Compare(b.Start), cmp.Compare(a.Query, b.Query))
	})
	return out
}

// Filled forgets gaps that have been made good since: those within the spans given. It returns how many.
func (l *Log) Filled(gaps []Gap) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, g := range gaps {
		h := l.rules[g.key()]
		if h == nil {
			continue
		}
		before := len(h.Gaps)
		open := before > 0 && h.Open
		last := Span{}
		if open {
			last = h.Gaps[before-1]
		}
		h.Gaps = slices.DeleteFunc(h.Gaps, func(s Span) bool { return !s.Start.Before(g.Start) && !s.End.After(g.End) })
		if open && (len(h.Gaps) == 0 || h.Gaps[len(h.Gaps)-1] != last) {
			h.Open = false
		}
		n += before - len(h.Gaps)
	}
	l.dirty = l.dirty || n > 0
	l.hasty = l.hasty || n > 0
	return n
}
