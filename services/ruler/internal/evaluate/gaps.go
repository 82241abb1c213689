package evaluate

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/promontory-io/promontory/services/ruler/internal/rulefile"
)

// Gap is a stretch of time in which a rule could not be evaluated.
type Gap struct {
	File  string `json:"file"`
	Group string `json:"group"`
	Rule  string `json:"rule"`
	// Index is the rule's place in its group.
	Index int `json:"index"`
	// Start and End are the times of the first and the last evaluation that was left out.
	Start       time.Time `json:"start"`
	End         time.Time `json:"end"`
	Evaluations int       `json:"evaluations"`
	// Reason is that of the last.
	Reason string `json:"reason"`
}

// maxGaps is how many gaps of a rule are kept.
const maxGaps = 100

type ruleKey struct {
	file, group, rule string
	index             int
}

// gaps is safe for concurrent use.
type gaps struct {
	mu   sync.Mutex
	open map[ruleKey]bool // guarded by mu; the last gap goes on
	list map[ruleKey][]Gap
}

// note tells of one evaluation. A nil err is one that went well.
func (g *gaps) note(file, group, rule string, index int, ts time.Time, err error) {
	k := ruleKey{file, group, rule, index}
	g.mu.Lock()
	defer g.mu.Unlock()
	if err == nil {
		delete(g.open, k)
		return
	}
	if g.list == nil {
		g.open, g.list = map[ruleKey]bool{}, map[ruleKey][]Gap{}
	}
	if !g.open[k] {
		g.open[k] = true
		g.list[k] = append(g.list[k], Gap{File: file, Group: group, Rule: rule, Index: index, Start: ts})
		if n := len(g.list[k]); n > maxGaps {
			g.list[k] = slices.Clone(g.list[k][n-maxGaps:])
		}
	}
	last := &g.list[k][len(g.list[k])-1]
	last.End, last.Reason = ts, err.Error()
	last.Evaluations++
}

// keep forgets the gaps of groups that are no more.
func (g *gaps) keep(set *rulefile.Set) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for k := range g.list {
		if set.Group(k.file, k.group) == nil {
			delete(g.list, k)
			delete(g.open, k)
		}
	}
}

// Gaps returns the gaps since the process started, sorted by rule and time.
func (e *Evaluator) Gaps() []Gap {
	e.gaps.mu.Lock()
	defer e.gaps.mu.Unlock()
	out := []Gap{}
	for _, list := range e.gaps.list {
		out = append(out, list...)
	}
	slices.SortFunc(out, func(a, b Gap) int {
		for _, c := range []int{strings.Compare(a.File, b.File), strings.Compare(a.Group, b.Group), a.Index - b.Index, a.Start.Compare(b.Start)} {
			if c != 0 {
				return c
			}
		}
		return 0
	})
	return out
}

type metrics struct {
	loaded   *prometheus.GaugeVec
	warnings *prometheus.CounterVec
	skipped  *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		loaded: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "thanos_rule_loaded_rules", Help: "Rules that are evaluated, by group.",
		}, []string{"strategy", "file", "group"}),
		warnings: f.NewCounterVec(prometheus.CounterOpts{
			Name: "thanos_rule_evaluation_with_warnings_total", Help: "Evaluations of an answer from which something was missing.",
		}, []string{"strategy"}),
		skipped: f.NewCounterVec(prometheus.CounterOpts{
			Name: "thanos_rule_evaluation_skipped_total", Help: "Evaluations of single rules that are missing from their results.",
		}, []string{"strategy"}),
	}
	for _, s := range rulefile.Strategies() {
		m.warnings.WithLabelValues(strings.ToLower(string(s)))
		m.skipped.WithLabelValues(strings.ToLower(string(s)))
	}
	return m
}
