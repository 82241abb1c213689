package merge

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"
)

// randomPoints makes samples whose times and values take every path of the format.
func randomPoints(rng *rand.Rand, n int) []point {
	out := make([]point, n)
	t, v := rng.Int64N(1<<42)-1<<41, float64(rng.IntN(1000))
	steps := []int64{15000, 15000, 15000, 15001, 1, 8191, 8192, 8193, 65535, 65537, 524288, 600000, 1 << 40}
	for i := range out {
		t += steps[rng.IntN(len(steps))]
		switch rng.IntN(9) {
		case 0, 1:
		case 2, 3, 4:
			v += float64(rng.IntN(100))
		case 5:
			v = rng.NormFloat64()
		case 6:
			v = math.Float64frombits(rng.Uint64())
		case 7:
			v = []float64{0, math.Inf(1), math.Inf(-1), math.NaN(), math.MaxFloat64, -1, math.Float64frombits(0x7ff0000000000002)}[rng.IntN(7)]
		case 8:
			v = -v
		}
		out[i] = point{t, v}
	}
	return out
}

func tsdbChunk(tb testing.TB, ps []point) []byte {
	tb.Helper()
	c := chunkenc.NewXORChunk()
	app, err := c.Appender()
	require.NoError(tb, err)
	for _, p := range ps {
		app.Append(p.t, p.v)
	}
	return c.Bytes()
}

func write(prefix []byte, ps []point) []byte {
	var w xorWriter
	at := len(prefix)
	w.begin(prefix)
	for _, p := range ps {
		w.add(p.t, p.v)
	}
	return w.end(at)[at:]
}

func same(tb testing.TB, want, got []point) {
	tb.Helper()
	require.Len(tb, got, len(want))
	for i := range want {
		require.Equal(tb, want[i].t, got[i].t)
		require.Equal(tb, math.Float64bits(want[i].v), math.Float64bits(got[i].v))
	}
}

func TestFloatChunksEqualThoseOfTheTSDB(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3000) {
		rng := rand.New(rand.NewPCG(seed, 7))
		ps := randomPoints(rng, 1+rng.IntN(300))
		want := tsdbChunk(t, ps)
		require.Equal(t, want, write([]byte("before"), ps), "seed %d", seed)
		var r xorReader
		got, err := r.read(want, nil)
		require.NoError(t, err)
		same(t, ps, got)
	}
}

func TestReadLeavesOutWhatIsNotNewer(t *testing.T) {
	t.Parallel()
	ps := []point{{10, 1}, {20, 2}, {30, 3}}
	var r xorReader
	got, err := r.read(tsdbChunk(t, ps), []point{{20, 9}})
	require.NoError(t, err)
	same(t, []point{{20, 9}, {30, 3}}, got)
}

func TestPointIteratorKeepsTheRulesOfIterators(t *testing.T) {
	t.Parallel()
	it := &pointIterator{points: []point{{10, 1}, {20, 2}}, i: -1}
	require.Equal(t, chunkenc.ValFloat, it.Seek(5))
	require.EqualValues(t, 10, it.AtT())
	require.Equal(t, chunkenc.ValFloat, it.Seek(1), "never backwards")
	require.EqualValues(t, 10, it.AtT())
	require.Equal(t, chunkenc.ValFloat, it.Next())
	require.Equal(t, chunkenc.ValNone, it.Next())
	require.Equal(t, chunkenc.ValNone, it.Next())
	require.Equal(t, chunkenc.ValNone, it.Seek(0))
	require.EqualValues(t, 20, it.AtT())
}

// FuzzXORReader reads arbitrary bytes, with the same result as the TSDB where that finds any.
func FuzzXORReader(f *testing.F) {
	for seed := range uint64(10) {
		f.Add(tsdbChunk(f, randomPoints(rand.New(rand.NewPCG(seed, 8)), 20)))
	}
	f.Add([]byte{0xff, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		var r xorReader
		got, err := r.read(data, nil)
		if len(data) < 3 {
			return
		}
		c := chunkenc.NewXORChunk()
		c.Reset(data)
		it := c.Iterator(nil)
		var want []point
		last := int64(math.MinInt64)
		for it.Next() != chunkenc.ValNone {
			at, v := it.At()
			if at > last {
				want = append(want, point{at, v})
				last = at
			}
		}
		if it.Err() == nil && err == nil {
			same(t, want, got)
		}
		if it.Err() != nil {
			require.Error(t, err)
		}
	})
}

func BenchmarkXORWrite(b *testing.B) {
	ps := make([]point, 240)
	for i := range ps {
		ps[i] = point{int64(i) * 15000, float64(i * 7)}
	}
	b.Run("here", func(b *testing.B) {
		buf := make([]byte, 0, 4096)
		for b.Loop() {
			buf = buf[:0]
			buf = write(buf, ps)
		}
	})
	b.Run("tsdb", func(b *testing.B) {
		for b.Loop() {
			tsdbChunk(b, ps)
		}
	})
}

func BenchmarkXORRead(b *testing.B) {
	ps := make([]point, 240)
	for i := range ps {
		ps[i] = point{int64(i) * 15000, float64(i * 7)}
	}
	data := tsdbChunk(b, ps)
	b.Run("here", func(b *testing.B) {
		var r xorReader
		var dst []point
		for b.Loop() {
			dst, _ = r.read(data, dst[:0])
		}
	})
	b.Run("tsdb", func(b *testing.B) {
		var c chunkenc.XORChunk
		var it chunkenc.Iterator
		for b.Loop() {
			c.Reset(data)
			it = c.Iterator(it)
			for it.Next() != chunkenc.ValNone {
			}
		}
	})
}
