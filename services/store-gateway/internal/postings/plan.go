package postings

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/promontory-io/promontory/services/store-gateway/internal/indexheader"
)

// Header is what planning needs of an index header.
type Header interface {
	Postings(name, value string) (rng indexheader.Range, ok bool, err error)
	Values(name, prefix string, f func(value string, rng indexheader.Range) bool) error
	CountValues(name string) int
}

var _ Header = (*indexheader.Reader)(nil)

// Key is a label pair with the place of its list.
type Key struct {
	labels.Label
	Range indexheader.Range
}

// most is how many references the list has at most: length, count and checksum are of the same size as a reference.
func (k *Key) most() int { return max(int((k.Range.End-k.Range.Start)/4), 0) }

// Group is what one matcher asks for.
type Group struct {
	// Matcher is where the group comes from; nil for the group of all series.
	Matcher *labels.Matcher
	// Remove is whether series in one of the lists are to be left out; otherwise
	// only series in one of the lists stay.
	Remove bool
	// Keys are the lists, in the order of values.
	Keys []Key
	// Bytes is the size of the lists.
	Bytes int64

	reserve func(m *labels.Matcher, valueBytes int) error
}

// Plan says how the series that all matchers select are found.
type Plan struct {
	// Groups are what has to be fetched and joined. The first one adds.
	Groups []Group
	// Rest are matchers that are cheaper to check on the series found.
	Rest []Deferred
	// Empty says that nothing matches; there is nothing to fetch.
	Empty bool
}

// Deferred is a matcher whose lists are not worth fetching.
type Deferred struct {
	Matcher *labels.Matcher
	// TooManyKeys is whether the number of lists is the reason, not their size.
	TooManyKeys bool
	// Bytes is the size of the lists.
	Bytes int64
}

// Cost is what deferring matchers is decided by.
type Cost struct {
	// Lazy switches it on.
	Lazy bool
	// SeriesBytes is the estimated size of a series entry.
	SeriesBytes int64
	// MaxKeyRatio defers a group with more than so many times as many lists as the
	// smallest group has series; 0 is no limit.
	MaxKeyRatio float64
	// Reserve, where set, is told of each list before it becomes part of the plan, with the matcher that needs it and the size
	// of the label's value; an error ends the planning.
	Reserve func(m *labels.Matcher, valueBytes int) error
}

// Bytes is the size of all lists to be fetched.
func (p *Plan) Bytes() (n int64) {
	for _, g := range p.Groups {
		n += g.Bytes
	}
	return n
}

// Most is how many series the plan finds at most, by the size of the lists.
func (p *Plan) Most() int {
	least := int64(-1)
	for _, g := range p.Groups {
		if !g.Remove && (least < 0 || g.Bytes < least) {
			least = g.Bytes
		}
	}
	return int(max(least, 0) / 4)
}

// Longest is how many references the longest list has at most.
func (p *Plan) Longest() (n int) {
	for _, g := range p.Groups {
		for i := range g.Keys {
			n = max(n, g.Keys[i].most())
		}
	}
	return n
}

// Largest is the matcher with the largest lists; nil where none has any.
func (p *Plan) Largest() (m *labels.Matcher) {
	var most int64
	for _, g := range p.Groups {
		if g.Matcher != nil && g.Bytes >= most {
			m, most = g.Matcher, g.Bytes
		}
	}
	return m
}

// NewPlan plans the search for series that all of ms select.
func NewPlan(h Header, ms []*labels.Matcher, cost Cost) (*Plan, error) {
	p := &Plan{}
	for _, m := range ms {
		g, constrains, err := newGroup(h, m, cost.Reserve)
		if err != nil {
			return nil, err
		}
		if !constrains {
			continue
		}
		if !g.Remove && len(g.Keys) == 0 {
			return &Plan{Empty: true}, nil
		}
		if g.Remove && len(g.Keys) == 0 {
			continue
		}
		p.Groups = append(p.Groups, g)
	}
	// Small lists first: an intersection costs as much as its smallest member.
	slices.SortStableFunc(p.Groups, func(a, b Group) int {
		if a.Remove != b.Remove {
			if a.Remove {
				return 1
			}
			return -1
		}
		return cmp.Compare(a.Bytes, b.Bytes)
	})
	if len(p.Groups) == 0 || p.Groups[0].Remove {
		all, ok, err := h.Postings("", "")
		if err != nil {
			return nil, err
		}
		if !ok {
			return &Plan{Empty: true}, nil
		}
		g := Group{Keys: []Key{{Range: all}}, Bytes: all.End - all.Start}
		p.Groups = slices.Insert(p.Groups, 0, g)
	}
	p.deferGroups(cost)
	return p, nil
}

// newGroup finds the lists for one matcher. constrains is false where the matcher
// selects everything.
func newGroup(h Header, m *labels.Matcher, reserve func(*labels.Matcher, int) error) (g Group, constrains bool, err error) {
	g.Matcher, g.reserve = m, reserve
	switch {
	case m.Type == labels.MatchEqual && m.Value != "":
		err = g.addValues(h, m.Name, []string{m.Value})
	case m.Type == labels.MatchNotEqual && m.Value != "":
		g.Remove = true
		err = g.addValues(h, m.Name, []string{m.Value})
	case m.Type == labels.MatchRegexp && m.Value == ".*":
		return g, false, nil
	case m.Type == labels.MatchRegexp && !m.Matches("") && len(m.SetMatches()) > 0:
		err = g.addValues(h, m.Name, m.SetMatches())
	case m.Type == labels.MatchNotRegexp && m.Matches("") && len(m.SetMatches()) > 0:
		g.Remove = true
		err = g.addValues(h, m.Name, m.SetMatches())
	case m.Matches(""):
		// Series without the label match, so those that have it with a wrong value go.
		g.Remove = true
		err = g.addWhere(h, m.Name, "", func(v string) bool { return !m.Matches(v) })
	default:
		prefix := ""
		if m.Type == labels.MatchRegexp {
			prefix = m.Prefix()
		}
		err = g.addWhere(h, m.Name, prefix, m.Matches)
	}
	return g, true, err
}

func (g *Group) addValues(h Header, name string, values []string) error {
	values = slices.Clone(values)
	slices.Sort(values)
	for _, v := range slices.Compact(values) {
		rng, ok, err := h.Postings(name, v)
		if err != nil {
			return fmt.Errorf("look up %s=%q: %w", name, v, err)
		}
		if !ok {
			continue
		}
		if err := g.add(name, v, rng); err != nil {
			return err
		}
	}
	return nil
}

func (g *Group) addWhere(h Header, name, prefix string, want func(string) bool) error {
	var full error
	err := h.Values(name, prefix, func(v string, rng indexheader.Range) bool {
		if want(v) {
			full = g.add(name, strings.Clone(v), rng)
		}
		return full == nil
	})
	if full != nil {
		return full
	}
	if err != nil {
		return fmt.Errorf("look up the values of %s: %w", name, err)
	}
	return nil
}

func (g *Group) add(name, value string, rng indexheader.Range) error {
	if g.reserve != nil {
		if err := g.reserve(g.Matcher, len(value)); err != nil {
			return err
		}
	}
	g.Keys = append(g.Keys, Key{Label: labels.Label{Name: name, Value: value}, Range: rng})
	g.Bytes += rng.End - rng.Start
	return nil
}

// matchRatio is the share of series that a further matcher is assumed to keep.
const matchRatio = 0.5

// deferGroups moves groups to Rest whose lists cost more to fetch than the series
// entries that they would save. The first group always stays.
//
// With n groups fetched so far, some P1/4 × R^(n-1) series are left, of which the next
// one would drop the share 1-R: worth it when its own bytes are fewer.
func (p *Plan) deferGroups(cost Cost) {
	if !cost.Lazy || len(p.Groups) < 2 {
		return
	}
	series := float64(p.Groups[0].Bytes) / 4
	kept := p.Groups[:1]
	ratio := 1.0
	for _, g := range p.Groups[1:] {
		saved := series * ratio * float64(cost.SeriesBytes) * (1 - matchRatio)
		tooMany := cost.MaxKeyRatio > 0 && float64(len(g.Keys)) > cost.MaxKeyRatio*series
		if tooMany || float64(g.Bytes) > saved {
			p.Rest = append(p.Rest, Deferred{Matcher: g.Matcher, TooManyKeys: tooMany, Bytes: g.Bytes})
			continue
		}
		ratio *= matchRatio
		kept = append(kept, g)
	}
	p.Groups = kept
}

// Keys are all lists to be fetched, group by group.
func (p *Plan) Keys() []Key {
	var out []Key
	for _, g := range p.Groups {
		out = append(out, g.Keys...)
	}
	return out
}
