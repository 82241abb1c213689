package rules

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/promontory-io/promontory/libs/rulefile"
)

// rule is a recording rule to be evaluated over the past. Its JSON is what a ruler says of a gap's rule.
type rule struct {
	File   string        `json:"file"`
	Group  string        `json:"group"`
	Name   string        `json:"rule"`
	Index  int           `json:"index"`
	Type   string        `json:"type"`
	Query  string        `json:"query"`
	Labels labels.Labels `json:"labels"`
	// Interval and Offset are in seconds.
	Interval float64 `json:"interval"`
	Offset   float64 `json:"queryOffset"`
}

func (r *rule) step() int64   { return int64(r.Interval * 1000) }
func (r *rule) offset() int64 { return int64(r.Offset * 1000) }

func (r *rule) String() string { return r.Group + "/" + r.Name + r.Labels.String() }

// span is a row of evaluations by their times, both ends inclusive, Unix milliseconds.
type span struct{ first, last int64 }

// fill is a rule and what is to be evaluated of it; spans are sorted and do not overlap.
type fill struct {
	rule
	spans []span
}

// slots is a row of samples that an evaluation gives: at first, first+step and so on. Times of samples are those
// of evaluations less the rule's offset.
type slots struct {
	fill  *fill
	first int64
	n     int
	// end tells that the last of them is behind the end of a span: what comes there is only that series have ended.
	end bool
}

func (s slots) last() int64 { return s.first + int64(s.n-1)*s.fill.step() }

// window is what one block is made of: samples in [mint, maxt).
type window struct {
	mint, maxt int64
	slots      []slots // in the order in which they are evaluated
}

// evaluations is how many results there will be.
func (w *window) evaluations() (n int) {
	for _, s := range w.slots {
		n += s.n
		if s.end {
			n--
		}
	}
	return n
}

// bounds are the times of the first and the last sample there may be.
func (w *window) bounds() (first, last int64) {
	first, last = w.maxt, w.mint
	for _, s := range w.slots {
		first, last = min(first, s.first), max(last, s.last())
	}
	return first, last
}

// maxSlots bounds one query; queriers refuse more than 11,000 points.
const maxSlots = 5000

// plan cuts what is to be filled into windows of blocks, in the order of time. Pure.
func plan(fills []*fill, block time.Duration) []window {
	size := block.Milliseconds()
	byTime := map[int64]*window{}
	for _, f := range fills {
		for _, s := range f.spans {
			f.cut(s, size, func(mint int64, part slots) {
				w := byTime[mint]
				if w == nil {
					w = &window{mint: mint, maxt: mint + size}
					byTime[mint] = w
				}
				w.slots = append(w.slots, part)
			})
		}
	}
	out := make([]window, 0, len(byTime))
	for _, w := range byTime {
		out = append(out, *w)
	}
	slices.SortFunc(out, func(a, b window) int { return cmp.Compare(a.mint, b.mint) })
	return out
}

func (f *fill) cut(s span, size int64, emit func(mint int64, part slots)) {
	step := f.step()
	n := int((s.last-s.first)/step) + 2 // one behind the end
	first := s.first - f.offset()
	for done := 0; done < n; {
		at := first + int64(done)*step
		mint := at - (at%size+size)%size
		fit := int((mint + size - 1 - at) / step)
		part := slots{fill: f, first: at, n: min(n-done, fit+1, maxSlots)}
		done += part.n
		part.end = done == n
		emit(mint, part)
	}
}

// order sorts rules so that each comes after those whose results it reads. reads tells which do so.
func order(fills []*fill) (sorted []*fill, reads map[*fill]bool, err error) {
	needs := map[*fill][]*fill{}
	reads = map[*fill]bool{}
	for _, f := range fills {
		selectors, err := selectorsOf(f.Query)
		if err != nil {
			return nil, nil, fmt.Errorf("rule %s: %w", f, err)
		}
		for _, other := range fills {
			if !slices.ContainsFunc(selectors, func(ms []*labels.Matcher) bool { return rulefile.MaySelect(ms, other.Name) }) {
				continue
			}
			if other == f {
				return nil, nil, fmt.Errorf("rule %s: reads its own results, which cannot be filled", f)
			}
			needs[f], reads[f] = append(needs[f], other), true
		}
	}
	done := map[*fill]bool{}
	for len(sorted) < len(fills) {
		before := len(sorted)
		for _, f := range fills {
			if !done[f] && !slices.ContainsFunc(needs[f], func(n *fill) bool { return !done[n] }) {
				done[f] = true
				sorted = append(sorted, f)
			}
		}
		if len(sorted) > before {
			continue
		}
		var left []string
		for _, f := range fills {
			if !done[f] {
				left = append(left, f.String())
			}
		}
		return nil, nil, errors.New("rules read each other's results in a circle: " + strings.Join(left, ", "))
	}
	return sorted, reads, nil
}

func selectorsOf(query string) (out [][]*labels.Matcher, err error) {
	expr, err := parser.ParseExpr(query)
	if err != nil {
		return nil, err
	}
	parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
		if vs, ok := n.(*parser.VectorSelector); ok {
			out = append(out, vs.LabelMatchers)
		}
		return nil
	})
	return out, nil
}

// lookback is how far back from its time an expression reads samples at most.
func lookback(query string) (time.Duration, error) {
	expr, err := parser.ParseExpr(query)
	if err != nil {
		return 0, err
	}
	const instant = 5 * time.Minute
	most := time.Duration(0)
	parser.Inspect(expr, func(n parser.Node, path []parser.Node) error {
		vs, ok := n.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		total := instant + max(0, vs.OriginalOffset)
		for _, p := range path {
			switch p := p.(type) {
			case *parser.MatrixSelector:
				total += p.Range
			case *parser.SubqueryExpr:
				total += p.Range + max(0, p.OriginalOffset)
			}
		}
		most = max(most, total)
		return nil
	})
	return most, nil
}

// merge sorts spans and joins those that touch or overlap at a step. Pure.
func merge(spans []span, step int64) []span {
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.first, b.first) })
	var out []span
	for _, s := range spans {
		if n := len(out); n > 0 && s.first <= out[n-1].last+step && (s.first-out[n-1].first)%step == 0 {
			out[n-1].last = max(out[n-1].last, s.last)
			continue
		}
		out = append(out, s)
	}
	return out
}
