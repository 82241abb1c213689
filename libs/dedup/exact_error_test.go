package dedup

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/util/annotations"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/chunks"
	"github.com/promontory-io/promontory/libs/downsample"
)

// shelf is a storage of ready-made series that clips as the querier does.
type shelf struct {
	storage.LabelQuerier
	series     []*shelfSeries
	mint, maxt int64
}

type shelfSeries struct {
	lset labels.Labels
	open func(function string) chunkenc.Iterator
}

func (s *shelf) Querier(mint, maxt int64) (storage.Querier, error) {
	return &shelf{series: s.series, mint: mint, maxt: maxt}, nil
}

func (s *shelf) Close() error { return nil }

func (s *shelf) Select(_ context.Context, _ bool, hints *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	set := &shelfSet{}
	for _, x := range s.series {
		if slices.ContainsFunc(ms, func(m *labels.Matcher) bool { return !m.Matches(x.lset.Get(m.Name)) }) {
			continue
		}
		set.list = append(set.list, &storage.SeriesEntry{Lset: x.lset, SampleIteratorFn: func(chunkenc.Iterator) chunkenc.Iterator {
			return downsample.NewBoundedIterator(x.open(hints.Func), hints.Start, hints.End)
		}})
	}
	slices.SortFunc(set.list, func(a, b storage.Series) int { return labels.Compare(a.Labels(), b.Labels()) })
	return set
}

type shelfSet struct {
	list []storage.Series
	i    int
}

func (s *shelfSet) Next() bool                        { s.i++; return s.i <= len(s.list) }
func (s *shelfSet) At() storage.Series                { return s.list[s.i-1] }
func (s *shelfSet) Err() error                        { return nil }
func (s *shelfSet) Warnings() annotations.Annotations { return nil }

// put adds chunks that are merged by fn.
func (s *shelf) put(fn Func, chks []chunks.AggrChunk, kv ...string) {
	s.series = append(s.series, &shelfSeries{labels.FromStrings(kv...), func(function string) chunkenc.Iterator {
		return MergeChunks(fn, chks, downsample.AggregatesFor(function), Options{
			Counter: AdjustsCounter(function), TrueValues: function == "resets",
		})
	}})
}

type evaluated map[string][]float64 // by the labels' text

// eval runs a range query; steps without a value are NaN.
func (s *shelf) eval(t testing.TB, expr string, start, end, step int64) evaluated {
	t.Helper()
	eng := promql.NewEngine(promql.EngineOpts{MaxSamples: 1e9, Timeout: time.Minute, EnableAtModifier: true})
	q, err := eng.NewRangeQuery(t.Context(), s, nil, expr, time.UnixMilli(start), time.UnixMilli(end), time.Duration(step)*time.Millisecond)
	require.NoError(t, err)
	defer q.Close()
	res := q.Exec(t.Context())
	require.NoError(t, res.Err, expr)
	m, err := res.Matrix()
	require.NoError(t, err)
	out := evaluated{}
	for _, x := range m {
		vs := make([]float64, (end-start)/step+1)
		for i := range vs {
			vs[i] = math.NaN()
		}
		for _, p := range x.Floats {
			vs[(p.T-start)/step] = p.F
		}
		out[x.Metric.DropReserved(func(n string) bool { return n == "__name__" }).String()] = vs
	}
	return out
}

// tally is how far some values were from the truth.
type tally struct {
	sum, worst float64
	n          int
}

// add takes in the errors of got against truth, in parts of the truth's mean magnitude. Where
// there is a truth and no value the whole truth is missing.
func (y *tally) add(truth, got []float64) {
	scale, n := 0.0, 0
	for _, v := range truth {
		if !math.IsNaN(v) {
			scale += math.Abs(v)
			n++
		}
	}
	if scale == 0 {
		return
	}
	scale /= float64(n)
	for i, v := range truth {
		if math.IsNaN(v) {
			continue
		}
		g := 0.0
		if got != nil && !math.IsNaN(got[i]) {
			g = got[i]
		}
		e := math.Abs(g-v) / scale
		y.sum, y.worst, y.n = y.sum+e, max(y.worst, e), y.n+1
	}
}

func (y *tally) mean() float64 { return y.sum / float64(max(y.n, 1)) }

func (y *tally) String() string {
	return fmt.Sprintf("mean %.3f%% worst %.2f%%", 100*y.mean(), 100*y.worst)
}

func TestExactErrsNoMoreThanTheBetterReplica(t *testing.T) {
	t.Parallel()
	const hours = 2
	for kind, exprs := range map[string][]string{
		"counter": {"rate(x[5m])", "increase(x[5m])", "irate(x[5m])", "resets(x[5m])", "max_over_time(x[5m])", "last_over_time(x[5m])", "increase(x[17m])"},
		"gauge": {
			"avg_over_time(x[5m])", "min_over_time(x[5m])", "max_over_time(x[5m])", "sum_over_time(x[5m])", "count_over_time(x[5m])",
			"last_over_time(x[5m])", "quantile_over_time(0.9, x[5m])", "delta(x[5m])", "x", "stddev_over_time(x[5m])",
		},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			var shelf shelf
			n := cases(t, 150)
			better := make([]int, n)
			interval := make([]float64, n)
			for i := range n {
				rnd := rand.New(rand.NewPCG(uint64(i), 11))
				s := newScene(t, rnd, sceneConfig{hours: hours, gauge: kind == "gauge", jitter: true, even: true})
				id := strconv.Itoa(i)
				for r, list := range s.lists {
					shelf.put(Exact, encode(t, list, 120), "__name__", "x", "case", id, "who", "r"+strconv.Itoa(r))
					if len(list) > len(s.lists[better[i]]) {
						better[i] = r
					}
				}
				interval[i] = float64(s.scrapers[0].interval)
				truth := &scraper{interval: 1000}
				shelf.put(Exact, encode(t, truth.scrape(rnd, s.proc), 120), "__name__", "x", "case", id, "who", "truth")
				for _, fn := range Funcs() {
					shelf.put(Func(fn), s.chks, "__name__", "x", "case", id, "who", fn)
				}
			}
			for _, expr := range exprs {
				got := shelf.eval(t, expr, sceneStart+1_100_000, sceneStart+hours*3600_000-120_000, 47_000)
				var of [4]tally // exact, penalty, chain, the better replica
				worse, excess := 0, 0.0
				for i := range n {
					key := func(who string) string { return labels.FromStrings("case", strconv.Itoa(i), "who", who).String() }
					truth := got[key("truth")]
					if strings.HasPrefix(expr, "sum_") || strings.HasPrefix(expr, "count_") {
						for k := range truth {
							truth[k] *= 1000 / interval[i]
						}
					}
					var mine, other tally
					mine.add(truth, got[key("exact")])
					other.add(truth, got[key("r"+strconv.Itoa(better[i]))])
					if mine.worst > other.worst*1.0001+1e-9 {
						worse++
						excess = max(excess, (mine.worst-other.worst)/(interval[i]/300000))
					}
					for f, fn := range Funcs() {
						of[f].add(truth, got[key(fn)])
					}
					of[3].add(truth, got[key("r"+strconv.Itoa(better[i]))])
				}
				t.Logf("%-30s exact %v; penalty %v; better replica %v; worst is worse in %d of %d, by %.2f intervals",
					expr, &of[0], &of[1], &of[3], worse, n, excess)
				require.LessOrEqual(t, of[0].mean(), of[3].mean(), "%s: mean", expr)
				require.LessOrEqual(t, of[0].worst, of[3].worst*1.0001, "%s: worst", expr)
				if strings.HasPrefix(expr, "rate") || strings.HasPrefix(expr, "increase") {
					// In a single case the change of phase may cost what one interval is of the window, where the
					// better replica happens to have no gap and the other one was followed elsewhere.
					require.LessOrEqual(t, excess, 1.1, "%s: intervals", expr)
				}
			}
		})
	}
}
