package engine_test

import (
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/promapi"
	"github.com/promontory-io/promontory/services/querier/internal/engine"
	"github.com/promontory-io/promontory/services/querier/internal/grpcapi"
)

func TestMain(m *testing.M) {
	engine.EnableExperimentalFunctions()
	m.Run()
}

const kinds = `load 30s
	mixed{job="a"} {{schema:0 sum:5 count:4 buckets:[1 2 1]}}x20 3x20
	turns{job="a"} 1x20 {{schema:0 sum:5 count:4 buckets:[1 2 1]}}x20
	gauge{job="a"} 1 5 2 8 3 9 1 4 2 7x30
	gaps{job="a"} NaN NaN NaN NaN NaN NaN NaN NaN NaN 1x30
`

func TestBothEnginesAnswerAlikeWhereTheyAreKnownToDiffer(t *testing.T) {
	t.Parallel()
	e := newEngines(t, nil, nil)
	strict := newEngines(t, func(c *engine.Config) { c.DisableFallback = true }, nil)
	st := promqltest.LoadedStorage(t, kinds)
	t.Cleanup(func() { require.NoError(t, st.Close()) })
	answer := func(e *engine.Engines, name promapi.Engine, expr string) string {
		q, err := e.NewQuery(t.Context(), st, grpcapi.QuerySpec{
			Text: expr, Engine: name, Start: time.Unix(0, 0), End: time.Unix(1200, 0), Step: 30 * time.Second,
		})
		require.NoError(t, err)
		defer q.Close()
		res := q.Exec(t.Context())
		require.NoError(t, res.Err, expr)
		return res.Value.String()
	}
	for _, expr := range []string{
		`mixed == mixed`, `mixed + mixed`, `gauge + on (job) mixed`,
		`first_over_time(gauge[5m:1m])`, `first_over_time((gauge[5m:1m]))`,
		`sort(turns)`, `sort_desc(mixed)`, `ts_of_max_over_time(turns[5m])`,
	} {
		want := answer(e, promapi.EnginePrometheus, expr)
		require.NotEmpty(t, want)
		require.Equal(t, want, answer(e, promapi.EngineThanos, expr), expr)
	}
	for _, expr := range []string{`mixed == mixed`, `sort(turns)`, `ts_of_max_over_time(turns[5m])`} {
		require.NotEqual(t, answer(e, promapi.EnginePrometheus, expr), answer(strict, promapi.EngineThanos, expr),
			"%s: once this fails the fall-back can go", expr)
	}
	require.Contains(t, answer(e, promapi.EngineThanos, `mad_over_time(gaps[5m])`), "NaN @[60000]")
}
