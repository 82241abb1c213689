package rulefile

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
)

// Duplicate is a rule that gives its results the name and labels that those of another have.
type Duplicate struct {
	// File and Line are where the rule is, FirstFile and FirstLine where the one before it.
	File, FirstFile string
	Line, FirstLine int
	// Name is that of both, Labels are those that both add.
	Name   string
	Labels labels.Labels
	// Same tells that the expressions are the same too.
	Same bool
}

func (d Duplicate) String() string {
	what := "the name and labels"
	if d.Same {
		what = "the name, labels and expression"
	}
	return fmt.Sprintf("%s:%d: %s%s has %s of the rule in %s:%d", d.File, d.Line, d.Name, d.Labels, what, d.FirstFile, d.FirstLine)
}

// Duplicates finds rules whose results cannot be told apart by what the rules say. Results of recording rules may
// still differ in the labels that their expressions leave, so that this is suspicious rather than wrong. Groups are
// compared across files.
func Duplicates(groups []Group) []Duplicate {
	type place struct {
		file, expr string
		line       int
	}
	var out []Duplicate
	seen := map[string]place{}
	for _, g := range groups {
		for i, r := range g.Rules {
			kind, name := "record", r.Record
			if r.Alert != "" {
				kind, name = "alert", r.Alert
			}
			all := maps.Clone(g.Labels)
			if all == nil {
				all = map[string]string{}
			}
			maps.Copy(all, r.Labels)
			lset := labels.FromMap(all)
			here := place{file: g.File, expr: r.Expr}
			if i < len(g.Lines) {
				here.line = g.Lines[i]
			}
			key := kind + "\xff" + name + "\xff" + lset.String()
			first, there := seen[key]
			if !there {
				seen[key] = here
				continue
			}
			out = append(out, Duplicate{
				File: here.file, Line: here.line, FirstFile: first.file, FirstLine: first.line,
				Name: name, Labels: lset, Same: first.expr == here.expr,
			})
		}
	}
	slices.SortStableFunc(out, func(a, b Duplicate) int {
		return cmp.Or(strings.Compare(a.File, b.File), a.Line-b.Line)
	})
	return out
}
