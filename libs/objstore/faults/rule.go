package faults

import (
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"sync"
	"time"
)

// plan is what the rules make of one operation.
type plan struct {
	latency    time.Duration
	hang       bool
	kind       string // of error; empty: none
	rule       int    // number of the rule that fails the operation or its body, from 1
	breakAfter *int64
	truncate   *int64
	shortReads int
}

// rules decide about operations. They are safe for concurrent use.
type rules struct {
	mu    sync.Mutex // guards what follows
	rng   *rand.Rand
	rules []*ruleState
}

type ruleState struct {
	Rule
	name  *regexp.Regexp
	seen  int64 // matching operations
	acted int64
}

func newRules(cfg Config) (*rules, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	rs := &rules{rng: rand.New(rand.NewPCG(cfg.Seed, 0))}
	for _, r := range cfg.Rules {
		if len(r.Operations) == 0 {
			r.Operations = Reads()
		}
		rs.rules = append(rs.rules, &ruleState{Rule: r, name: regexp.MustCompile(r.Name)})
	}
	return rs, nil
}

// decide asks all rules about one operation and counts it.
func (rs *rules) decide(op, name string) plan {
	var p plan
	for i, r := range rs.rules {
		// The checks without state come before the lock: one of them may ask the file system.
		if !r.concerns(op, name) {
			continue
		}
		rs.mu.Lock()
		hit := r.hits(rs.rng)
		rs.mu.Unlock()
		if !hit {
			continue
		}
		p.latency += r.Latency
		if r.BreakAfter != nil {
			p.breakAfter, p.rule = r.BreakAfter, i+1
		}
		if r.Truncate != nil {
			p.truncate = r.Truncate
		}
		if r.ShortReads > 0 {
			p.shortReads = r.ShortReads
		}
		if r.Hang || r.Error != "" {
			p.hang, p.kind, p.rule = r.Hang, r.Error, i+1
			return p
		}
	}
	return p
}

func (r *ruleState) concerns(op, name string) bool {
	if !slices.Contains(r.Operations, op) || !r.name.MatchString(name) {
		return false
	}
	if r.WhileFile == "" {
		return true
	}
	_, err := os.Stat(r.WhileFile)
	return err == nil
}

// hits counts a matching operation and tells whether the rule acts on it.
func (r *ruleState) hits(rng *rand.Rand) bool {
	r.seen++
	switch {
	case r.seen <= r.After:
		return false
	case r.Times > 0 && r.acted >= r.Times:
		return false
	case r.Every > 0 && (r.seen-r.After)%r.Every != 0:
		return false
	case r.Share > 0 && rng.Float64() >= r.Share:
		return false
	}
	r.acted++
	return true
}
