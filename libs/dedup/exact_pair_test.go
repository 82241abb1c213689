package dedup

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/chunks"
)

// An HA pair as it is met most: 15 s, the second replica 7 s later, each missing ten minutes of every
// second block of two hours, integer counters with rare resets. Whole replicas, which nobody has, are what the
// pair is measured against: it must be no worse than the second one alone, if that had no gaps.
func TestExactPairIsNoWorseThanAReplicaWithoutGaps(t *testing.T) {
	t.Parallel()
	const hours, nSeries = 24, 24
	rnd := rand.New(rand.NewPCG(3, 1))
	var shelf shelf
	r0, r1 := &scraper{interval: 15000}, &scraper{interval: 15000, phase: 7000}
	g0, g1 := *r0, *r1
	for i := int64(0); i < hours/4; i++ {
		g0.gaps = append(g0.gaps, missed(2*i))
		g1.gaps = append(g1.gaps, missed(2*i+1))
	}
	var resets []float64
	for i := range nSeries {
		p := counterProcess(rnd, sceneStart, hours*3600, 40_000)
		put := func(fn Func, who string, lists ...[]fsample) {
			var chks []chunks.AggrChunk
			for _, l := range lists {
				chks = append(chks, encode(t, l, 120)...)
			}
			shelf.put(fn, join(chks), "__name__", "x", "job", "j"+strconv.Itoa(i%3), "series", strconv.Itoa(i), "who", who)
		}
		a, b := g0.scrape(rnd, p), g1.scrape(rnd, p)
		put(Exact, "truth", (&scraper{interval: 1000}).scrape(rnd, p))
		put(Exact, "r0 whole", r0.scrape(rnd, p))
		put(Exact, "r1 whole", r1.scrape(rnd, p))
		put(Exact, "r0", a)
		put(Exact, "r1", b)
		for _, fn := range Funcs() {
			put(Func(fn), fn, a, b)
		}
		resets = append(resets, float64(len(p.resets)))
	}

	const end = sceneStart + hours*3600*1000
	for _, against := range []string{"r0 whole", "truth"} {
		for _, f := range []string{"rate", "increase", "irate", "sum_over_time", "avg_over_time", "count_over_time", "max_over_time", "delta"} {
			got := shelf.eval(t, fmt.Sprintf("sum by (job, who) (%s(x[5m]))", f), sceneStart+600_000, end-60_000, 60_000)
			if against == "truth" && (f == "sum_over_time" || f == "count_over_time" || f == "irate") {
				continue // depend on how often one looks
			}
			of := map[string]*tally{}
			for _, who := range append(Funcs(), "r0", "r1", "r0 whole", "r1 whole") {
				of[who] = &tally{}
				for j := range 3 {
					key := func(who string) string {
						return labels.FromStrings("job", "j"+strconv.Itoa(j), "who", who).String()
					}
					of[who].add(got[key(against)], got[key(who)])
				}
			}
			for _, who := range append(Funcs(), "r0", "r1", "r0 whole", "r1 whole") {
				t.Logf("%-16s against %-8s %-8s %v", f, against, who, of[who])
			}
			than := of["r1 whole"]
			if f == "sum_over_time" || f == "count_over_time" {
				// Samples an interval I apart are always W/I in a window of W. Between two phases there is a distance other
				// than I, and so a window around it has one sample more or less, whoever chooses. It is never more than
				// one here, and the pair is better than either of its replicas.
				than = of["r0"]
				if f == "count_over_time" && against == "r0 whole" {
					require.LessOrEqual(t, of["exact"].worst, 1.0/20+1e-9, "one of the twenty samples of a window")
				}
			}
			mean, worst := than.mean(), than.worst
			if against == "truth" {
				// Both replicas err by chance; so may the pair.
				mean, worst = max(mean, of["r0 whole"].mean()), max(worst, of["r0 whole"].worst)
			}
			require.LessOrEqual(t, of["exact"].mean(), mean*1.001, "%s against %s: mean", f, against)
			require.LessOrEqual(t, of["exact"].worst, worst*1.001, "%s against %s: worst", f, against)
		}
	}
	got := shelf.eval(t, "resets(x[30h])", end, end, 60_000)
	for i, want := range resets {
		key := labels.FromStrings("job", "j"+strconv.Itoa(i%3), "series", strconv.Itoa(i), "who", "exact").String()
		require.Equal(t, want, math.Round(got[key][0]), "series %d", i)
	}
}

// The same pair with histograms, classic and native: each of the buckets is a series of its own, and all of
// them change replicas at the same time.
func TestExactPairHasTheQuantilesOfAReplicaWithoutGaps(t *testing.T) {
	t.Parallel()
	const hours = 12
	rnd := rand.New(rand.NewPCG(9, 1))
	var shelf shelf
	r0, r1 := &scraper{interval: 15000}, &scraper{interval: 15000, phase: 7000}
	g0, g1 := *r0, *r1
	for i := int64(0); i < hours/4; i++ {
		g0.gaps = append(g0.gaps, missed(2*i))
		g1.gaps = append(g1.gaps, missed(2*i+1))
	}
	who := map[string][]*scraper{"r0 whole": {r0}, "r1 whole": {r1}, "exact": {&g0, &g1}, "r0": {&g0}, "r1": {&g1}}

	buckets := make([]*process, 5)
	for k := range buckets {
		buckets[k] = counterProcess(rnd, sceneStart, hours*3600, 0)
		for i := range buckets[k].values {
			if k > 0 {
				buckets[k].values[i] += buckets[k-1].values[i]
			}
		}
		le := []string{"0.1", "0.5", "1", "5", "+Inf"}[k]
		for name, scrapers := range who {
			var chks []chunks.AggrChunk
			for _, s := range scrapers {
				chks = append(chks, encode(t, s.scrape(rnd, buckets[k]), 120)...)
			}
			shelf.put(Exact, chunks.SortUnique(chks), "__name__", "classic", "le", le, "who", name)
		}
	}
	for name, scrapers := range who {
		var chks []chunks.AggrChunk
		for _, s := range scrapers {
			var list []hsample
			for _, x := range s.scrape(rnd, buckets[4]) {
				h := histogramAt(x.t - sceneStart)
				// Whatever is counted, the first bucket is counted as often as the classic one.
				extra := uint64(buckets[0].at(x.t))
				h.PositiveBuckets[0] += int64(extra)
				h.PositiveBuckets[1] -= int64(extra)
				h.Count += extra
				list = append(list, hsample{x.t, h})
			}
			chks = append(chks, encodeHistogramList(t, list, 120)...)
		}
		shelf.put(Exact, chunks.SortUnique(chks), "__name__", "native", "who", name)
	}
	for _, expr := range []string{
		"histogram_quantile(0.9, sum by (le, who) (rate(classic[5m])))",
		"histogram_quantile(0.5, sum by (le, who) (increase(classic[5m])))",
		"histogram_quantile(0.9, sum by (who) (rate(native[5m])))",
		"histogram_count(sum by (who) (rate(native[5m])))",
	} {
		got := shelf.eval(t, expr, sceneStart+600_000, sceneStart+hours*3600*1000-60_000, 60_000)
		of := map[string]*tally{}
		for name := range who {
			of[name] = &tally{}
			of[name].add(got[labels.FromStrings("who", "r0 whole").String()], got[labels.FromStrings("who", name).String()])
			t.Logf("%s: %-8s %v", expr, name, of[name])
		}
		require.Positive(t, of["r0"].mean(), expr)
		require.LessOrEqual(t, of["exact"].mean(), of["r1 whole"].mean()*1.001, "%s: mean", expr)
		require.LessOrEqual(t, of["exact"].worst, of["r1 whole"].worst*1.001, "%s: worst", expr)
	}
}
