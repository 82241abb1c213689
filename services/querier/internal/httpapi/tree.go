package httpapi

import (
	"fmt"
	"strconv"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// object is one node of a syntax tree as pages read it; the keys are those of Prometheus.
type object map[string]any

// syntaxTree turns an expression into what /parse_query answers.
func syntaxTree(expr parser.Expr) any {
	switch n := expr.(type) {
	case nil:
		return nil
	case *parser.NumberLiteral:
		return object{"type": "numberLiteral", "val": strconv.FormatFloat(n.Val, 'f', -1, 64)}
	case *parser.StringLiteral:
		return object{"type": "stringLiteral", "val": n.Val}
	case *parser.ParenExpr:
		return object{"type": "parenExpr", "expr": syntaxTree(n.Expr)}
	case *parser.StepInvariantExpr:
		return syntaxTree(n.Expr)
	case *parser.UnaryExpr:
		return object{"type": "unaryExpr", "op": n.Op.String(), "expr": syntaxTree(n.Expr)}
	case *parser.BinaryExpr:
		return object{
			"type": "binaryExpr", "op": n.Op.String(), "lhs": syntaxTree(n.LHS), "rhs": syntaxTree(n.RHS),
			"matching": matchingTree(n.VectorMatching), "bool": n.ReturnBool,
		}
	case *parser.AggregateExpr:
		return object{
			"type": "aggregation", "op": n.Op.String(), "expr": syntaxTree(n.Expr), "param": syntaxTree(n.Param),
			"grouping": list(n.Grouping), "without": n.Without,
		}
	case *parser.Call:
		args := make([]any, len(n.Args))
		for i, a := range n.Args {
			args[i] = syntaxTree(a)
		}
		return object{"type": "call", "args": args, "func": object{
			"name": n.Func.Name, "argTypes": n.Func.ArgTypes, "variadic": n.Func.Variadic, "returnType": n.Func.ReturnType,
		}}
	case *parser.VectorSelector:
		return selectorTree("vectorSelector", n)
	case *parser.MatrixSelector:
		vs, ok := n.VectorSelector.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		out := selectorTree("matrixSelector", vs)
		out["range"] = n.Range.Milliseconds()
		return out
	case *parser.SubqueryExpr:
		return object{
			"type": "subquery", "expr": syntaxTree(n.Expr), "range": n.Range.Milliseconds(), "step": n.Step.Milliseconds(),
			"offset": n.OriginalOffset.Milliseconds(), "timestamp": n.Timestamp, "startOrEnd": preprocessor(n.StartOrEnd),
		}
	}
	return object{"type": fmt.Sprintf("%T", expr)}
}

func selectorTree(kind string, n *parser.VectorSelector) object {
	matchers := make([]object, len(n.LabelMatchers))
	for i, m := range n.LabelMatchers {
		matchers[i] = matcherTree(m)
	}
	return object{
		"type": kind, "name": n.Name, "matchers": matchers, "offset": n.OriginalOffset.Milliseconds(),
		"timestamp": n.Timestamp, "startOrEnd": preprocessor(n.StartOrEnd), "anchored": n.Anchored, "smoothed": n.Smoothed,
	}
}

func matcherTree(m *labels.Matcher) object {
	return object{"name": m.Name, "type": m.Type.String(), "value": m.Value}
}

func matchingTree(m *parser.VectorMatching) any {
	if m == nil {
		return nil
	}
	return object{"card": m.Card.String(), "on": m.On, "labels": list(m.MatchingLabels), "include": list(m.Include)}
}

// preprocessor names start() or end() behind an @, nil where there is none.
func preprocessor(item parser.ItemType) any {
	if item == 0 {
		return nil
	}
	return item.String()
}

// list is never written as null.
func list(names []string) []string {
	if names == nil {
		return []string{}
	}
	return names
}
