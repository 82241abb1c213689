package dedup

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/stretchr/testify/require"
)

func TestParseFuncKnowsItsNamesAndNamesTheCulprit(t *testing.T) {
	t.Parallel()
	for _, name := range Funcs() {
		fn, err := ParseFunc(name)
		require.NoError(t, err)
		require.Equal(t, Func(name), fn)
	}
	for _, name := range []string{"", "Penalty", "exactish"} {
		_, err := ParseFunc(name)
		require.ErrorContains(t, err, `"`+name+`"`)
		require.ErrorContains(t, err, "penalty, chain")
	}
}

func TestOnlyFourFunctionsAdjustCounters(t *testing.T) {
	t.Parallel()
	for _, f := range []string{"increase", "rate", "irate", "resets"} {
		require.True(t, AdjustsCounter(f), f)
	}
	for _, f := range []string{"", "sum", "delta", "xrate", "xincrease", "changes", "sum_over_time"} {
		require.False(t, AdjustsCounter(f), f)
	}
}

// randomReplicas returns n replicas of one counter: own phase, interval, jitter, gaps.
func randomReplicas(rnd *rand.Rand, n int) [][][2]float64 {
	out := make([][][2]float64, n)
	for i := range out {
		interval := []float64{5000, 15000, 30000}[rnd.IntN(3)]
		t, v := 1e6+rnd.Float64()*interval, float64(rnd.IntN(50))
		for k := rnd.IntN(100); k >= 0; k-- {
			if rnd.IntN(10) > 0 {
				out[i] = append(out[i], [2]float64{math.Floor(t + rnd.Float64()*50), v})
			}
			t += interval
			if rnd.IntN(25) == 0 {
				t += interval * float64(rnd.IntN(20))
			}
			if v += float64(rnd.IntN(10)); rnd.IntN(30) == 0 {
				v = 0
			}
		}
	}
	return out
}

func TestPenaltyAgreesWithTheReferenceOnRandomReplicas(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	var m Merger
	for i := range 500 {
		replicas := randomReplicas(rnd, 1+rnd.IntN(4))
		for _, counter := range []bool{false, true} {
			got := drainFloats(t, m.Merge(Penalty, iterators(t, replicas), Options{Counter: counter}))
			if d := cmp.Diff(refPenalty(replicas, counter, false), got); d != "" {
				t.Fatalf("case %d, counter %v: %v\n-want +got:\n%s", i, counter, replicas, d)
			}
		}
	}
}

func TestMergedSeriesAscendAndComeFromTheReplicas(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(3, 4))
	var m Merger
	for range 500 {
		replicas := randomReplicas(rnd, 1+rnd.IntN(4))
		have, newest := map[[2]float64]bool{}, 0.0
		times := map[float64]bool{}
		for _, r := range replicas {
			for _, s := range r {
				have[s], times[s[0]], newest = true, true, max(newest, s[0])
			}
		}
		for _, fn := range []Func{Penalty, Chain} {
			got := drainFloats(t, m.Merge(fn, iterators(t, replicas), Options{}))
			for i, s := range got {
				require.True(t, have[s], "%s made up %v", fn, s)
				require.True(t, i == 0 || got[i-1][0] < s[0], "%s: %v after %v", fn, s, got[max(0, i-1)])
			}
			if fn == Chain {
				require.Len(t, got, len(times), "chain keeps every timestamp")
			}
		}
	}
}

func TestMergingIdenticalReplicasGivesTheReplica(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(5, 6))
	for range 100 {
		r := randomReplicas(rnd, 1)[0]
		for n := 1; n <= 4; n++ {
			var replicas [][][2]float64
			for range n {
				replicas = append(replicas, r)
			}
			for _, fn := range []Func{Penalty, Chain} {
				for _, counter := range []bool{false, true} {
					require.Empty(t, cmp.Diff(r, mergeLists(t, fn, replicas, Options{Counter: counter})), "%d × %s", n, fn)
				}
			}
		}
	}
}

func TestMergingAMergeWithItselfChangesNothing(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(7, 8))
	for range 200 {
		replicas := randomReplicas(rnd, 2)
		for _, fn := range []Func{Penalty, Chain} {
			once := mergeLists(t, fn, replicas, Options{})
			require.Empty(t, cmp.Diff(once, mergeLists(t, fn, [][][2]float64{once, once}, Options{})))
		}
	}
}

func TestNoReplicaIsAnEmptySeriesAndOneIsItself(t *testing.T) {
	t.Parallel()
	for _, fn := range []Func{Penalty, Chain} {
		none := Merge(fn, nil, Options{})
		require.Equal(t, chunkenc.ValNone, none.Next())
		require.NoError(t, none.Err())
		it := xorIterator(t, [][2]float64{{1, 2}})
		require.Same(t, it, Merge(fn, []chunkenc.Iterator{it}, Options{Counter: true}))
	}
}

func TestUnknownFunctionFailsTheSeries(t *testing.T) {
	t.Parallel()
	it := Merge("best", iterators(t, [][][2]float64{{{1, 1}}, {{2, 2}}}), Options{})
	require.Equal(t, chunkenc.ValNone, it.Next())
	require.ErrorContains(t, it.Err(), `"best"`)
}

func TestSeekStaysOnOrMovesToTheFirstSampleNotBefore(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(9, 10))
	for range 500 {
		replicas := randomReplicas(rnd, 2+rnd.IntN(2))
		for _, fn := range []Func{Penalty, Chain} {
			all := mergeLists(t, fn, replicas, Options{})
			it := Merge(fn, iterators(t, replicas), Options{})
			for i := -1; ; {
				var typ chunkenc.ValueType
				if rnd.IntN(2) == 0 {
					i++
					typ = it.Next()
				} else {
					target := int64(all[min(max(i, 0)+rnd.IntN(4), len(all)-1)][0]) + int64(rnd.IntN(3)) - 1
					i = max(i, 0)
					for i < len(all) && int64(all[i][0]) < target {
						i++
					}
					typ = it.Seek(target)
				}
				if i >= len(all) {
					require.Equal(t, chunkenc.ValNone, typ)
					break
				}
				require.Equal(t, chunkenc.ValFloat, typ)
				ts, v := it.At()
				require.Equal(t, all[i], [2]float64{float64(ts), v})
				require.Equal(t, chunkenc.ValFloat, it.Seek(ts), "to where it is")
				require.Equal(t, chunkenc.ValFloat, it.Seek(math.MinInt64), "to before where it is")
				require.Equal(t, ts, it.AtT())
			}
			for range 2 {
				require.Equal(t, chunkenc.ValNone, it.Next(), "after the end")
				require.Equal(t, chunkenc.ValNone, it.Seek(0), "after the end")
			}
			require.NoError(t, it.Err())
		}
	}
}

// failing has samples and then an error.
type failing struct {
	chunkenc.Iterator
	err error
}

func (f failing) Err() error { return f.err }

func TestErrorOfAReplicaEndsTheMerge(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	good := [][2]float64{{1000, 1}, {16000, 2}, {31000, 3}, {46000, 4}}
	for _, fn := range []Func{Penalty, Chain} {
		for pos := range 3 {
			its := iterators(t, [][][2]float64{good, good, good})
			its[pos] = failing{xorIterator(t, good[:2]), boom}
			it := Merge(fn, its, Options{})
			for it.Next() != chunkenc.ValNone {
				require.Less(t, it.AtT(), int64(46000), "%s with replica %d failing", fn, pos)
			}
			require.ErrorIs(t, it.Err(), boom)
			require.Equal(t, chunkenc.ValNone, it.Next())
			require.Equal(t, chunkenc.ValNone, it.Seek(0))
			require.ErrorIs(t, it.Err(), boom)
		}
	}
}

func TestStalenessMarkersSurviveTheCounterAdjustment(t *testing.T) {
	t.Parallel()
	stale := math.Float64frombits(value.StaleNaN)
	// Replica b takes over when a has a gap, starts below a, and then ends with a marker.
	a := [][2]float64{{1000, 100}, {16000, 110}, {31000, 120}}
	b := [][2]float64{{2000, 1}, {17000, 2}, {32000, 3}, {47000, 4}, {62000, 5}, {77000, 6}, {92000, stale}}
	it := Merge(Penalty, iterators(t, [][][2]float64{a, b}), Options{Counter: true})
	var last float64
	var ts int64
	for it.Next() != chunkenc.ValNone {
		var v float64
		ts, v = it.At()
		require.False(t, v < last, "counter fell from %v to %v", last, v)
		last = v
	}
	require.EqualValues(t, 92000, ts)
	require.True(t, value.IsStaleNaN(last), "%x", math.Float64bits(last))
}

func histIterator(t testing.TB, float bool, samples ...[2]int64) chunkenc.Iterator {
	t.Helper()
	var c chunkenc.Chunk = chunkenc.NewHistogramChunk()
	if float {
		c = chunkenc.NewFloatHistogramChunk()
	}
	app, err := c.Appender()
	require.NoError(t, err)
	for _, s := range samples {
		var next chunkenc.Chunk
		if float {
			next, _, app, err = app.AppendFloatHistogram(nil, s[0], tsdbutil.GenerateTestFloatHistogram(s[1]), false)
		} else {
			next, _, app, err = app.AppendHistogram(nil, s[0], tsdbutil.GenerateTestHistogram(s[1]), false)
		}
		require.NoError(t, err)
		require.Nil(t, next)
	}
	return c.Iterator(nil)
}

func TestHistogramHintsAreKeptOnlyBetweenNeighboursOfOneReplica(t *testing.T) {
	t.Parallel()
	for _, fn := range []Func{Penalty, Chain} {
		for _, float := range []bool{false, true} {
			a := histIterator(t, float, [2]int64{1000, 1}, [2]int64{16000, 2}, [2]int64{31000, 3})
			b := histIterator(t, float, [2]int64{100000, 4}, [2]int64{115000, 5})
			it := Merge(fn, []chunkenc.Iterator{a, b}, Options{Counter: true})
			var hints []histogram.CounterResetHint
			var counts []float64
			for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
				if float {
					require.Equal(t, chunkenc.ValFloatHistogram, typ)
				} else {
					require.Equal(t, chunkenc.ValHistogram, typ)
					ts, h := it.AtHistogram(nil)
					require.Equal(t, it.AtT(), ts)
					_, again := it.AtHistogram(&histogram.Histogram{})
					require.Equal(t, h.CounterResetHint, again.CounterResetHint)
				}
				_, fh := it.AtFloatHistogram(nil)
				hints, counts = append(hints, fh.CounterResetHint), append(counts, fh.Count)
			}
			require.NoError(t, it.Err())
			u, n := histogram.UnknownCounterReset, histogram.NotCounterReset
			require.Equal(t, []histogram.CounterResetHint{u, n, n, u, n}, hints, "%s", fn)
			require.Len(t, counts, 5)
			require.IsIncreasing(t, counts)
		}
	}
}

func TestReplicasOfDifferentKindsMerge(t *testing.T) {
	t.Parallel()
	for _, fn := range []Func{Penalty, Chain} {
		a := histIterator(t, false, [2]int64{1000, 1}, [2]int64{16000, 2})
		b := xorIterator(t, [][2]float64{{100000, 7}, {115000, 8}})
		it := Merge(fn, []chunkenc.Iterator{a, b}, Options{Counter: true})
		var got []chunkenc.ValueType
		for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
			got = append(got, typ)
		}
		h, f := chunkenc.ValHistogram, chunkenc.ValFloat
		require.Equal(t, []chunkenc.ValueType{h, h, f, f}, got, "%s", fn)
	}
}

func TestTimesAtTheEdgeOfTheRangeDoNotOverflow(t *testing.T) {
	t.Parallel()
	const m = math.MaxInt64
	mk := func(ts ...int64) chunkenc.Iterator {
		c := chunkenc.NewXORChunk()
		app, err := c.Appender()
		require.NoError(t, err)
		for _, x := range ts {
			app.Append(x, 1)
		}
		return c.Iterator(nil)
	}
	for _, fn := range []Func{Penalty, Chain} {
		it := Merge(fn, []chunkenc.Iterator{mk(math.MinInt64+1, m-1), mk(0, m-2, m)}, Options{})
		last, n := int64(math.MinInt64), 0
		for it.Next() != chunkenc.ValNone {
			require.Greater(t, it.AtT(), last)
			last, n = it.AtT(), n+1
			require.LessOrEqual(t, n, 5)
		}
		require.NoError(t, it.Err())
	}
}
