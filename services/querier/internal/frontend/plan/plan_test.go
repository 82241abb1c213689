package plan

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/downsample"
)

func TestRangesAreRoundedDownToTheStep(t *testing.T) {
	t.Parallel()
	require.Equal(t, Range{Start: 60, End: 120, Step: 60}, Range{Start: 61, End: 179, Step: 60}.Align())
	require.Equal(t, Range{Start: -120, End: -60, Step: 60}, Range{Start: -61, End: -1, Step: 60}.Align())
	require.Equal(t, Range{Start: 60, End: 60, Step: 60}, Range{Start: 60, End: 60, Step: 60}.Align())
}

func TestRangesAreSplitBetweenMultiplesOfTheInterval(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		in       Range
		interval int64
		want     []Range
	}{
		"not at all":          {Range{0, 100, 10}, 0, []Range{{0, 100, 10}}},
		"within one":          {Range{0, 90, 10}, 100, []Range{{0, 90, 10}}},
		"at the edge":         {Range{0, 100, 10}, 100, []Range{{0, 90, 10}, {100, 100, 10}}},
		"off the grid":        {Range{7, 215, 30}, 100, []Range{{7, 97, 30}, {127, 215, 30}}},
		"step above interval": {Range{0, 700, 350}, 100, []Range{{0, 0, 350}, {350, 350, 350}, {700, 700, 350}}},
		"below zero":          {Range{-150, 20, 50}, 100, []Range{{-150, -150, 50}, {-100, -50, 50}, {0, 20, 50}}},
		"one instant":         {Range{250, 250, 10}, 100, []Range{{250, 250, 10}}},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, tc.want, tc.in.Split(tc.interval))
		})
	}
}

func TestPartsHaveTheStepsOfTheRangeEachOnce(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		r := Range{Start: random.Int64N(1000) - 500, Step: random.Int64N(200) + 1}
		r.End = r.Start + random.Int64N(2000)
		interval := random.Int64N(500)
		next := r.Start
		parts := r.Split(interval)
		for _, p := range parts {
			require.Equal(t, next, p.Start, "%v by %d", r, interval)
			if interval > 0 {
				require.Equal(t, Bucket(p.Start, interval), Bucket(p.Last(), interval))
			}
			next = p.Last() + r.Step
		}
		require.Greater(t, next, r.End)
		require.Equal(t, r.End, parts[len(parts)-1].End)
		require.Equal(t, r.Last(), parts[len(parts)-1].Last())
	}
}

func TestIntervalsAreFixedOrFollowTheRange(t *testing.T) {
	t.Parallel()
	of := func(d time.Duration) Range { return Range{End: d.Milliseconds(), Step: 1000} }
	fixed := Intervals{Static: time.Hour}
	require.Equal(t, time.Hour.Milliseconds(), fixed.For(of(300*time.Hour)))
	dynamic := Intervals{Min: time.Hour, Max: 12 * time.Hour, Shards: 4}
	require.Equal(t, time.Hour.Milliseconds(), dynamic.For(of(30*time.Minute)))
	require.Equal(t, 2*time.Hour.Milliseconds(), dynamic.For(of(8*time.Hour)))
	require.Equal(t, 12*time.Hour.Milliseconds(), dynamic.For(of(24*time.Hour)))
	require.Zero(t, Intervals{}.For(of(time.Hour)))
}

func TestWindowsOfCallsShareTheirParts(t *testing.T) {
	t.Parallel()
	require.Equal(t, []Range{{5, 99, 1}, {100, 150, 1}}, Window(5, 150, 100, 0, 0))
	require.Equal(t, []Range{{5, 150, 1}}, Window(5, 150, 0, 0, 0))
	// Old enough: both ends move outward.
	require.Equal(t, []Range{{0, 99, 1}, {100, 159, 1}}, Window(5, 153, 100, 10, 1000))
	// The end is young: what is old is a part of its own.
	require.Equal(t, []Range{{0, 99, 1}, {100, 149, 1}, {150, 163, 1}}, Window(5, 163, 100, 10, 155))
	require.Equal(t, []Range{{150, 163, 1}}, Window(155, 163, 100, 10, 100))
}

func parse(t *testing.T, text string) parser.Expr {
	t.Helper()
	expr, err := parser.ParseExpr(text)
	require.NoError(t, err, text)
	return expr
}

func TestEndsOfTheRangeArePutIntoTheExpression(t *testing.T) {
	t.Parallel()
	r := Range{Start: 1000, End: 61500, Step: 10}
	for in, want := range map[string]string{
		`up`:                             `up`,
		`up @ start()`:                   `up @ 1.000`,
		`rate(up[5m] @ end() offset 1m)`: `rate(up[5m] @ 61.500 offset 1m)`,
		`max_over_time(up[5m:1m] @ end()) + up @ 7`: `max_over_time(up[5m:1m] @ 61.500) + up @ 7.000`,
		`{"a.b", "c d"="e"} @ start()`:              `{"c d"="e",__name__="a.b"} @ 1.000`,
	} {
		expr := parse(t, in)
		require.Equal(t, in != want, Pin(expr, r), in)
		require.Equal(t, want, expr.String())
		parse(t, expr.String())
	}
}

func TestWhatLooksAheadIsNotKept(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		`up`: true, `rate(up[5m] offset 1h)`: true, `up offset -1s`: false, `up @ 50`: true, `up @ 150`: false,
		`up @ end()`: false, `max_over_time(up[5m:1m] offset -1m)`: false, `sum(up) / sum(up offset -1m)`: false,
		`max_over_time((up offset -1m)[5m:1m])`: false, `time()`: true, `max_over_time(up[5m:] @ 150)`: false,
	} {
		require.Equal(t, want, Cacheable(parse(t, text), 100_000), text)
	}
}

func TestExpressionsAreDividedByWhatTheirPartsAgreeOn(t *testing.T) {
	t.Parallel()
	by := func(ls ...string) *Sharding { return &Sharding{By: true, Labels: ls} }
	without := func(ls ...string) *Sharding { return &Sharding{Labels: ls} }
	for text, want := range map[string]*Sharding{
		`up`: nil, `rate(up[5m])`: nil, `sum(up)`: nil, `1`: nil, `time()`: nil,
		`sum by (job) (up)`:                                          by("job"),
		`sum by (job, pod) (rate(up[5m]))`:                           by("job", "pod"),
		`sum without (pod) (up)`:                                     without("__name__", "pod"),
		`sum by (__name__) (up)`:                                     nil,
		`sum by (__name__, job) (up)`:                                by("job"),
		`sum by (job) (sum by (job, pod) (up))`:                      by("job"),
		`sum by (pod) (max by (job) (up))`:                           nil,
		`sum by (pod, job) (max without (pod) (up))`:                 by("job"),
		`sum by (job) (a) / sum by (job) (b)`:                        by("job"),
		`sum by (job) (a) / on (pod) b`:                              nil,
		`a / on (pod) b`:                                             by("pod"),
		`a / b`:                                                      without("__name__"),
		`a / ignoring (pod) b`:                                       without("__name__", "pod"),
		`a and on () b`:                                              nil,
		`a * on (job) group_left (version) b`:                        by("job"),
		`sum by (version) (a * ignoring (x) group_left (version) b)`: nil,
		`histogram_quantile(0.9, sum by (le) (a))`:                   nil,
		`histogram_quantile(0.9, sum by (le, job) (a))`:              by("job"),
		`histogram_quantile(0.9, a)`:                                 without("__name__", "le"),
		`sum by (job) (absent(up))`:                                  nil,
		`sum by (job) (up) * scalar(up)`:                             nil,
		`sum by (job) (up) or vector(1)`:                             nil,
		`sum by (job) (up) > on () hour()`:                           nil,
		`sum by (job) (label_replace(up, "job", "$1", "x", "(.*)"))`: nil,
		`sum by (job) (label_replace(up, "x", "$1", "job", "(.*)"))`: by("job"),
		`sum without (x) (label_join(up, "y", "-", "job"))`:          without("__name__", "x", "y"),
		`count_values by (job) ("v", up)`:                            by("job"),
		`count_values by (job, v) ("v", up)`:                         by("job"),
		`topk by (job) (1, up)`:                                      by("job"),
		`sort(sum by (job) (up))`:                                    nil,
		`sum by (job) (max_over_time(up[5m:1m]))`:                    by("job"),
		`sum by (job) (up) > 2`:                                      by("job"),
		`-sum by (job) (up)`:                                         by("job"),
	} {
		got, ok := Shard(parse(t, text))
		require.Equal(t, want != nil, ok, "%s: %v", text, got)
		if want != nil {
			require.Equal(t, *want, got, text)
		}
	}
	require.Equal(t, []string{
		`{"shard_index":0,"total_shards":2,"by":true,"labels":["job"]}`, `{"shard_index":1,"total_shards":2,"by":true,"labels":["job"]}`,
	}, Sharding{By: true, Labels: []string{"job"}}.Infos(2))
}

func TestShorterStepsDivideLongerOnes(t *testing.T) {
	t.Parallel()
	require.Equal(t, []int64{30_000, 20_000, 15_000, 10_000, 5_000, 2_000, 1_000}, Finer(60_000))
	require.Equal(t, []int64{1_000}, Finer(97_000))
	require.Empty(t, Finer(1_000))
	require.Empty(t, Finer(1_500))
	require.Equal(t, int64(43_200_000), Finer(86_400_000)[0])
}

func TestResolutionsOfOneClassMeanTheSame(t *testing.T) {
	t.Parallel()
	levels := []time.Duration{0, 5 * time.Minute, time.Hour}
	meaning := func(d, lookback, reach time.Duration) []any {
		out := []any{downsample.Lookback(lookback, d)}
		for _, function := range []string{"", "rate"} {
			asked := downsample.CapResolution(d, function, reach)
			for _, l := range levels {
				out = append(out, l <= asked)
			}
		}
		return out
	}
	random := rand.New(rand.NewPCG(3, 4))
	seen := map[string][]time.Duration{}
	for range 5000 {
		d := time.Duration(random.Int64N(int64(2 * time.Hour)))
		if random.IntN(2) == 0 {
			d = []time.Duration{0, 1, time.Second, 5*time.Minute - 1, 5 * time.Minute, 5*time.Minute + 1, time.Hour - 1, time.Hour, time.Hour + 1}[random.IntN(9)]
		}
		class := ResolutionClass(d)
		seen[class] = append(seen[class], d)
		lookback, reach := time.Duration(random.Int64N(int64(2*time.Hour))), time.Duration(random.Int64N(int64(3*time.Hour)))
		for _, other := range seen[class][:min(len(seen[class]), 20)] {
			require.Equal(t, meaning(other, lookback, reach), meaning(d, lookback, reach), "%s and %s", other, d)
		}
	}
	require.Len(t, seen, 5)
}
