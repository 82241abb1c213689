package tenancy

import (
	"errors"
	"fmt"
	"slices"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// Enforcer restricts selectors to the series of one tenant. It is safe for concurrent use.
//
// A selector that already has a matcher for the label keeps it, so that asking for somebody else's series selects nothing.
type Enforcer struct {
	label, tenant string
}

// NewEnforcer returns an enforcer of label=tenant.
func NewEnforcer(label, tenant string) (*Enforcer, error) {
	if !model.UTF8Validation.IsValidLabelName(label) || label == "" {
		return nil, fmt.Errorf("tenant label %q is no label name", label)
	}
	if err := Validate(tenant); err != nil {
		return nil, err
	}
	return &Enforcer{label: label, tenant: tenant}, nil
}

func (e *Enforcer) isOwn(m *labels.Matcher) bool {
	return m.Type == labels.MatchEqual && m.Name == e.label && m.Value == e.tenant
}

// Matchers returns ms with the tenant's matcher; ms itself is not changed.
func (e *Enforcer) Matchers(ms []*labels.Matcher) []*labels.Matcher {
	if slices.ContainsFunc(ms, e.isOwn) {
		return ms
	}
	out := make([]*labels.Matcher, 0, len(ms)+1)
	out = append(out, ms...)
	return append(out, &labels.Matcher{Type: labels.MatchEqual, Name: e.label, Value: e.tenant})
}

// MatcherSets restricts each set, of which one has to match. No sets, which mean all series, become one with
// only the tenant's matcher.
func (e *Enforcer) MatcherSets(sets [][]*labels.Matcher) [][]*labels.Matcher {
	if len(sets) == 0 {
		return [][]*labels.Matcher{e.Matchers(nil)}
	}
	out := make([][]*labels.Matcher, len(sets))
	for i, ms := range sets {
		out[i] = e.Matchers(ms)
	}
	return out
}

// Selectors does as [Enforcer.MatcherSets] for the texts of match[] parameters.
func (e *Enforcer) Selectors(selectors []string) ([]string, error) {
	sets := make([][]*labels.Matcher, len(selectors))
	for i, s := range selectors {
		ms, err := parser.ParseMetricSelector(s)
		if err != nil {
			return nil, fmt.Errorf("parse selector %q: %w", s, err)
		}
		sets[i] = ms
	}
	enforced := e.MatcherSets(sets)
	out := make([]string, len(enforced))
	for i, ms := range enforced {
		out[i] = (&parser.VectorSelector{LabelMatchers: ms}).String()
	}
	return out, nil
}

// ErrUnenforceable tells that a query would read series which no matcher in it can restrict.
var ErrUnenforceable = errors.New("query cannot be restricted to a tenant")

// Expr adds the tenant's matcher to every selector in expr, in place, sub-queries included.
//
// The function info() without its second argument selects series by itself and is refused by [ErrUnenforceable].
func (e *Enforcer) Expr(expr parser.Expr) error {
	var refused error
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		switch n := node.(type) {
		case *parser.VectorSelector:
			n.LabelMatchers = e.Matchers(n.LabelMatchers)
		case *parser.Call:
			if n.Func != nil && n.Func.Name == "info" && len(n.Args) < 2 {
				refused = fmt.Errorf("%w: info() needs a label selector as second argument here", ErrUnenforceable)
			}
		}
		return nil
	})
	return refused
}

// Query returns the PromQL expression with the tenant's matcher in every selector. A query that does not parse gives the parser's error.
func (e *Enforcer) Query(query string) (string, error) {
	return e.QueryBy(parser.ParseExpr, query)
}

// QueryBy is Query for expressions with functions that only parse knows.
func (e *Enforcer) QueryBy(parse func(string) (parser.Expr, error), query string) (string, error) {
	expr, err := parse(query)
	if err != nil {
		return "", err
	}
	if err := e.Expr(expr); err != nil {
		return "", err
	}
	enforced := expr.String()
	// What will run is the text. That it says what the tree says is not left to trust in the printer.
	again, err := parse(enforced)
	if err != nil {
		return "", fmt.Errorf("%w: its printed form %q does not parse: %w", ErrUnenforceable, enforced, err)
	}
	if !e.holds(again) {
		return "", fmt.Errorf("%w: its printed form %q lost the restriction", ErrUnenforceable, enforced)
	}
	return enforced, nil
}

// holds tells whether every selector in expr has the tenant's matcher.
func (e *Enforcer) holds(expr parser.Expr) bool {
	all := true
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		if n, ok := node.(*parser.VectorSelector); ok && !slices.ContainsFunc(n.LabelMatchers, e.isOwn) {
			all = false
		}
		return nil
	})
	return all
}
