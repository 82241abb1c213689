package plan

import (
	"time"

	"github.com/prometheus/prometheus/promql/parser"
)

// Pin puts times in the place of "@ start()" and "@ end()", which mean the ends of the whole query, so that parts of it mean
// the same. changed tells whether there were any; expr is changed in place.
func Pin(expr parser.Expr, r Range) (changed bool) {
	pin := func(word parser.ItemType, at **int64) bool {
		var t int64
		switch word {
		case parser.START:
			t = r.Start
		case parser.END:
			t = r.End
		default:
			return false
		}
		*at = &t
		changed = true
		return true
	}
	parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
		switch n := n.(type) {
		case *parser.VectorSelector:
			if pin(n.StartOrEnd, &n.Timestamp) {
				n.StartOrEnd = 0
			}
		case *parser.SubqueryExpr:
			if pin(n.StartOrEnd, &n.Timestamp) {
				n.StartOrEnd = 0
			}
		}
		return nil
	})
	return changed
}

// Cacheable tells whether the value of expr at a step stays what it is once that step is older than fresh. What looks ahead of its
// step, by a negative offset or by @, may still change.
func Cacheable(expr parser.Expr, fresh int64) bool {
	settled := true
	check := func(at *int64, word parser.ItemType, offset time.Duration) {
		if offset < 0 || word != 0 || at != nil && *at > fresh {
			settled = false
		}
	}
	parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
		switch n := n.(type) {
		case *parser.VectorSelector:
			check(n.Timestamp, n.StartOrEnd, n.OriginalOffset)
		case *parser.SubqueryExpr:
			check(n.Timestamp, n.StartOrEnd, n.OriginalOffset)
		}
		return nil
	})
	return settled
}
