package downsample

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/chunks"
)

func rawChunk(t testing.TB, samples ...[2]float64) chunks.AggrChunk {
	t.Helper()
	return chunks.AggrChunk{
		MinTime: int64(samples[0][0]), MaxTime: int64(samples[len(samples)-1][0]), Raw: chunkOf(t, samples...),
	}
}

func drain(t testing.TB, it chunkenc.Iterator) [][2]float64 {
	t.Helper()
	var out [][2]float64
	for it.Next() == chunkenc.ValFloat {
		ts, v := it.At()
		require.Equal(t, ts, it.AtT())
		out = append(out, [2]float64{float64(ts), v})
	}
	require.NoError(t, it.Err())
	return out
}

func mixed(t testing.TB) []chunks.AggrChunk {
	t.Helper()
	down := chunks.AggrChunk{MinTime: 10, MaxTime: 20}
	down.Set(chunks.Count, chunkOf(t, [2]float64{10, 2}, [2]float64{20, 4}))
	down.Set(chunks.Sum, chunkOf(t, [2]float64{10, 10}, [2]float64{20, 10}))
	down.Set(chunks.Min, chunkOf(t, [2]float64{10, 1}, [2]float64{20, 2}))
	down.Set(chunks.Max, chunkOf(t, [2]float64{10, 9}, [2]float64{20, 8}))
	down.Set(chunks.Counter, chunkOf(t, [2]float64{9, 1}, [2]float64{10, 4}, [2]float64{20, 9}, [2]float64{20, 3}))
	return []chunks.AggrChunk{down, rawChunk(t, [2]float64{30, 5}, [2]float64{40, 2})}
}

func TestEachAggregateIsReadAndRawStandsInWhereItIsMissing(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		aggrs []chunks.Aggr
		want  [][2]float64
	}{
		{[]chunks.Aggr{chunks.Count}, [][2]float64{{10, 2}, {20, 4}, {30, 5}, {40, 2}}},
		{[]chunks.Aggr{chunks.Sum}, [][2]float64{{10, 10}, {20, 10}, {30, 5}, {40, 2}}},
		{[]chunks.Aggr{chunks.Min}, [][2]float64{{10, 1}, {20, 2}, {30, 5}, {40, 2}}},
		{[]chunks.Aggr{chunks.Max}, [][2]float64{{10, 9}, {20, 8}, {30, 5}, {40, 2}}},
		{[]chunks.Aggr{chunks.Count, chunks.Sum}, [][2]float64{{10, 5}, {20, 2.5}, {30, 5}, {40, 2}}},
		{[]chunks.Aggr{chunks.Sum, chunks.Count}, [][2]float64{{10, 5}, {20, 2.5}, {30, 5}, {40, 2}}},
		{[]chunks.Aggr{chunks.Raw}, [][2]float64{{30, 5}, {40, 2}}},
		// True last value of the first chunk is 3; 5 is 2 more, 2 is a reset.
		{[]chunks.Aggr{chunks.Counter}, [][2]float64{{9, 1}, {10, 4}, {20, 9}, {30, 11}, {40, 13}}},
	} {
		require.Equal(t, tc.want, drain(t, NewIterator(mixed(t), tc.aggrs)), "%v", tc.aggrs)
	}
}

func TestAggregatesThatCannotBeCombinedAreRefused(t *testing.T) {
	t.Parallel()
	for _, aggrs := range [][]chunks.Aggr{nil, {chunks.Min, chunks.Max}, {chunks.Counter + 1}, {chunks.Count, chunks.Count}} {
		it := NewIterator(mixed(t), aggrs)
		require.Equal(t, chunkenc.ValNone, it.Next())
		require.Error(t, it.Err(), "%v", aggrs)
	}
}

func TestChunksWithoutTheAggregateAreEmpty(t *testing.T) {
	t.Parallel()
	only := chunks.AggrChunk{MinTime: 10, MaxTime: 20}
	only.Set(chunks.Counter, chunkOf(t, [2]float64{10, 4}))
	chks := []chunks.AggrChunk{only, {MinTime: 21, MaxTime: 22}, rawChunk(t, [2]float64{30, 5})}
	for _, aggrs := range [][]chunks.Aggr{{chunks.Min}, {chunks.Count, chunks.Sum}} {
		require.Equal(t, [][2]float64{{30, 5}}, drain(t, NewIterator(chks, aggrs)))
	}
	require.Equal(t, [][2]float64{{10, 4}, {30, 5}}, drain(t, NewIterator(chks, []chunks.Aggr{chunks.Counter})))
	require.Empty(t, drain(t, NewIterator(nil, []chunks.Aggr{chunks.Raw})))
}

func TestOverlappingChunksGiveAscendingTimes(t *testing.T) {
	t.Parallel()
	chks := []chunks.AggrChunk{
		rawChunk(t, [2]float64{1, 1}, [2]float64{5, 5}),
		rawChunk(t, [2]float64{2, 20}, [2]float64{5, 50}, [2]float64{6, 60}),
		rawChunk(t, [2]float64{3, 300}, [2]float64{4, 400}),
		rawChunk(t, [2]float64{7, 7}),
	}
	require.Equal(t, [][2]float64{{1, 1}, {5, 5}, {6, 60}, {7, 7}}, drain(t, NewIterator(chks, []chunks.Aggr{chunks.Raw})))
	got := drain(t, NewIterator(chks, []chunks.Aggr{chunks.Counter}))
	require.Len(t, got, 4)
}

func TestBrokenChunkEndsTheSeriesWithItsTimeRange(t *testing.T) {
	t.Parallel()
	good := rawChunk(t, [2]float64{1, 1}, [2]float64{2, 2})
	for name, bad := range map[string]chunks.Chunk{
		"cut":              {Encoding: chunkenc.EncXOR, Data: good.Raw.Data[:3]},
		"no header":        {Encoding: chunkenc.EncXOR, Data: []byte{1}},
		"histogram header": {Encoding: chunkenc.EncHistogram, Data: []byte{0, 1}},
		"encoding":         {Encoding: 9, Data: []byte{1, 2, 3}},
	} {
		for _, aggrs := range [][]chunks.Aggr{{chunks.Raw}, {chunks.Counter}, {chunks.Count, chunks.Sum}} {
			it := NewIterator([]chunks.AggrChunk{good, {MinTime: 77, MaxTime: 88, Raw: bad}, rawChunk(t, [2]float64{90, 9})}, aggrs)
			for it.Next() != chunkenc.ValNone {
				require.Less(t, it.AtT(), int64(90), name)
			}
			require.ErrorContains(t, it.Err(), "from 77 to 88", name)
			require.Equal(t, chunkenc.ValNone, it.Next())
			require.Equal(t, chunkenc.ValNone, it.Seek(0))
		}
	}
}

func TestCountAndSumMustBelongTogether(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string][2]chunks.Chunk{
		"times":   {chunkOf(t, [2]float64{1, 1}), chunkOf(t, [2]float64{2, 1})},
		"numbers": {chunkOf(t, [2]float64{1, 1}, [2]float64{2, 1}), chunkOf(t, [2]float64{1, 1})},
		"no sum":  {chunkOf(t, [2]float64{1, 1}), {}},
	} {
		var c chunks.AggrChunk
		c.MaxTime = 5
		c.Set(chunks.Count, tc[0])
		c.Set(chunks.Sum, tc[1])
		it := NewIterator([]chunks.AggrChunk{c}, []chunks.Aggr{chunks.Count, chunks.Sum})
		for it.Next() != chunkenc.ValNone {
			_, _ = it.At()
		}
		require.ErrorIs(t, it.Err(), ErrCorrupt, name)
	}
}

// Seek and Next in any order give what reading from start to end gives.
func TestSeekFindsWhatNextFinds(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	var r Reader
	for range 300 {
		var chks []chunks.AggrChunk
		ts := 0.0
		for range 1 + rnd.IntN(6) {
			var s [][2]float64
			for range 1 + rnd.IntN(6) {
				ts += float64(1 + rnd.IntN(5))
				s = append(s, [2]float64{ts, float64(rnd.IntN(9))})
			}
			chks = append(chks, rawChunk(t, s...))
		}
		for _, aggrs := range [][]chunks.Aggr{{chunks.Raw}, {chunks.Counter}, {chunks.Count, chunks.Sum}} {
			all := drain(t, NewIterator(chks, aggrs))
			mint, maxt := int64(rnd.IntN(20))-5, int64(ts)-int64(rnd.IntN(10))
			var want [][2]float64
			for _, s := range all {
				if int64(s[0]) >= mint && int64(s[0]) <= maxt {
					want = append(want, s)
				}
			}
			it := NewBoundedIterator(r.Iterator(chks, aggrs), mint, maxt)
			for i := -1; ; {
				var typ chunkenc.ValueType
				if rnd.IntN(2) == 0 {
					i++
					typ = it.Next()
				} else {
					target := int64(rnd.IntN(8)) - 2
					if i >= 0 {
						target += int64(want[i][0])
					}
					i = max(i, 0)
					for i < len(want) && int64(want[i][0]) < target {
						i++
					}
					typ = it.Seek(target)
				}
				if i >= len(want) {
					require.Equal(t, chunkenc.ValNone, typ)
					require.Equal(t, chunkenc.ValNone, it.Next())
					require.Equal(t, chunkenc.ValNone, it.Seek(0))
					require.NoError(t, it.Err())
					break
				}
				require.Equal(t, chunkenc.ValFloat, typ)
				at, v := it.At()
				require.Equal(t, want[i], [2]float64{float64(at), v})
			}
		}
	}
}

func TestSeekDoesNotDecodeChunksItPasses(t *testing.T) {
	t.Parallel()
	chks := []chunks.AggrChunk{
		{MinTime: 1, MaxTime: 9, Raw: chunks.Chunk{Encoding: 99, Data: []byte{1}}},
		rawChunk(t, [2]float64{10, 1}),
	}
	it := NewIterator(chks, []chunks.Aggr{chunks.Raw})
	require.Equal(t, chunkenc.ValFloat, it.Seek(10))
	require.NoError(t, it.Err())
}

func TestCounterSeriesEvensOutResets(t *testing.T) {
	t.Parallel()
	stale := math.Float64frombits(value.StaleNaN)
	for name, tc := range map[string]struct {
		chks [][][2]float64
		want [][2]float64
		last float64
	}{
		"rising":                     {[][][2]float64{{{1, 10}, {2, 12}}}, [][2]float64{{1, 10}, {2, 12}}, 12},
		"reset in a chunk":           {[][][2]float64{{{1, 10}, {2, 3}, {3, 4}}}, [][2]float64{{1, 10}, {2, 13}, {3, 14}}, 4},
		"reset between chunks":       {[][][2]float64{{{1, 10}, {2, 12}, {2, 12}}, {{3, 4}, {4, 6}, {4, 6}}}, [][2]float64{{1, 10}, {2, 12}, {3, 16}, {4, 18}}, 6},
		"no reset, by the duplicate": {[][][2]float64{{{1, 10}, {2, 13}, {2, 3}}, {{3, 4}, {4, 6}, {4, 6}}}, [][2]float64{{1, 10}, {2, 13}, {3, 14}, {4, 16}}, 6},
		"reset, by the duplicate":    {[][][2]float64{{{1, 10}, {2, 13}, {2, 13}}, {{3, 4}}}, [][2]float64{{1, 10}, {2, 13}, {3, 17}}, 4},
		"first and only window":      {[][][2]float64{{{5, 7}, {5, 7}, {5, 7}}, {{6, 9}}}, [][2]float64{{5, 7}, {6, 9}}, 9},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var chks []chunks.AggrChunk
			for _, s := range tc.chks {
				c := chunks.AggrChunk{MinTime: int64(s[0][0]), MaxTime: int64(s[len(s)-1][0])}
				c.Set(chunks.Counter, chunkOf(t, s...))
				chks = append(chks, c)
			}
			cs := NewCounterSeries(chks)
			require.Equal(t, tc.want, drain(t, cs))
			last, ok := cs.Last()
			require.True(t, ok)
			require.Equal(t, tc.last, last)
		})
	}

	cs := NewCounterSeries([]chunks.AggrChunk{rawChunk(t, [2]float64{1, stale}, [2]float64{2, 5}, [2]float64{3, stale}, [2]float64{4, 7})})
	var got []float64
	for cs.Next() == chunkenc.ValFloat {
		_, v := cs.At()
		if value.IsStaleNaN(v) {
			v = -1
		}
		got = append(got, v)
	}
	require.Equal(t, []float64{-1, 5, -1, 7}, got, "staleness markers pass and count for nothing")
}

func TestNoResetIsNotTakenOnTrustWhereChunksOverlap(t *testing.T) {
	t.Parallel()
	mk := func(n int64, times ...int64) chunks.AggrChunk {
		c := chunkenc.NewFloatHistogramChunk()
		app, err := c.Appender()
		require.NoError(t, err)
		for i, ts := range times {
			_, _, app, err = app.AppendFloatHistogram(nil, ts, tsdbutil.GenerateTestFloatHistogram(n+int64(i)), false)
			require.NoError(t, err)
		}
		return chunks.AggrChunk{
			MinTime: times[0], MaxTime: times[len(times)-1],
			Raw: chunks.Chunk{Encoding: chunkenc.EncFloatHistogram, Data: c.Bytes()},
		}
	}
	// The second chunk's samples at 3 and 4 are left out; at 5 it says "no reset" about 4.
	chks := []chunks.AggrChunk{mk(5, 1, 2, 4), mk(1, 3, 4, 5, 6)}
	u, n := histogram.UnknownCounterReset, histogram.NotCounterReset
	for _, aggrs := range [][]chunks.Aggr{{chunks.Raw}, {chunks.Counter}} {
		var got []histogram.CounterResetHint
		var times []int64
		it := NewIterator(chks, aggrs)
		for it.Next() == chunkenc.ValFloatHistogram {
			ts, h := it.AtFloatHistogram(nil)
			_, again := it.AtFloatHistogram(&histogram.FloatHistogram{})
			require.Equal(t, h.CounterResetHint, again.CounterResetHint)
			got, times = append(got, h.CounterResetHint), append(times, ts)
		}
		require.NoError(t, it.Err())
		require.Equal(t, []int64{1, 2, 4, 5, 6}, times)
		require.Equal(t, []histogram.CounterResetHint{u, n, n, u, n}, got, "%v", aggrs)
	}
}
