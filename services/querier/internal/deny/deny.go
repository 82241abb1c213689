// Package deny refuses requests by what they select.
//
// A rule is a series selector, such as {__name__=~"debug_.*"} or {__name__="", cluster=""}. It denies a selector of a request if each of its
// matchers accepts what that selector says of the label: the value of an = matcher, the pattern of any other matcher, as it is
// written, and nothing ("") for a label without a matcher. So the second example denies selectors without name and cluster, and
// {instance=~"\\.[*+]"} denies those that match any instance by pattern.
package deny

import (
	"fmt"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// Rules are safe for concurrent use. The zero value denies nothing.
type Rules struct {
	rules [][]*labels.Matcher
	texts []string
}

// Parse reads rules; an error names the one that is none.
func Parse(selectors []string) (*Rules, error) {
	r := &Rules{texts: slices.Clone(selectors)}
	for _, text := range selectors {
		// Unlike a selector of a query, a rule may consist of matchers that accept the empty value.
		ms, err := parser.ParseMetricSelector(text)
		if err != nil {
			return nil, fmt.Errorf("deny rule %q: %w", text, err)
		}
		r.rules = append(r.rules, ms)
	}
	return r, nil
}

// Error is why a request is refused.
type Error struct {
	// Selector is that of the request, Rule the rule that denies it.
	Selector, Rule string
}

// Error implements error.
func (e *Error) Error() string {
	return fmt.Sprintf("the selector %s is denied here by the rule %s", e.Selector, e.Rule)
}

// Matchers returns an *Error if a rule denies the selector of ms.
func (r *Rules) Matchers(ms []*labels.Matcher) error {
	if r == nil {
		return nil
	}
	for i, rule := range r.rules {
		if denies(rule, ms) {
			return &Error{Selector: (&parser.VectorSelector{LabelMatchers: ms}).String(), Rule: r.texts[i]}
		}
	}
	return nil
}

// Expr returns an *Error if a rule denies any selector of an expression, those of sub-queries included.
func (r *Rules) Expr(expr parser.Expr) error {
	if r == nil || len(r.rules) == 0 {
		return nil
	}
	for _, ms := range parser.ExtractSelectors(expr) {
		if err := r.Matchers(ms); err != nil {
			return err
		}
	}
	return nil
}

// Empty reports whether nothing is denied.
func (r *Rules) Empty() bool { return r == nil || len(r.rules) == 0 }

func denies(rule, ms []*labels.Matcher) bool {
	for _, m := range rule {
		said := false
		for _, own := range ms {
			if own.Name != m.Name {
				continue
			}
			if m.Matches(own.Value) {
				said = true
				break
			}
		}
		if !said && (slices.ContainsFunc(ms, func(own *labels.Matcher) bool { return own.Name == m.Name }) || !m.Matches("")) {
			return false
		}
	}
	return len(rule) > 0
}
