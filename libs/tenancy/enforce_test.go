package tenancy

import (
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) {
	parser.EnableExperimentalFunctions = true
	m.Run()
}

func newEnforcer(t testing.TB) *Enforcer {
	t.Helper()
	e, err := NewEnforcer("tenant_id", "a")
	require.NoError(t, err)
	return e
}

func TestEverySelectorOfAQueryGetsTheTenantsMatcher(t *testing.T) {
	t.Parallel()
	e := newEnforcer(t)
	for query, want := range map[string]string{
		`up`:                           `up{tenant_id="a"}`,
		`{__name__=~"a.*"}`:            `{__name__=~"a.*",tenant_id="a"}`,
		`{"dotted.name"}`:              `{"dotted.name",tenant_id="a"}`,
		`up{tenant_id="a"}`:            `up{tenant_id="a"}`,
		`up{tenant_id="b"}`:            `up{tenant_id="a",tenant_id="b"}`,
		`up{tenant_id=~".*"}`:          `up{tenant_id="a",tenant_id=~".*"}`,
		`sum by (job) (rate(x[5m]))`:   `sum by (job) (rate(x{tenant_id="a"}[5m]))`,
		`a + on (job) group_left () b`: `a{tenant_id="a"} + on (job) group_left () b{tenant_id="a"}`,
		`max_over_time(rate(x[1m])[1h:5m] offset 1d)`: `max_over_time(rate(x{tenant_id="a"}[1m])[1h:5m] offset 1d)`,
		`x @ end() offset -5m`:                        `x{tenant_id="a"} @ end() offset -5m`,
		`absent(x) or vector(1)`:                      `absent(x{tenant_id="a"}) or vector(1)`,
		`topk(scalar(k), x)`:                          `topk(scalar(k{tenant_id="a"}), x{tenant_id="a"})`,
		`-x`:                                          `-x{tenant_id="a"}`,
		`(x)`:                                         `(x{tenant_id="a"})`,
		`label_replace(x, "a", "b{}", "c", "d{.*}")`: `label_replace(x{tenant_id="a"}, "a", "b{}", "c", "d{.*}")`,
		`info(x, {k="v"})`:                           `info(x{tenant_id="a"}, {k="v",tenant_id="a"})`,
		`1 + 2`:                                      `1 + 2`,
		`time()`:                                     `time()`,
		`"text"`:                                     `"text"`,
	} {
		got, err := e.Query(query)
		require.NoError(t, err, query)
		want, err := parser.ParseExpr(want)
		require.NoError(t, err, query)
		gotExpr, err := parser.ParseExpr(got)
		require.NoError(t, err, query)
		require.Equal(t, want.String(), gotExpr.String(), query)
	}
}

func TestQueriesThatCannotBeRestrictedAreRefused(t *testing.T) {
	t.Parallel()
	e := newEnforcer(t)
	_, err := e.Query(`sum((`)
	require.ErrorContains(t, err, "parse error")
	_, err = e.Query(`info(rate(x[5m]))`)
	require.ErrorIs(t, err, ErrUnenforceable)
}

func TestSelectorsAreRestrictedAndNoneMeansTheTenantsOwn(t *testing.T) {
	t.Parallel()
	e := newEnforcer(t)
	got, err := e.Selectors(nil)
	require.NoError(t, err)
	require.Equal(t, []string{`{tenant_id="a"}`}, got)

	got, err = e.Selectors([]string{`up`, `{x!="y"}`, `{tenant_id="b"}`})
	require.NoError(t, err)
	require.Equal(t, []string{`{__name__="up",tenant_id="a"}`, `{tenant_id="a",x!="y"}`, `{tenant_id="a",tenant_id="b"}`}, got)

	_, err = e.Selectors([]string{`up`, `{`})
	require.ErrorContains(t, err, `parse selector "{"`)
}

func TestTheMatchersOfTheCallerAreNotChanged(t *testing.T) {
	t.Parallel()
	e := newEnforcer(t)
	backing := make([]*labels.Matcher, 1, 8)
	backing[0] = labels.MustNewMatcher(labels.MatchEqual, "x", "y")
	got := e.Matchers(backing)
	require.Len(t, got, 2)
	require.Nil(t, backing[:2][1])
}

func TestAnEnforcerNeedsALabelAndATenant(t *testing.T) {
	t.Parallel()
	_, err := NewEnforcer("", "a")
	require.ErrorContains(t, err, `tenant label "" is no label name`)
	_, err = NewEnforcer("l", "a/b")
	require.ErrorIs(t, err, ErrInvalid)
}

func FuzzEnforcedQueriesAreRestrictedAndStable(f *testing.F) {
	for _, q := range []string{
		`up`, `sum(rate(x{a="b"}[5m])) / ignoring (z) y`, `{"a b", tenant_id!="a"}`, `x[5m:1m] @ 3 offset -1h`, `info(x, {a=~"b"})`,
		`quantile_over_time(0.5, x[1h:])`, `a and on() b unless c`, `sum_over_time({__name__=""}[1s])`, `x offset (1h + 2m)`,
	} {
		f.Add(q)
	}
	e := newEnforcer(f)
	f.Fuzz(func(t *testing.T, query string) {
		got, err := e.Query(query)
		if err != nil {
			return
		}
		expr, err := parser.ParseExpr(got)
		require.NoError(t, err)
		require.True(t, e.holds(expr), got)
		again, err := e.Query(got)
		require.NoError(t, err)
		require.Equal(t, got, again)
	})
}
