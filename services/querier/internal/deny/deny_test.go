package deny_test

import (
	"testing"

	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/services/querier/internal/deny"
)

func TestSelectorsAreDeniedByWhatTheySay(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		rules  []string
		query  string
		denied string // by this rule
	}{
		"name":                {[]string{`{__name__=~"debug_.*"}`}, `sum(rate(debug_x[5m]))`, `{__name__=~"debug_.*"}`},
		"other name":          {[]string{`{__name__=~"debug_.*"}`}, `sum(rate(x_debug_x[5m]))`, ""},
		"in a subquery":       {[]string{`{__name__=~"debug_.*"}`}, `max_over_time(up[1h:]) + max_over_time((debug_x)[1h:])`, `{__name__=~"debug_.*"}`},
		"both":                {[]string{`{__name__="x", a="b"}`}, `x{a="b", c="d"}`, `{__name__="x", a="b"}`},
		"one of both":         {[]string{`{__name__="x", a="b"}`}, `x{a="c"}`, ""},
		"absence":             {[]string{`{__name__=~".+", cluster=""}`}, `x{a="c"}`, `{__name__=~".+", cluster=""}`},
		"presence":            {[]string{`{__name__=~".+", cluster=""}`}, `x{cluster=~"eu|us"}`, ""},
		"a pattern":           {[]string{`{instance=~"\\.[*+]"}`}, `x{instance=~".*"}`, `{instance=~"\\.[*+]"}`},
		"a value":             {[]string{`{instance=~"\\.[*+]"}`}, `x{instance="a"}`, ""},
		"the second rule":     {[]string{`a`, `b`}, `a1 + b`, `b`},
		"no rules, no denial": {nil, `up`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rules, err := deny.Parse(tc.rules)
			require.NoError(t, err)
			expr, err := parser.ParseExpr(tc.query)
			require.NoError(t, err)
			err = rules.Expr(expr)
			if tc.denied == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, "by the rule "+tc.denied)
		})
	}
	_, err := deny.Parse([]string{`up`, `{`})
	require.ErrorContains(t, err, `deny rule "{"`)
	require.NoError(t, (*deny.Rules)(nil).Matchers(nil))
}
