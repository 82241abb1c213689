package downsample

import (
	"errors"
	"math"
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

// sample is a float, or a histogram where fh is set.
type sample struct {
	t  int64
	v  float64
	fh *histogram.FloatHistogram
}

// listIterator iterates over samples.
type listIterator struct {
	chunkenc.Iterator
	samples []sample
	i       int
	err     error
}

func list(samples ...sample) *listIterator { return &listIterator{samples: samples, i: -1} }

func (l *listIterator) Next() chunkenc.ValueType {
	if l.i++; l.i >= len(l.samples) {
		return chunkenc.ValNone
	}
	if l.samples[l.i].fh != nil {
		return chunkenc.ValFloatHistogram
	}
	return chunkenc.ValFloat
}
func (l *listIterator) At() (int64, float64) { return l.samples[l.i].t, l.samples[l.i].v }
func (l *listIterator) AtT() int64           { return l.samples[l.i].t }
func (l *listIterator) Err() error           { return l.err }
func (l *listIterator) AtFloatHistogram(*histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
	return l.samples[l.i].t, l.samples[l.i].fh.Copy()
}

func aggrPoints(t testing.TB, chks []chunks.AggrChunk, a chunks.Aggr) [][2]float64 {
	t.Helper()
	var out [][2]float64
	for i := range chks {
		if part, ok := chks[i].Of(a); ok {
			out = append(out, points(t, part)...)
		}
	}
	return out
}

func TestFloatWindows(t *testing.T) {
	t.Parallel()
	const sec = 1000
	stale := math.Float64frombits(value.StaleNaN)
	got, err := new(Downsampler).Raw(list(
		// 2 and the 1 in the second window are resets.
		sample{t: 30 * sec, v: 5}, sample{t: 60 * sec, v: stale}, sample{t: 90 * sec, v: 8}, sample{t: 299 * sec, v: 2},
		sample{t: 300 * sec, v: 3}, sample{t: 450 * sec, v: math.NaN()}, sample{t: 510 * sec, v: 1},
		sample{t: 1230 * sec, v: 4},
	), Resolution5m)
	require.NoError(t, err)
	require.Len(t, got, 1)
	w1, w2, w3 := 299999.0, 599999.0, 1230000.0
	require.Equal(t, [][2]float64{{w1, 3}, {w2, 2}, {w3, 1}}, aggrPoints(t, got, chunks.Count))
	require.Equal(t, [][2]float64{{w1, 15}, {w2, 4}, {w3, 4}}, aggrPoints(t, got, chunks.Sum))
	require.Equal(t, [][2]float64{{w1, 2}, {w2, 1}, {w3, 4}}, aggrPoints(t, got, chunks.Min))
	require.Equal(t, [][2]float64{{w1, 8}, {w2, 3}, {w3, 4}}, aggrPoints(t, got, chunks.Max))
	require.Equal(t, [][2]float64{{30000, 5}, {w1, 10}, {w2, 12}, {w3, 15}, {w3, 4}}, aggrPoints(t, got, chunks.Counter))
	require.EqualValues(t, w1, got[0].MinTime)
	require.EqualValues(t, w3, got[0].MaxTime)
}

func TestSeriesWithoutUsableSamplesHasNoChunks(t *testing.T) {
	t.Parallel()
	for _, s := range [][]sample{nil, {{t: 1, v: math.NaN()}}, {{t: 1, fh: &histogram.FloatHistogram{Sum: math.Float64frombits(value.StaleNaN)}}}} {
		got, err := new(Downsampler).Raw(list(s...), Resolution5m)
		require.NoError(t, err)
		require.Empty(t, got)
	}
	got, err := new(Downsampler).Aggregated([]chunks.AggrChunk{{}, {Aggr: new([5]chunks.Chunk)}}, Resolution5m, Resolution1h)
	require.NoError(t, err)
	require.Empty(t, got)
}

func TestBadArgumentsAndInputsAreErrors(t *testing.T) {
	t.Parallel()
	var d Downsampler
	_, err := d.Raw(list(), 0)
	require.ErrorContains(t, err, "0 ms")
	_, err = d.Aggregated(nil, Resolution1h, Resolution5m)
	require.ErrorContains(t, err, "3600000")
	boom := errors.New("boom")
	_, err = d.Raw(&listIterator{samples: []sample{{t: 1, v: 1}}, i: -1, err: boom}, Resolution5m)
	require.ErrorIs(t, err, boom)
	broken := chunks.AggrChunk{MinTime: 5, MaxTime: 6}
	broken.Set(chunks.Count, chunkOf(t, [2]float64{5, 1}))
	_, err = d.Aggregated([]chunks.AggrChunk{broken}, Resolution5m, Resolution1h)
	require.ErrorIs(t, err, ErrCorrupt, "no counter")
	broken.Set(chunks.Counter, chunks.Chunk{Encoding: chunkenc.EncXOR, Data: []byte{0}})
	_, err = d.Aggregated([]chunks.AggrChunk{broken}, Resolution5m, Resolution1h)
	require.ErrorContains(t, err, "from 5 to 6")
}

// What a reader sees of a counter at any resolution rises by what the counter rose.
func TestCounterKeepsItsIncreaseThroughBothSteps(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	var d Downsampler
	for range 20 {
		var in []sample
		v, rise, last := 0.0, 0.0, 0.0
		for i := range int64(2000 + rnd.IntN(20000)) {
			if v += float64(rnd.IntN(20)); rnd.IntN(400) == 0 {
				v = float64(rnd.IntN(5))
			}
			if i > 0 {
				if v < last {
					rise += v
				} else {
					rise += v - last
				}
			}
			last = v
			in = append(in, sample{t: i*60000 + rnd.Int64N(500), v: v})
		}
		fine, err := d.Raw(list(in...), Resolution5m)
		require.NoError(t, err)
		coarse, err := d.Aggregated(fine, Resolution5m, Resolution1h)
		require.NoError(t, err)
		require.Greater(t, len(fine), 1)
		for _, chks := range [][]chunks.AggrChunk{fine, coarse} {
			got := drain(t, NewIterator(chks, []chunks.Aggr{chunks.Counter}))
			require.Equal(t, float64(in[0].t), got[0][0])
			require.Equal(t, float64(in[len(in)-1].t), got[len(got)-1][0])
			require.Equal(t, rise, got[len(got)-1][1]-got[0][1])
			requireDisjoint(t, chks)

			n, sum := 0.0, 0.0
			for _, p := range aggrPoints(t, chks, chunks.Count) {
				n += p[1]
			}
			require.Equal(t, float64(len(in)), n)
			for _, p := range aggrPoints(t, chks, chunks.Sum) {
				sum += p[1]
			}
			want := 0.0
			for _, s := range in {
				want += s.v
			}
			require.Equal(t, want, sum)
		}
	}
}

func requireDisjoint(t testing.TB, chks []chunks.AggrChunk) {
	t.Helper()
	for i := range chks {
		require.LessOrEqual(t, chks[i].MinTime, chks[i].MaxTime)
		if i > 0 {
			require.Less(t, chks[i-1].MaxTime, chks[i].MinTime)
		}
		require.LessOrEqual(t, windows(&chks[i]), 2*samplesPerChunk)
	}
}

// counterHists returns n counter histograms, one a minute, with resets and changes of
// schema, and what their count rises by.
func counterHists(rnd *rand.Rand, n int) (out []sample, rise float64) {
	level, last := int64(0), 0.0
	schema := int32(1)
	for i := range int64(n) {
		if level += rnd.Int64N(4); rnd.IntN(150) == 0 {
			level = rnd.Int64N(3)
			schema = int32(rnd.IntN(3)) - 1
		}
		h := tsdbutil.GenerateTestFloatHistogram(level)
		if schema < h.Schema {
			if err := h.ReduceResolution(schema); err != nil {
				panic(err)
			}
		}
		if i > 0 {
			if h.Count < last {
				rise += h.Count
			} else {
				rise += h.Count - last
			}
		}
		last = h.Count
		out = append(out, sample{t: i * 60000, fh: h})
	}
	return out, rise
}

func TestHistogramsKeepCountSumAndIncreaseThroughBothSteps(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(3, 4))
	var d Downsampler
	for range 10 {
		in, rise := counterHists(rnd, 500+rnd.IntN(4000))
		want := 0.0
		for _, s := range in {
			want += s.fh.Count
		}
		fine, err := d.Raw(list(in...), Resolution5m)
		require.NoError(t, err)
		coarse, err := d.Aggregated(fine, Resolution5m, Resolution1h)
		require.NoError(t, err)
		for _, chks := range [][]chunks.AggrChunk{fine, coarse} {
			requireDisjoint(t, chks)
			n := 0.0
			for _, p := range aggrPoints(t, chks, chunks.Count) {
				n += p[1]
			}
			require.Equal(t, float64(len(in)), n)

			var sum float64
			it := NewIterator(chks, []chunks.Aggr{chunks.Sum})
			for it.Next() == chunkenc.ValFloatHistogram {
				_, h := it.AtFloatHistogram(nil)
				require.Equal(t, histogram.GaugeType, h.CounterResetHint)
				require.NoError(t, h.Validate())
				sum += h.Count
			}
			require.NoError(t, it.Err())
			require.Equal(t, want, sum)

			// As the query engine adds it up: whole histograms after a reset.
			var prev *histogram.FloatHistogram
			got, first, last := 0.0, int64(-1), int64(-1)
			it = NewIterator(chks, []chunks.Aggr{chunks.Counter})
			for it.Next() == chunkenc.ValFloatHistogram {
				ts, h := it.AtFloatHistogram(nil)
				require.NoError(t, h.Validate())
				require.NotEqual(t, histogram.GaugeType, h.CounterResetHint)
				if prev == nil {
					first = ts
				} else {
					require.GreaterOrEqual(t, h.Count, prev.Count, "a reset at %d", ts)
					got += h.Count - prev.Count
				}
				prev, last = h.Copy(), ts
			}
			require.NoError(t, it.Err())
			require.Equal(t, rise, got)
			require.Equal(t, in[0].t, first)
			require.Equal(t, in[len(in)-1].t, last)

			it = NewIterator(chks, []chunks.Aggr{chunks.Count, chunks.Sum})
			means := 0
			for it.Next() == chunkenc.ValFloatHistogram {
				_, h := it.AtFloatHistogram(nil)
				require.Equal(t, histogram.GaugeType, h.CounterResetHint)
				_, again := it.AtFloatHistogram(new(histogram.FloatHistogram))
				require.Equal(t, h.Count, again.Count, "reading twice must not divide twice")
				means++
			}
			require.NoError(t, it.Err())
			require.Positive(t, means)

			for _, a := range []chunks.Aggr{chunks.Min, chunks.Max} {
				require.Empty(t, drain(t, NewIterator(chks, []chunks.Aggr{a})))
			}
			for i := range chks {
				_, err := NewChunk(&chks[i])
				require.NoError(t, err)
			}
		}
	}
}

func TestGaugeHistogramsStayGauges(t *testing.T) {
	t.Parallel()
	var in []sample
	for i := range int64(600) {
		in = append(in, sample{t: i * 60000, fh: tsdbutil.GenerateTestGaugeFloatHistogram(50 - i%50)})
	}
	var d Downsampler
	fine, err := d.Raw(list(in...), Resolution5m)
	require.NoError(t, err)
	coarse, err := d.Aggregated(fine, Resolution5m, Resolution1h)
	require.NoError(t, err)
	for _, chks := range [][]chunks.AggrChunk{fine, coarse} {
		require.Len(t, chks, 1)
		it := NewIterator(chks, []chunks.Aggr{chunks.Counter})
		n := 0
		for it.Next() == chunkenc.ValFloatHistogram {
			ts, h := it.AtFloatHistogram(nil)
			require.Equal(t, histogram.GaugeType, h.CounterResetHint)
			require.Equal(t, in[ts/60000].fh.Count, h.Count, "the last one of the window")
			n++
		}
		require.NoError(t, it.Err())
		require.Equal(t, numSamples(chks[0].Aggr[0]), n)
	}
}

func TestKindsOfSamplesDoNotShareAChunk(t *testing.T) {
	t.Parallel()
	var in []sample
	at := func() int64 { return int64(len(in)) * 60000 }
	for i := range int64(30) {
		in = append(in, sample{t: at(), v: float64(i)})
	}
	for i := range int64(30) {
		in = append(in, sample{t: at(), fh: tsdbutil.GenerateTestFloatHistogram(i)})
	}
	for i := range int64(30) {
		in = append(in, sample{t: at(), fh: tsdbutil.GenerateTestGaugeFloatHistogram(i)})
	}
	for i := range int64(30) {
		in = append(in, sample{t: at(), v: float64(i)})
	}
	var d Downsampler
	fine, err := d.Raw(list(in...), Resolution5m)
	require.NoError(t, err)
	coarse, err := d.Aggregated(fine, Resolution5m, Resolution1h)
	require.NoError(t, err)
	for _, chks := range [][]chunks.AggrChunk{fine, coarse} {
		var kinds []kind
		for i := range chks {
			kinds = append(kinds, kindOf(&chks[i]))
		}
		require.Equal(t, []kind{floatKind, counterKind, gaugeKind, floatKind}, slices.Compact(kinds))
		n := 0.0
		for _, p := range aggrPoints(t, chks, chunks.Count) {
			n += p[1]
		}
		require.Equal(t, float64(len(in)), n)
	}
}

func TestHistogramsWithCustomBucketsAreLeftOutAndCounted(t *testing.T) {
	t.Parallel()
	var in []sample
	for i := range int64(20) {
		s := sample{t: i * 60000, v: float64(i)}
		if i%2 == 1 {
			s.fh = tsdbutil.GenerateTestCustomBucketsFloatHistogram(i)
		}
		in = append(in, s)
	}
	var d Downsampler
	got, err := d.Raw(list(in...), Resolution5m)
	require.NoError(t, err)
	require.Equal(t, 10, d.Skipped())
	require.Len(t, got, 1)
	require.Len(t, aggrPoints(t, got, chunks.Count), 4)
}

func TestIntegerHistogramsAreReadAsFloats(t *testing.T) {
	t.Parallel()
	c := chunkenc.NewHistogramChunk()
	app, err := c.Appender()
	require.NoError(t, err)
	for i := range int64(10) {
		_, _, app, err = app.AppendHistogram(nil, i*60000, tsdbutil.GenerateTestHistogram(i), false)
		require.NoError(t, err)
	}
	raw := chunks.AggrChunk{MaxTime: 540000, Raw: chunks.Chunk{Encoding: chunkenc.EncHistogram, Data: c.Bytes()}}
	var d Downsampler
	got, err := d.Raw(NewIterator([]chunks.AggrChunk{raw}, []chunks.Aggr{chunks.Raw}), Resolution5m)
	require.NoError(t, err)
	require.Equal(t, [][2]float64{{299999, 5}, {540000, 5}}, aggrPoints(t, got, chunks.Count))
}

func TestRawChunksAmongAggregatesAreBroughtAlong(t *testing.T) {
	t.Parallel()
	var in []sample
	for i := range int64(240) {
		in = append(in, sample{t: i * 60000, v: float64(i)})
	}
	var d Downsampler
	fine, err := d.Raw(list(in[:120]...), Resolution5m)
	require.NoError(t, err)
	tail := make([][2]float64, 0, 120)
	for _, s := range in[120:] {
		tail = append(tail, [2]float64{float64(s.t), s.v})
	}
	fine = append(fine, chunks.AggrChunk{}, rawChunk(t, tail...))
	got, err := d.Aggregated(fine, Resolution5m, Resolution1h)
	require.NoError(t, err)
	want := [][2]float64{{3599999, 60}, {7140000, 60}, {10799999, 60}, {14340000, 60}}
	if len(got) == 1 {
		want[1][0] = 7199999
	}
	require.Equal(t, want, aggrPoints(t, got, chunks.Count))
}
