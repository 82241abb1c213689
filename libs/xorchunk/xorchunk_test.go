package xorchunk

import (
	"encoding/binary"
	"math"
	"math/bits"
	"math/rand/v2"
	"testing"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"
)

// randomPoints makes samples whose times and values take every path of the format.
func randomPoints(rng *rand.Rand, n int) []Point {
	out := make([]Point, n)
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
		out[i] = Point{t, v}
	}
	return out
}

func tsdbChunk(tb testing.TB, ps []Point) []byte {
	tb.Helper()
	c := chunkenc.NewXORChunk()
	app, err := c.Appender()
	require.NoError(tb, err)
	for _, p := range ps {
		app.Append(p.T, p.V)
	}
	return c.Bytes()
}

func write(prefix []byte, ps []Point) []byte {
	var w Writer
	at := len(prefix)
	w.Begin(prefix)
	for _, p := range ps {
		w.Add(p.T, p.V)
	}
	return w.End(at)[at:]
}

func same(tb testing.TB, want, got []Point) {
	tb.Helper()
	require.Len(tb, got, len(want))
	for i := range want {
		require.Equal(tb, want[i].T, got[i].T)
		require.Equal(tb, math.Float64bits(want[i].V), math.Float64bits(got[i].V))
	}
}

// TestChunksAreReadAsWritten reads what is written with our reader and the TSDB's.
func TestChunksAreReadAsWritten(t *testing.T) {
	t.Parallel()
	ours, theirs := 0, 0
	for seed := range uint64(3000) {
		rng := rand.New(rand.NewPCG(seed, 7))
		ps := randomPoints(rng, 1+rng.IntN(300))
		data := write([]byte("before"), ps)
		same(t, ps, tsdbPoints(t, data))
		tsdb := tsdbChunk(t, ps)
		for _, d := range [][]byte{data, tsdb} {
			var r Reader
			got, err := r.Append(nil, d)
			require.NoError(t, err)
			same(t, ps, got)
		}
		ours += len(data)
		theirs += len(tsdb)
		require.LessOrEqual(t, len(data), len(tsdb)+len(tsdb)/50+2, "seed %d: larger than what the TSDB writes", seed)
	}
	require.Less(t, ours, theirs)
}

// TestCountersAreSmallerThanTheTSDBWritesThem compares sizes with the TSDB's, and with the
// smallest that windows allow.
func TestCountersAreSmallerThanTheTSDBWritesThem(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 1))
	ours, theirs, best := 0, 0, 0
	v := 1e6
	for range 200 {
		ps := make([]Point, 240)
		for i := range ps {
			v += float64(rng.IntN(30))
			ps[i] = Point{int64(i) * 15000, v}
		}
		ours += 8 * len(write(nil, ps))
		theirs += 8 * len(tsdbChunk(t, ps))
		best += leastBits(ps)
	}
	require.Less(t, float64(ours), 0.9*float64(theirs))
	require.Less(t, float64(ours), 1.03*float64(best))
}

// leastBits is the size of the best choice of windows, found by trying all.
func leastBits(ps []Point) int {
	var xs []uint64
	size := 8 * (2 + 1 + 8 + 2) // count, first time, first value, first distance
	for i := 1; i < len(ps); i++ {
		size++ // the time
		if x := math.Float64bits(ps[i].V) ^ math.Float64bits(ps[i-1].V); x != 0 {
			xs = append(xs, x)
		} else {
			size++
		}
	}
	least := make([]int, len(xs)+1)
	for end := 1; end <= len(xs); end++ {
		least[end] = math.MaxInt
		r := run{leading: 31, trailing: 64}
		for begin := end - 1; begin >= 0; begin-- {
			r = run{min(r.leading, bits.LeadingZeros64(xs[begin])), min(r.trailing, bits.TrailingZeros64(xs[begin])), end - begin}
			least[end] = min(least[end], least[begin]+windowBits+(2+r.width())*r.n)
		}
	}
	return size + least[len(xs)]
}

func tsdbPoints(tb testing.TB, data []byte) []Point {
	tb.Helper()
	c := chunkenc.NewXORChunk()
	c.Reset(data)
	var out []Point
	it := c.Iterator(nil)
	for it.Next() != chunkenc.ValNone {
		t, v := it.At()
		out = append(out, Point{t, v})
	}
	require.NoError(tb, it.Err())
	return out
}

func TestEmptyChunkHasNoSamples(t *testing.T) {
	t.Parallel()
	require.Equal(t, []byte{0, 0}, write(nil, nil))
	require.Empty(t, tsdbPoints(t, write(nil, nil)))
}

// FuzzWriter writes samples made of arbitrary bytes.
func FuzzWriter(f *testing.F) {
	f.Add([]byte("0123456789abcdef0123456789"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var ps []Point
		for at := int64(-5); len(data) >= 12; data = data[12:] {
			at += 1 + int64(binary.BigEndian.Uint32(data))
			ps = append(ps, Point{at, math.Float64frombits(binary.BigEndian.Uint64(data[4:]))})
		}
		if len(ps) > 65535 {
			return
		}
		same(t, ps, tsdbPoints(t, write(nil, ps)))
	})
}

func TestReadLeavesOutWhatIsNotNewer(t *testing.T) {
	t.Parallel()
	ps := []Point{{10, 1}, {20, 2}, {30, 3}}
	var r Reader
	got, err := r.Append([]Point{{20, 9}}, tsdbChunk(t, ps))
	require.NoError(t, err)
	same(t, []Point{{20, 9}, {30, 3}}, got)
}

// FuzzReader reads arbitrary bytes, with the same result as the TSDB where that finds any.
func FuzzReader(f *testing.F) {
	for seed := range uint64(10) {
		f.Add(tsdbChunk(f, randomPoints(rand.New(rand.NewPCG(seed, 8)), 20)))
	}
	f.Add([]byte{0xff, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		var r Reader
		got, err := r.Append(nil, data)
		if len(data) < 3 {
			return
		}
		c := chunkenc.NewXORChunk()
		c.Reset(data)
		it := c.Iterator(nil)
		var want []Point
		last := int64(math.MinInt64)
		for it.Next() != chunkenc.ValNone {
			at, v := it.At()
			if at > last {
				want = append(want, Point{at, v})
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

func BenchmarkWrite(b *testing.B) {
	ps := make([]Point, 240)
	for i := range ps {
		ps[i] = Point{int64(i) * 15000, float64(i * 7)}
	}
	b.Run("here", func(b *testing.B) {
		var w Writer
		buf := make([]byte, 0, 4096)
		for b.Loop() {
			w.Begin(buf)
			for _, p := range ps {
				w.Add(p.T, p.V)
			}
			buf = w.End(0)[:0]
		}
	})
	b.Run("tsdb", func(b *testing.B) {
		for b.Loop() {
			tsdbChunk(b, ps)
		}
	})
}

func BenchmarkRead(b *testing.B) {
	ps := make([]Point, 240)
	for i := range ps {
		ps[i] = Point{int64(i) * 15000, float64(i * 7)}
	}
	data := tsdbChunk(b, ps)
	b.Run("here", func(b *testing.B) {
		var r Reader
		var dst []Point
		for b.Loop() {
			dst, _ = r.Append(dst[:0], data)
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
