package frontend

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/services/querier/internal/frontend/plan"
)

func TestAnswersAtShorterStepsServeLongerOnes(t *testing.T) {
	t.Parallel()
	h := newHouse(t).cached().build()
	at := func(step string, more ...string) []string {
		return append([]string{"query", "rate(requests_total[5m])", "start", "600", "end", "6000", "step", step}, more...)
	}
	ask(t, h.fe, "query_range", at("60")...)
	require.NotEmpty(t, h.up.taken())
	got := ask(t, h.fe, "query_range", at("300")...)
	require.Empty(t, h.up.taken())
	require.JSONEq(t, ask(t, h.up, "query_range", at("300")...).Body.String(), got.Body.String())
	h.up.taken()
	taken := testutil.ToFloat64(h.fe.metrics.finer)
	require.InDelta(t, 4, taken, 0, "one of each half hour")
	ask(t, h.fe, "query_range", at("300")...)
	require.InDelta(t, 2*taken, testutil.ToFloat64(h.fe.metrics.finer), 0, "they are not kept twice")

	// A part of the range is known at a shorter step.
	got = ask(t, h.fe, "query_range", "query", "rate(requests_total[5m])", "start", "0", "end", "6900", "step", "300")
	require.Equal(t, []string{"0-300", "6300-6900"}, times(h.up.taken()))
	require.JSONEq(t, ask(t, h.up, "query_range", "query", "rate(requests_total[5m])", "start", "0", "end", "6900", "step", "300").Body.String(), got.Body.String())
	h.up.taken()
	// Both are auto, which means another resolution for each, though none that there are data of.
	ask(t, h.fe, "query_range", at("60", "max_source_resolution", "auto")...)
	h.up.taken()
	ask(t, h.fe, "query_range", at("600", "max_source_resolution", "auto")...)
	require.Empty(t, h.up.taken())

	for name, params := range map[string][]string{
		"off the steps":        {"query", "rate(requests_total[5m])", "start", "630", "end", "6000", "step", "300"},
		"not divided":          at("90"),
		"another resolution":   at("300", "max_source_resolution", "5m"),
		"auto that is coarser": at("1800", "max_source_resolution", "auto"),
		"another lookback":     at("300", "lookback_delta", "1m"),
	} {
		ask(t, h.fe, "query_range", params...)
		require.NotEmpty(t, h.up.taken(), name)
	}

	// A note may be about a step that is not asked for.
	ask(t, h.fe, "query_range", "query", "rate(temperature[5m])", "start", "0", "end", "3540", "step", "60")
	h.up.taken()
	ask(t, h.fe, "query_range", "query", "rate(temperature[5m])", "start", "0", "end", "3540", "step", "300")
	require.Len(t, h.up.taken(), 2)
}

func TestWhateverStepsAreKnownAnswersAreTheSame(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(11, 12))
	h := newHouse(t).cached()
	h.cfg.VerticalShards = 2
	h.build()
	exprs := []string{
		`rate(requests_total[5m])`, `sum by (job) (mixed)`, `ver or odd`, `native`, `max_over_time(temperature[1h:5m])`, `requests_total offset 20m`,
		`sum by (job) (rate(native[5m]))`, `timestamp(requests_total)`, `requests_total @ 3600`, `absent(temperature{room="south"})`,
	}
	for range 400 {
		step := []int{5, 15, 30, 60, 90, 120, 300, 600, 900, 1800, 3600}[random.IntN(11)]
		start := random.IntN(12000) / step * step
		end := start + random.IntN(9000)
		h.now = time.Unix(int64(8000+random.IntN(20000)), 0)
		params := []string{
			"query", exprs[random.IntN(len(exprs))], "start", fmt.Sprint(start), "end", fmt.Sprint(end), "step", fmt.Sprint(step),
		}
		if random.IntN(3) == 0 {
			params = append(params, "max_source_resolution", "auto")
		}
		want, got := ask(t, h.up, "query_range", params...), ask(t, h.fe, "query_range", params...)
		require.Equal(t, http.StatusOK, got.Code, "%s", got.Body)
		require.JSONEq(t, want.Body.String(), got.Body.String(), "%v", params)
	}
	require.Greater(t, testutil.ToFloat64(h.fe.metrics.finer), 50.0)
}

func TestShorterStepsAreFoundWhateverTheSplit(t *testing.T) {
	t.Parallel()
	for name, intervals := range map[string]plan.Intervals{
		"none": {}, "short": {Static: 7 * time.Minute}, "long": {Static: 24 * time.Hour},
	} {
		h := newHouse(t).cached()
		h.cfg.Range.Intervals = intervals
		h.build()
		for _, step := range []string{"30", "60", "300", "600"} {
			ask(t, h.fe, "query_range", "query", "requests_total", "start", "-1200", "end", "6000", "step", step)
			if step != "30" {
				require.Empty(t, h.up.taken(), "%s, %s", name, step)
			}
			h.up.taken()
		}
	}
}
