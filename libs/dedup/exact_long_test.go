package dedup

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"
)

// All properties on the same random case: counters fall where the target was reset and nowhere else, every sample is
// some replica's, a part reads as it does in the whole, and merging again changes nothing.
func TestExactHoldsOnRandomCases(t *testing.T) {
	t.Parallel()
	const workers = 4
	n, first := max(long(t), 4000), number(t, "DEDUP_FIRST")
	var skewed, failed atomic.Int64
	t.Run("cases", func(t *testing.T) {
		t.Parallel()
		for w := range workers {
			t.Run(fmt.Sprintf("worker %d", w), func(t *testing.T) {
				t.Parallel()
				for i := first + w; i < first+n; i += workers {
					rnd := rand.New(rand.NewPCG(uint64(i), 21))
					cfg := sceneConfig{hours: 0.5 + 1.7*rnd.Float64(), gauge: rnd.IntN(4) == 0, skew: rnd.IntN(3) == 0, jitter: rnd.IntN(2) == 0}
					s := newScene(t, rnd, cfg)
					if len(s.chks) == 0 {
						continue // nobody was there
					}
					got := mergeExact(t, s.chks)
					switch falls := falls(got); {
					case cfg.gauge:
					case cfg.skew:
						skewed.Add(1)
						if falls < s.leastFalls(got) || falls > s.mostFalls(got) {
							failed.Add(1)
						}
					default:
						if seen := s.fallsSeen(got); falls != seen {
							t.Errorf("case %d: %d falls, the replicas together saw %d; %+v", i, falls, seen, s.describe())
						}
					}
					s.checkSamples(t, i, got)
					s.checkPart(t, rnd, i, got)
					require.Equal(t, got, mergeExact(t, encode(t, got, 50+rnd.IntN(150))), "case %d: alone", i)
					if t.Failed() {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		t.Logf("%d cases; of %d counters seen by skewed clocks %d have a false fall or hide one", n, skewed.Load(), failed.Load())
		if failed.Load() > max(3, skewed.Load()*2/1000) {
			t.Errorf("more than two in a thousand")
		}
	})
}

// fallsSeen is how often the counter fell between the samples that all replicas have together, from the first to the last
// merged one. Clocks must agree. What was reset twice while nobody looked falls once.
func (s *scene) fallsSeen(got []fsample) int {
	all := slices.Concat(s.lists...)
	slices.SortFunc(all, func(a, b fsample) int { return int(a.t - b.t) })
	return falls(clipped(all, got[0].t, got[len(got)-1].t))
}

// checkSamples insists that every sample is that of a replica.
func (s *scene) checkSamples(t *testing.T, i int, got []fsample) {
	t.Helper()
	for _, x := range got {
		if !slices.ContainsFunc(s.lists, func(l []fsample) bool {
			at, _ := slices.BinarySearchFunc(l, x.t, func(y fsample, t int64) int { return int(y.t - t) })
			return at < len(l) && l[at] == x
		}) {
			t.Fatalf("case %d: %v is nobody's", i, x)
		}
	}
}

// checkPart insists that a random part has the samples that the whole has there, and that seeking finds only those.
func (s *scene) checkPart(t *testing.T, rnd *rand.Rand, i int, all []fsample) {
	t.Helper()
	span := int64(len(s.proc.values)) * 1000
	mint := sceneStart + rnd.Int64N(span)
	maxt := mint + rnd.Int64N([]int64{1, 300_000, 3_600_000, 7_200_000}[rnd.IntN(4)])
	want := clipped(all, mint, maxt)
	lo, hi := Widened(Exact, mint, maxt, 0)
	chks := visible(s.chks, lo, hi)
	it := MergeChunks(Exact, chks, onlyRaw, Options{})
	var got []fsample
	for typ := it.Seek(mint); typ != chunkenc.ValNone && it.AtT() <= maxt; typ = it.Next() {
		ts, v := it.At()
		got = append(got, fsample{ts, v})
	}
	require.NoError(t, it.Err())
	if !slices.Equal(want, got) {
		t.Fatalf("case %d, %d..%d: %d samples in the whole, %d in the part; %+v", i, mint, maxt, len(want), len(got), s.describe())
	}
	for _, x := range seekThrough(t, rnd, MergeChunks(Exact, chks, onlyRaw, Options{}), mint, maxt) {
		if !slices.Contains(want, x) {
			t.Fatalf("case %d, %d..%d: %v is not in the whole", i, mint, maxt, x)
		}
	}
}
