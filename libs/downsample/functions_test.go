package downsample

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/chunks"
)

func TestEachFunctionReadsTheAggregateThatSuitsIt(t *testing.T) {
	t.Parallel()
	mean := []chunks.Aggr{chunks.Count, chunks.Sum}
	for want, functions := range map[chunks.Aggr][]string{
		chunks.Min:     {"min", "min_over_time"},
		chunks.Max:     {"max", "max_over_time"},
		chunks.Count:   {"count", "count_over_time", "count_values"},
		chunks.Sum:     {"sum_over_time"},
		chunks.Counter: {"increase", "rate", "irate", "resets", "xincrease", "xrate"},
	} {
		for _, f := range functions {
			require.Equal(t, []chunks.Aggr{want}, AggregatesFor(f), f)
		}
	}
	for _, f := range []string{"", "sum", "avg", "avg_over_time", "delta", "deriv", "minute", "last_over_time", "quantile", "rates"} {
		require.Equal(t, mean, AggregatesFor(f), f)
	}
}

func TestResolutionIsCappedForFunctionsThatNeedTwoPoints(t *testing.T) {
	t.Parallel()
	const h, m = time.Hour, time.Minute
	for _, tc := range []struct {
		function    string
		source, rng time.Duration
		want        time.Duration
	}{
		{"rate", h, 10 * m, 5 * m},
		{"rate", 5 * m, h, 5 * m},
		{"holt_winters", h, h, 30 * m},
		{"double_exponential_smoothing", h, h, 30 * m},
		{"predict_linear", h, m, 30 * time.Second},
		{"idelta", h, h, 30 * m},
		{"max_over_time", h, 10 * m, h},
		{"sum", h, 0, h},
		{"rate", h, 0, h},
		{"rate", 0, h, 0},
	} {
		require.Equal(t, tc.want, CapResolution(tc.source, tc.function, tc.rng), "%+v", tc)
	}
	require.Equal(t, 12*time.Second, AutoResolution(m))
}

func TestLookbackReachesTheCoarsestResolutionThatMayBeServed(t *testing.T) {
	t.Parallel()
	const m = time.Minute
	for _, tc := range []struct{ lookback, source, want time.Duration }{
		{5 * m, 0, 5 * m},
		{m, 0, m},
		{m, 1, 5 * m},
		{m, 5 * m, 5 * m},
		{5 * m, 5*m + 1, time.Hour},
		{5 * m, time.Hour, time.Hour},
		{2 * time.Hour, time.Hour, 2 * time.Hour},
	} {
		require.Equal(t, tc.want, Lookback(tc.lookback, tc.source), "%+v", tc)
	}
}

func TestWindowsEndOneMillisecondBeforeTheNext(t *testing.T) {
	t.Parallel()
	for _, tc := range [][2]int64{{0, 299999}, {1, 299999}, {299999, 299999}, {300000, 599999}, {-1, -1}, {-300000, -1}, {-300001, -300001}} {
		require.Equal(t, tc[1], windowEnd(tc[0], Resolution5m), "t=%d", tc[0])
	}
}

func TestChunkCountKeepsChunksNearTheirSize(t *testing.T) {
	t.Parallel()
	for windows, want := range map[int]int{1: 1, 140: 1, 141: 2, 281: 2, 282: 3, 3181: 23} {
		// The smallest x with windows/x <= 140, by trying.
		x := 1
		for windows/x > 140 {
			x++
		}
		require.Equal(t, want, x)
		require.Equal(t, x, windows/(samplesPerChunk+1)+1, "%d windows", windows)
	}
	require.Equal(t, 1, chunkCount(5, 5, rawSpacing, Resolution5m, 1))
}
