package dedup

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/chunks"
)

// histogramScene is a native histogram that two replicas scrape.
type histogramScene struct {
	lists [2][]hsample
	chks  []chunks.AggrChunk
	falls int
}

// newHistogramScene lets the histogram grow, be reset now and then and change its layout in the middle.
func newHistogramScene(t *testing.T, rnd *rand.Rand, float, gauge bool) *histogramScene {
	t.Helper()
	const seconds = 7200
	at := make([]*histogram.Histogram, seconds)
	grown, lastReset := int64(rnd.IntN(50)), 0
	s := &histogramScene{}
	custom := rnd.IntN(3) == 0
	for i := range at {
		grown += int64(rnd.IntN(3))
		if gauge && rnd.IntN(2) == 0 {
			grown = int64(rnd.IntN(100))
		}
		if !gauge && rnd.IntN(3000) == 0 && i-lastReset > 900 && i > 200 && i < seconds-200 {
			grown, lastReset = 0, i
			s.falls++
		}
		switch {
		case custom:
			at[i] = tsdbutil.GenerateTestCustomBucketsHistogram(grown)
		default:
			at[i] = tsdbutil.GenerateTestHistogram(grown)
			if i >= seconds/2 && lastReset < seconds/2 && s.falls > 0 {
				require.NoError(t, at[i].ReduceResolution(0)) // the schema is lowered at run time
			}
		}
		at[i].CounterResetHint = histogram.UnknownCounterReset
		if gauge {
			at[i].CounterResetHint = histogram.GaugeType
		}
	}
	phase := rnd.Int64N(15000)
	for r := range s.lists {
		from, to := rnd.IntN(seconds), rnd.IntN(900)
		for ms := phase * int64(r); ms < seconds*1000; ms += 15000 {
			if sec := int(ms / 1000); sec < from || sec > from+to {
				s.lists[r] = append(s.lists[r], hsample{sceneStart + ms, at[sec].Copy()})
			}
		}
		if float {
			s.chks = append(s.chks, encodeFloatHistogramList(t, s.lists[r], 120)...)
		} else {
			s.chks = append(s.chks, encodeHistogramList(t, s.lists[r], 120)...)
		}
	}
	s.chks = chunks.SortUnique(s.chks)
	return s
}

func TestExactHistogramsFallOnlyWhereTheTargetWasReset(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ float, gauge bool }{
		"integer": {}, "float": {float: true}, "gauge": {gauge: true}, "float gauge": {float: true, gauge: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			every(t, 60, func(t *testing.T, rnd *rand.Rand, i int) {
				s := newHistogramScene(t, rnd, tc.float, tc.gauge)
				have := map[int64][]*histogram.FloatHistogram{}
				for _, l := range s.lists {
					for _, x := range l {
						have[x.t] = append(have[x.t], x.h.ToFloat(nil))
					}
				}
				it := MergeChunks(Exact, s.chks, onlyRaw, Options{})
				var prev *histogram.FloatHistogram
				last, falls, n, known := int64(0), 0, 0, 0
				for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
					ts, fh := it.AtFloatHistogram(nil)
					if !tc.float {
						require.Equal(t, chunkenc.ValHistogram, typ)
						_, h := it.AtHistogram(&histogram.Histogram{})
						require.Equal(t, fh, h.ToFloat(nil))
					}
					require.Greater(t, ts, last)
					require.True(t, slices.ContainsFunc(have[ts], func(want *histogram.FloatHistogram) bool {
						return same(want, fh)
					}), "case %d: the sample at %d is nobody's", i, ts)
					if prev != nil && !tc.gauge {
						fell := fh.DetectReset(prev)
						hint := fh.CounterResetHint
						fh.CounterResetHint = histogram.UnknownCounterReset
						really := fh.DetectReset(prev)
						require.Equal(t, really, fell, "case %d: hint %v at %d", i, hint, ts)
						if really {
							falls++
						}
						if hint == histogram.NotCounterReset {
							known++
						}
					}
					if tc.gauge {
						require.Equal(t, histogram.GaugeType, fh.CounterResetHint)
					}
					prev, last, n = fh, ts, n+1
				}
				require.NoError(t, it.Err())
				if !tc.gauge {
					require.Equal(t, s.falls, falls, "case %d", i)
					require.Greater(t, known, n/2, "hints are kept where they hold")
				}
			})
		})
	}
}

// same compares two histograms by what they say, hints aside.
func same(a, b *histogram.FloatHistogram) bool {
	a, b = a.Copy(), b.Copy()
	a.CounterResetHint, b.CounterResetHint = 0, 0
	return a.Compact(0).Equals(b.Compact(0))
}

func TestExactKnowsStaleHistograms(t *testing.T) {
	t.Parallel()
	stale := func(ts int64) hsample {
		return hsample{ts, &histogram.Histogram{Sum: staleNaN}}
	}
	var a, b []hsample
	for ms := int64(0); ms < 1_800_000; ms += 15000 {
		switch {
		case ms == 600_000:
			a = append(a, stale(sceneStart+ms))
		case ms < 600_000 || ms > 900_000:
			a = append(a, hsample{sceneStart + ms, histogramAt(ms)})
		}
		b = append(b, hsample{sceneStart + ms + 7000, histogramAt(ms + 7000)})
	}
	a, b = append(a, stale(sceneStart+1_800_000)), append(b, stale(sceneStart+1_807_000))
	it := MergeChunks(Exact, join(encodeHistogramList(t, a, 200), encodeHistogramList(t, b, 200)), onlyRaw, Options{})
	var marks []int64
	for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
		require.Equal(t, chunkenc.ValHistogram, typ)
		_, h := it.AtHistogram(nil)
		ts, fh := it.AtFloatHistogram(nil)
		require.Equal(t, value.IsStaleNaN(h.Sum), value.IsStaleNaN(fh.Sum))
		if value.IsStaleNaN(h.Sum) {
			marks = append(marks, ts-sceneStart)
		}
	}
	require.NoError(t, it.Err())
	require.Equal(t, []int64{1_800_000, 1_807_000}, marks)
}

func TestExactMergesFloatsWithHistograms(t *testing.T) {
	t.Parallel()
	// The target was upgraded to native histograms while one replica was down.
	floats := encode(t, line(0, 900, 15, false), 120)
	var list []hsample
	for ms := int64(907_000); ms < 1_800_000; ms += 15000 {
		list = append(list, hsample{sceneStart + ms, histogramAt(ms)})
	}
	other := encode(t, line(4, 300, 15, false), 120)
	it := MergeChunks(Exact, join(floats, other, encodeHistogramList(t, list, 120)), onlyRaw, Options{})
	n := map[chunkenc.ValueType]int{}
	for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
		n[typ]++
	}
	require.NoError(t, it.Err())
	require.Equal(t, map[chunkenc.ValueType]int{chunkenc.ValFloat: 60, chunkenc.ValHistogram: len(list)}, n)
}
