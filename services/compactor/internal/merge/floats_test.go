package merge

import (
	"bytes"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/tombstones"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/dedup"
	"github.com/promontory-io/promontory/libs/xorchunk"
)

// floatPieces are the chunks of some replicas, with gaps and deletions.
func floatPieces(rng *rand.Rand) []piece {
	var out []piece
	for range 1 + rng.IntN(4) {
		at := int64(rng.IntN(30_000))
		for range rng.IntN(12) {
			if rng.IntN(4) == 0 {
				at += int64(rng.IntN(2_000_000))
			}
			var w xorchunk.Writer
			w.Begin(nil)
			p := piece{mint: at, enc: chunkenc.EncXOR}
			for range 1 + rng.IntN(120) {
				w.Add(at, float64(rng.IntN(1000)))
				p.maxt = at
				at += 15_000 + int64(rng.IntN(3))
			}
			p.data = w.End(0)
			p.crc = crc32.ChecksumIEEE(p.data)
			if rng.IntN(5) == 0 {
				p.deleted = tombstones.Intervals{{Mint: p.mint + 60_000, Maxt: p.mint + 200_000}}
			}
			out = append(out, p)
		}
	}
	return out
}

func copyChunks(cs []Chunk) []Chunk {
	out := slices.Clone(cs)
	for i := range out {
		out[i].Bytes = bytes.Clone(out[i].Bytes)
	}
	return out
}

func TestWholeChunksOfFloatsAreMergedAsSamplesAre(t *testing.T) {
	t.Parallel()
	var one, all series
	one.init(dedup.Penalty)
	all.init(dedup.Penalty)
	for seed := range uint64(1500) {
		pieces := floatPieces(rand.New(rand.NewPCG(seed, 5)))
		own, further := seed%3 != 0, seed%2 == 0
		var stats [2]Stats
		var results [2][3][]Chunk
		for i, s := range []*series{&one, &all} {
			s.reset()
			s.pieces = append(s.pieces, pieces...)
			s.want(own || !further, further, further)
			s.tidy(&stats[i])
			require.True(t, s.plainFloats() || len(s.pieces) == 0)
			f := s.mergeFloats
			if i == 0 {
				f = s.mergeSamples
			}
			require.NoError(t, f(&stats[i]))
			results[i] = [3][]Chunk{copyChunks(s.own), copyChunks(s.fine), copyChunks(s.hour)}
		}
		require.Equal(t, stats[0], stats[1], "seed %d", seed)
		require.Equal(t, results[0], results[1], "seed %d", seed)
	}
}

func TestSeriesWithOtherThanFloatsOrPenaltyAreMergedSampleBySample(t *testing.T) {
	t.Parallel()
	var p []piece
	for rng := rand.New(rand.NewPCG(1, 5)); len(p) < 20; {
		p = append(p, floatPieces(rng)...)
	}
	slices.SortFunc(p, func(a, b piece) int { return int(a.mint - b.mint) })
	require.True(t, overlapping(p))
	for fn, want := range map[dedup.Func]bool{dedup.Penalty: true, dedup.Chain: false, dedup.Exact: false} {
		s := series{fn: fn, pieces: p}
		require.Equal(t, want, s.plainFloats(), fn)
		s.pieces = p[:1]
		require.True(t, s.plainFloats(), "nothing overlaps")
	}
	s := series{fn: dedup.Penalty, pieces: []piece{{enc: chunkenc.EncHistogram}}}
	require.False(t, s.plainFloats())
}
