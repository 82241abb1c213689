package dedup

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/xorchunk"
)

// scrapes are what a replica that begins at begin and has gaps has seen.
func scrapes(rng *rand.Rand, begin int64) []xorchunk.Point {
	out := make([]xorchunk.Point, 0, 100)
	at := begin
	for range rng.IntN(100) {
		switch rng.IntN(12) {
		case 0:
			at += int64(rng.IntN(200_000))
		case 1:
			at += 1 + int64(rng.IntN(15_000))
		}
		at += 15_000
		out = append(out, xorchunk.Point{T: at, V: float64(rng.IntN(1000))})
	}
	if rng.IntN(20) == 0 {
		out = append(out, xorchunk.Point{T: math.MaxInt64, V: 1})
	}
	return out
}

func pointsIterator(ps []xorchunk.Point) chunkenc.Iterator {
	var w xorchunk.Writer
	w.Begin(nil)
	for _, p := range ps {
		w.Add(p.T, p.V)
	}
	c := chunkenc.NewXORChunk()
	c.Reset(w.End(0))
	return c.Iterator(nil)
}

func TestPenaltyOfDecodedReplicasChoosesWhatTheIteratorDoes(t *testing.T) {
	t.Parallel()
	for seed := range uint64(5000) {
		rng := rand.New(rand.NewPCG(seed, 3))
		var its []chunkenc.Iterator
		var got []xorchunk.Point
		for r := range 2 + rng.IntN(2) {
			ps := scrapes(rng, int64(rng.IntN(60_000)))
			its = append(its, pointsIterator(ps))
			if r == 0 {
				got = ps
			} else {
				got = AppendPenalty(nil, got, ps)
			}
		}
		it := Merge(Penalty, its, Options{})
		var want []xorchunk.Point
		for it.Next() != chunkenc.ValNone {
			at, v := it.At()
			want = append(want, xorchunk.Point{T: at, V: v})
		}
		require.NoError(t, it.Err())
		require.Equal(t, len(want), len(got), "seed %d", seed)
		for i := range want {
			require.Equal(t, want[i], got[i], "seed %d, sample %d", seed, i)
		}
	}
}
