package rulefilter

import (
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/thanos"
)

func TestAFilterLetsThroughTheRulesThatARequestNames(t *testing.T) {
	t.Parallel()
	lset := labels.FromStrings("team", "x", "owner", "{{ $labels.owner }}")
	for name, tc := range map[string]struct {
		req         *thanos.RulesRequest
		group, rule bool
	}{
		"nothing said":      {&thanos.RulesRequest{}, true, true},
		"its kind":          {&thanos.RulesRequest{Type: thanos.RulesRequest_ALERT}, true, true},
		"another kind":      {&thanos.RulesRequest{Type: thanos.RulesRequest_RECORD}, true, false},
		"its name":          {&thanos.RulesRequest{RuleName: []string{"other", "r"}}, true, true},
		"another name":      {&thanos.RulesRequest{RuleName: []string{"other"}}, true, false},
		"its group":         {&thanos.RulesRequest{RuleGroup: []string{"g"}, File: []string{"f"}}, true, true},
		"another group":     {&thanos.RulesRequest{RuleGroup: []string{"other"}}, false, true},
		"another file":      {&thanos.RulesRequest{RuleGroup: []string{"g"}, File: []string{"other"}}, false, true},
		"its labels":        {&thanos.RulesRequest{MatcherString: []string{`{team="y"}`, `{team="x"}`}}, true, true},
		"other labels":      {&thanos.RulesRequest{MatcherString: []string{`{team="y"}`}}, true, false},
		"a template":        {&thanos.RulesRequest{MatcherString: []string{`{team="x",owner=""}`}}, true, true},
		"a template's text": {&thanos.RulesRequest{MatcherString: []string{`{owner=~".+"}`}}, true, false},
	} {
		f, err := New(tc.req)
		require.NoError(t, err, name)
		require.Equal(t, tc.group, f.Group("g", "f"), name)
		require.Equal(t, tc.rule, f.Rule(thanos.RulesRequest_ALERT, "r", lset), name)
	}
	for _, req := range []*thanos.RulesRequest{{Type: 7}, {MatcherString: []string{"{"}}} {
		_, err := New(req)
		require.ErrorIs(t, err, storeapi.ErrInvalid)
	}
}
