package plan

import (
	"encoding/json"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/promontory-io/promontory/libs/promapi"
)

// Sharding is how series can be divided such that each series of the result is computed from series of one shard alone: by the
// values of Labels or, where By is false, of all other labels.
type Sharding struct {
	By     bool
	Labels []string
}

// Shard returns how expr can be divided; ok is false where it cannot.
//
// Each aggregation and each matching of vectors brings together series that agree in some labels, and so may only divide by
// these. What all of them agree on is what is left: by-lists are intersected, without-lists united, and taken off the by-list.
func Shard(expr parser.Expr) (s Sharding, ok bool) {
	a := &analysis{ok: true}
	a.visit(expr)
	// Functions drop the name, so that series which differ in nothing else meet: it never divides.
	switch {
	case !a.ok || !a.hasBy && !a.hasWithout:
		return Sharding{}, false
	case a.hasBy:
		by := slices.DeleteFunc(a.by, func(l string) bool {
			return l == labels.MetricName || slices.Contains(a.without, l) || slices.Contains(a.made, l)
		})
		slices.Sort(by)
		return Sharding{By: true, Labels: slices.Compact(by)}, len(by) > 0
	}
	without := append(append(a.without, a.made...), labels.MetricName)
	slices.Sort(without)
	return Sharding{Labels: slices.Compact(without)}, true
}

// analysis gathers what the parts of an expression say.
type analysis struct {
	ok bool
	// by is the intersection of all by-lists, without the union of the others.
	by, without       []string
	hasBy, hasWithout bool
	// made are labels whose values are not those of the series in storage.
	made []string
}

func (a *analysis) only(list []string) {
	if !a.hasBy {
		a.by, a.hasBy = slices.Clone(list), true
		return
	}
	a.by = slices.DeleteFunc(a.by, func(l string) bool { return !slices.Contains(list, l) })
}

func (a *analysis) except(list ...string) {
	a.without = append(a.without, list...)
	a.hasWithout = true
}

func (a *analysis) visit(n parser.Node) {
	switch n := n.(type) {
	case *parser.AggregateExpr:
		if n.Without {
			a.except(n.Grouping...)
		} else {
			a.only(n.Grouping)
		}
		if n.Op == parser.COUNT_VALUES {
			if label, ok := n.Param.(*parser.StringLiteral); ok {
				a.made = append(a.made, label.Val)
			}
		}
	case *parser.BinaryExpr:
		a.binary(n)
	case *parser.Call:
		a.call(n)
	}
	for child := range parser.ChildrenIter(n) {
		a.visit(child)
	}
}

func (a *analysis) binary(n *parser.BinaryExpr) {
	m := n.VectorMatching
	if m == nil || n.LHS.Type() != parser.ValueTypeVector || n.RHS.Type() != parser.ValueTypeVector {
		return
	}
	// The "one" side gives these labels to the result.
	a.made = append(a.made, m.Include...)
	if m.On {
		a.only(m.MatchingLabels)
		return
	}
	a.except(append([]string{labels.MetricName}, m.MatchingLabels...)...)
}

func (a *analysis) call(n *parser.Call) {
	switch n.Func.Name {
	case "absent", "absent_over_time", "scalar", "vector", "info",
		// The order of what they return would be lost.
		"sort", "sort_desc", "sort_by_label", "sort_by_label_desc":
		a.ok = false
	case "histogram_quantile", "histogram_fraction":
		a.except(labels.BucketLabel)
	case "label_replace", "label_join":
		if label, ok := n.Args[1].(*parser.StringLiteral); ok {
			a.made = append(a.made, label.Val)
		}
	default:
		// Functions such as hour() make a series out of nothing, one in each shard.
		if len(n.Args) == 0 && n.Func.ReturnType == parser.ValueTypeVector {
			a.ok = false
		}
	}
}

// Ordered tells whether the order of the series of an instant result means something.
func Ordered(expr parser.Expr) bool {
	switch e := expr.(type) {
	case *parser.ParenExpr:
		return Ordered(e.Expr)
	case *parser.StepInvariantExpr:
		return Ordered(e.Expr)
	case *parser.AggregateExpr:
		return e.Op == parser.TOPK || e.Op == parser.BOTTOMK
	case *parser.Call:
		switch e.Func.Name {
		case "sort", "sort_desc", "sort_by_label", "sort_by_label_desc":
			return true
		}
	}
	return false
}

// Infos returns the values of the parameter shard_info for n shards.
func (s Sharding) Infos(n int) []string {
	out := make([]string, n)
	for i := range out {
		text, err := json.Marshal(promapi.ShardInfo{ShardIndex: int64(i), TotalShards: int64(n), By: s.By, Labels: s.Labels})
		if err != nil {
			return []string{""} // never: there is nothing in it that has no JSON
		}
		out[i] = string(text)
	}
	return out
}
