package evaluate

import (
	"context"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/promontory-io/promontory/libs/rulefile"
	"github.com/promontory-io/promontory/services/ruler/internal/query"
)

type textKey struct{}

// Excuse tells whether a missing part makes no difference to an expression: it is that of a twin, a ruler with the
// same rules, and the expression reads nothing of what rules record but its present value, which this ruler
// records as well. What a twin has recorded before this ruler began may so be missing without harm to most
// rules, and its death stops none of them.
func (e *Evaluator) Excuse(ctx context.Context, text string, m query.Missing) bool {
	if labels.Equal(m.Labels, e.cfg.External) || !isTwin(m.Labels, e.cfg.External, e.cfg.Dropped) {
		return false
	}
	if whole, ok := ctx.Value(textKey{}).(string); ok {
		text = whole // what is asked may be a part of it
	}
	expr, err := parser.ParseExpr(text)
	return err == nil && !readsPast(expr, e.recordedNames())
}

// isTwin reports whether labels are the same but for the dropped ones. Pure.
func isTwin(a, b labels.Labels, dropped []string) bool {
	if len(dropped) == 0 || a.IsEmpty() {
		return false
	}
	without := func(l labels.Labels) labels.Labels {
		lb := labels.NewBuilder(l)
		lb.Del(dropped...)
		return lb.Labels()
	}
	return slices.ContainsFunc(dropped, a.Has) && labels.Equal(without(a), without(b))
}

// recordedNames are the names of series that rules make.
func (e *Evaluator) recordedNames() []string {
	names := []string{"ALERTS", "ALERTS_FOR_STATE"}
	for _, g := range e.set.Load().Groups {
		for _, r := range g.Rules {
			if r.Record != "" {
				names = append(names, r.Record)
			}
		}
	}
	return names
}

// readsPast reports whether an expression reads more than the present value of series that may have one of the names.
// Pure.
func readsPast(expr parser.Expr, names []string) bool {
	found := false
	parser.Inspect(expr, func(n parser.Node, path []parser.Node) error {
		vs, ok := n.(*parser.VectorSelector)
		if !ok || !slices.ContainsFunc(names, func(name string) bool { return rulefile.MaySelect(vs.LabelMatchers, name) }) {
			return nil
		}
		past := vs.OriginalOffset != 0 || vs.Timestamp != nil || vs.StartOrEnd != 0 || slices.ContainsFunc(path, func(p parser.Node) bool {
			switch p.(type) {
			case *parser.MatrixSelector, *parser.SubqueryExpr:
				return true
			}
			return false
		})
		found = found || past
		return nil
	})
	return found
}
