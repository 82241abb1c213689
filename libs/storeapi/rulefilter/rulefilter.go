// Package rulefilter decides which groups and rules a request of the Rules API gets, for servers that have the rules themselves.
package rulefilter

import (
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/thanos"
)

// Filter is which groups and rules a request of the Rules API wants; what it does not say restricts nothing. It never changes.
type Filter struct {
	kind                 thanos.RulesRequest_Type
	names, groups, files []string
	selectors            [][]*labels.Matcher
}

// New returns the filter of a request. Errors are [storeapi.ErrInvalid].
func New(req *thanos.RulesRequest) (*Filter, error) {
	f := &Filter{kind: req.GetType(), names: req.GetRuleName(), groups: req.GetRuleGroup(), files: req.GetFile()}
	if _, ok := thanos.RulesRequest_Type_name[int32(f.kind)]; !ok {
		return nil, storeapi.Invalidf("unknown type of rules %d", f.kind)
	}
	for _, text := range req.GetMatcherString() {
		ms, err := parser.ParseMetricSelector(text)
		if err != nil {
			return nil, storeapi.Invalidf("matcher of rules %q: %v", text, err)
		}
		f.selectors = append(f.selectors, ms)
	}
	return f, nil
}

func allows(list []string, s string) bool { return len(list) == 0 || slices.Contains(list, s) }

// Group reports whether the group of that name in that file is wanted.
func (f *Filter) Group(name, file string) bool {
	return allows(f.groups, name) && allows(f.files, file)
}

// Rule reports whether a rule of that kind and name is wanted. lset is its labels with the external ones; a label whose value is a
// template has none before it is evaluated. Of several selectors one has to match.
func (f *Filter) Rule(kind thanos.RulesRequest_Type, name string, lset labels.Labels) bool {
	if f.kind != thanos.RulesRequest_ALL && f.kind != kind || !allows(f.names, name) {
		return false
	}
	return len(f.selectors) == 0 || slices.ContainsFunc(f.selectors, func(ms []*labels.Matcher) bool {
		for _, m := range ms {
			value := lset.Get(m.Name)
			if strings.Contains(value, "{{") {
				value = ""
			}
			if !m.Matches(value) {
				return false
			}
		}
		return true
	})
}
