package evaluate

import (
	"context"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/services/ruler/internal/query"
)

func TestWhatATwinLacksIsExcusedWhereOnlyThePresentIsRead(t *testing.T) {
	t.Parallel()
	s := newSuite(t, "  - {record: mine, expr: x}\n")
	e := s.evaluator
	e.cfg.External = labels.FromStrings("team", "x", "rule_replica", "r0")
	e.cfg.Dropped = []string{"rule_replica"}
	twin := query.Missing{Labels: labels.FromStrings("team", "x", "rule_replica", "r1")}
	for text, want := range map[string]bool{
		"sum(up)":                         true,
		"rate(requests_total[5m])":        true,
		"mine > 0":                        true,
		`ALERTS{alertstate="firing"}`:     true,
		"avg_over_time(mine[5m])":         false,
		"mine offset 5m":                  false,
		"mine @ 1700000000":               false,
		"max_over_time((mine > 0)[1h:])":  false,
		`rate({job="x"}[5m])`:             false,
		`rate({__name__=~"m.*"}[5m])`:     false,
		"count_over_time(ALERTS[1h]) > 0": false,
	} {
		require.Equal(t, want, e.Excuse(t.Context(), text, twin), text)
	}
	for name, other := range map[string]labels.Labels{
		"another store":   labels.FromStrings("cluster", "eu1"),
		"another ruler":   labels.FromStrings("team", "y", "rule_replica", "r1"),
		"no replica":      labels.FromStrings("team", "x"),
		"it never told":   labels.EmptyLabels(),
		"the ruler is me": e.cfg.External,
	} {
		require.False(t, e.Excuse(t.Context(), "sum(up)", query.Missing{Labels: other}), name)
	}
	part := context.WithValue(t.Context(), textKey{}, "mine > 0")
	require.True(t, e.Excuse(part, `{__name__="mine"}[5m]`, twin), "the rule counts, not what is fetched for it")
}
