package dedup

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/chunks"
)

// long returns how many random cases all properties of exact are tried on together in the long mode, 0 outside of it.
// The other tests take in proportion more cases too.
//
//	DEDUP_CASES=1000000 go test -timeout 12h -run 'TestExact' ./dedup
//
// DEDUP_FIRST is the number of the first case, for runs that go on where another one ended.
func long(t testing.TB) int { return number(t, "DEDUP_CASES") }

func number(t testing.TB, name string) int {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return 0
	}
	n, err := strconv.Atoi(s)
	require.NoError(t, err, name)
	return n
}

// cases returns how many random cases one property is tried on: n, in the long mode more.
func cases(t testing.TB, n int) int {
	t.Helper()
	return max(n, n*long(t)/100_000)
}

// every runs f on n random cases, each with a generator of its own, so that a failing one can be run alone.
func every(t *testing.T, n int, f func(t *testing.T, rnd *rand.Rand, i int)) {
	t.Helper()
	for i := range cases(t, n) {
		f(t, rand.New(rand.NewPCG(uint64(i), 7)), i)
		if t.Failed() {
			t.Fatalf("case %d", i)
		}
	}
}

func falls(list []fsample) int {
	n := 0
	for i := 1; i < len(list); i++ {
		if list[i].v < list[i-1].v {
			n++
		}
	}
	return n
}

func TestExactCountersFallOnlyWhereTheTargetWasReset(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		cfg sceneConfig
		// tolerated is how many cases in a thousand may fail. With skewed clocks there are some in which nothing
		// tells a reset from a step back: a chunk of one sample, three replicas at one phase, a reset in everybody's gap.
		tolerated int
	}{
		"clocks agree":      {sceneConfig{hours: 2.2, jitter: true}, 0},
		"clocks are skewed": {sceneConfig{hours: 2.2, jitter: true, skew: true}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			failed := 0
			every(t, 1000, func(t *testing.T, rnd *rand.Rand, i int) {
				s := newScene(t, rnd, tc.cfg)
				got := mergeExact(t, s.chks)
				if n, least, most := falls(got), s.leastFalls(got), s.mostFalls(got); n < least || n > most {
					failed++
					t.Logf("case %d: %d falls, want %d to %d; %+v", i, n, least, most, s.describe())
				}
			})
			require.LessOrEqual(t, failed, cases(t, 1000)*tc.tolerated/1000, "cases with a false fall or a hidden one")
		})
	}
}

// leastFalls is how many resets lie well within the merged series, and mostFalls also counts those that may lie within it
// by the clock of one of the replicas.
func (s *scene) leastFalls(got []fsample) int { return s.resetsWithin(got, s.maxSkew) }

func (s *scene) mostFalls(got []fsample) int { return s.resetsWithin(got, -s.maxSkew) }

func (s *scene) resetsWithin(got []fsample, margin int64) int {
	n := 0
	for _, r := range s.proc.resets {
		if r > got[0].t+margin && r <= got[len(got)-1].t-margin {
			n++
		}
	}
	return n
}

func (s *scene) describe() []scraper {
	var out []scraper
	for _, r := range s.scrapers {
		out = append(out, *r)
	}
	return out
}

func TestExactSamplesComeFromTheReplicas(t *testing.T) {
	t.Parallel()
	every(t, 300, func(t *testing.T, rnd *rand.Rand, i int) {
		s := newScene(t, rnd, sceneConfig{hours: 2, gauge: i%2 == 0, jitter: true, skew: true})
		have := map[fsample]bool{}
		for _, l := range s.lists {
			for _, x := range l {
				have[x] = true
			}
		}
		for _, x := range mergeExact(t, s.chks) {
			require.True(t, have[x], "%v", x)
		}
	})
}

// visible returns the chunks a store sends for a range.
func visible(chks []chunks.AggrChunk, mint, maxt int64) []chunks.AggrChunk {
	var out []chunks.AggrChunk
	for _, c := range chks {
		if c.MaxTime >= mint && c.MinTime <= maxt {
			out = append(out, c)
		}
	}
	return out
}

func clipped(list []fsample, mint, maxt int64) []fsample {
	var out []fsample
	for _, x := range list {
		if x.t >= mint && x.t <= maxt {
			out = append(out, x)
		}
	}
	return out
}

// seekThrough reads mint..maxt with steps of random lengths, and returns the samples it stood on.
func seekThrough(t *testing.T, rnd *rand.Rand, it chunkenc.Iterator, mint, maxt int64) []fsample {
	t.Helper()
	var out []fsample
	at := mint
	step := []int64{1000, 60_000, 3_600_000}[rnd.IntN(3)]
	for {
		var typ chunkenc.ValueType
		if len(out) > 0 && rnd.IntN(3) > 0 {
			typ = it.Next()
		} else {
			typ = it.Seek(at)
		}
		if typ == chunkenc.ValNone || it.AtT() > maxt {
			require.NoError(t, it.Err())
			return out
		}
		ts, v := it.At()
		if n := len(out); n == 0 || out[n-1].t != ts {
			out = append(out, fsample{ts, v})
		}
		at = ts + 1 + rnd.Int64N(step)
	}
}

func TestExactChoosesTheSameSamplesInAnyRange(t *testing.T) {
	t.Parallel()
	every(t, 400, func(t *testing.T, rnd *rand.Rand, i int) {
		s := newScene(t, rnd, sceneConfig{hours: 3, gauge: i%2 == 0, jitter: i%4 < 2, skew: i%8 < 4})
		all := mergeExact(t, s.chks)
		for range 12 {
			mint := sceneStart + rnd.Int64N(3*3600*1000)
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
			if d := cmp.Diff(want, got, cmp.AllowUnexported(fsample{})); d != "" {
				t.Fatalf("case %d, %d..%d, -all +range:\n%s\n%+v", i, mint, maxt, d, s.describe())
			}
			// Any step: what is returned at a time does not depend on what was skipped.
			in := map[fsample]bool{}
			for _, x := range want {
				in[x] = true
			}
			for _, x := range seekThrough(t, rnd, MergeChunks(Exact, chks, onlyRaw, Options{}), mint, maxt) {
				require.True(t, in[x], "case %d: %v is not in the whole", i, x)
			}
		}
	})
}
