package fanout

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"

	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/services/querier/internal/endpoints"
	"github.com/promontory-io/promontory/services/querier/internal/health"
)

// addressLabel is the label that store matchers match on.
const addressLabel = "__address__"

// target is one store that a request concerns.
type target struct {
	*endpoints.Endpoint
	// extra restricts the request to the databases that the selector picked.
	extra []*labels.Matcher
	// call is the call to it that was admitted, nil for one that is not asked.
	call *health.Call
	// err is why it is not asked.
	err error
}

// query is what decides about stores.
type query struct {
	mint, maxt    int64
	ms            []*labels.Matcher
	storeMatchers [][]*labels.Matcher
	relabel       []*relabel.Config
}

// pick returns the stores that q concerns: those to ask, and those that ought to be asked and cannot.
// known is how many peers serve the Store API at all.
func pick(list []endpoints.Endpoint, q query) (ask, missing []target, known int) {
	for i := range list {
		e := &list[i]
		if e.Store == nil {
			continue
		}
		known++
		if !e.Store.Overlaps(q.mint, q.maxt) || !matchesAddress(e.Addr, q.storeMatchers) || !anySetMatches(e.LabelSets, q.ms) {
			continue
		}
		extra, ok := selectDatabases(e, q.relabel)
		if !ok {
			continue
		}
		t := target{Endpoint: e, extra: extra}
		if e.Askable() {
			ask = append(ask, t)
		} else {
			missing = append(missing, t)
		}
	}
	return ask, missing, known
}

// matchesAddress reports whether one of the sets accepts addr; no sets accept all. Matchers on other labels
// than the address say nothing about a store and are ignored.
func matchesAddress(addr string, sets [][]*labels.Matcher) bool {
	if len(sets) == 0 {
		return true
	}
	return slices.ContainsFunc(sets, func(ms []*labels.Matcher) bool {
		return !slices.ContainsFunc(ms, func(m *labels.Matcher) bool {
			return m.Name == addressLabel && !m.Matches(addr)
		})
	})
}

// anySetMatches reports whether one of the label sets can hold series that ms accept; a store without
// label sets can hold any.
func anySetMatches(sets []labels.Labels, ms []*labels.Matcher) bool {
	if len(sets) == 0 {
		return true
	}
	return slices.ContainsFunc(sets, func(set labels.Labels) bool {
		for _, m := range ms {
			if value := set.Get(m.Name); value != "" && !m.Matches(value) {
				return false
			}
		}
		return true
	})
}

// decidedByLabels reports whether the external labels of the stores alone decide ms, so that every one of
// them would have to refuse the request.
func decidedByLabels(targets []target, ms []*labels.Matcher) bool {
	for _, t := range targets {
		if len(t.LabelSets) == 0 {
			return false
		}
		for _, set := range t.LabelSets {
			if rest, ok := storeapi.MatchExternal(set, ms); ok && len(rest) > 0 {
				return false
			}
		}
	}
	return len(targets) > 0
}

// selectDatabases applies the selector to the databases of a store. It returns the matchers that
// keep the others out, none when all were picked, and false when none was.
func selectDatabases(e *endpoints.Endpoint, cfg []*relabel.Config) ([]*labels.Matcher, bool) {
	if len(cfg) == 0 {
		return nil, true
	}
	all := databases(e)
	var picked []labels.Labels
	for _, set := range all {
		if _, keep := relabel.Process(set, cfg...); keep {
			picked = append(picked, set)
		}
	}
	switch len(picked) {
	case 0:
		return nil, false
	case len(all):
		return nil, true
	}
	return setMatchers(picked), true
}

// databases are the label sets of the databases behind a store, or its own where it named none.
func databases(e *endpoints.Endpoint) []labels.Labels {
	var out []labels.Labels
	for _, t := range e.Store.TSDBs {
		out = append(out, t.Labels)
	}
	if len(out) == 0 {
		out = e.LabelSets
	}
	if len(out) == 0 {
		out = []labels.Labels{labels.EmptyLabels()}
	}
	return out
}

// setMatchers returns a regular expression matcher for each label of sets that accepts the values it
// has there, and its absence where a set lacks it.
func setMatchers(sets []labels.Labels) []*labels.Matcher {
	values := map[string][]string{}
	for _, set := range sets {
		set.Range(func(l labels.Label) { values[l.Name] = append(values[l.Name], l.Value) })
	}
	names := make([]string, 0, len(values))
	for name := range values {
		names = append(names, name)
	}
	slices.Sort(names)
	var out []*labels.Matcher
	for _, name := range names {
		vs := values[name]
		lacking := len(vs) < len(sets)
		slices.Sort(vs)
		vs = slices.Compact(vs)
		for i, v := range vs {
			vs[i] = regexp.QuoteMeta(v)
		}
		if lacking {
			vs = append(vs, "^$")
		}
		// Quoted alternatives always parse.
		out = append(out, labels.MustNewMatcher(labels.MatchRegexp, name, strings.Join(vs, "|")))
	}
	return out
}

// admit moves those stores to missing that fail so often that asking them is no use.
func (p *Proxy) admit(ask, missing []target) (admitted, lost []target) {
	for i := range missing {
		missing[i].err = missing[i].Err
	}
	for _, t := range ask {
		call, err := p.cfg.Health.Admit(t.Addr)
		if err != nil && !t.Strict {
			t.err = err
			missing = append(missing, t)
			continue
		}
		t.call = call
		ask[len(admitted)] = t
		admitted = ask[:len(admitted)+1]
	}
	return admitted, missing
}

// missingText says what an answer may lack without the store t.
func (t target) missingText(q query, err error) string {
	mint, maxt := max(q.mint, t.Store.MinTime), min(q.maxt, t.Store.MaxTime)
	return fmt.Sprintf("%s failed, its data from %s to %s may be missing: %v", t.Describe(), formatTime(mint), formatTime(maxt), err)
}

// formatTime writes Unix milliseconds; what is no sensible date stays a number.
func formatTime(ms int64) string {
	const year9999 = 253402300799999
	if ms < -year9999 || ms > year9999 {
		if ms < 0 {
			return "the beginning"
		}
		return "now"
	}
	return time.UnixMilli(ms).UTC().Format(time.RFC3339Nano)
}

// ownLabels evaluates the matchers on the proxy's own labels.
func (p *Proxy) ownLabels(ms []*labels.Matcher) ([]*labels.Matcher, bool) {
	return storeapi.MatchExternal(p.cfg.SelectorLabels, ms)
}
