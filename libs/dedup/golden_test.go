package dedup

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"
)

type goldenCase struct {
	Replicas [][][2]float64          `json:"replicas"`
	Out      map[string][][2]float64 `json:"out"`
}

func readGolden(t testing.TB) []goldenCase {
	t.Helper()
	b, err := os.ReadFile("testdata/dedup.json")
	require.NoError(t, err)
	var cases []goldenCase
	require.NoError(t, json.Unmarshal(b, &cases))
	require.Len(t, cases, 60)
	return cases
}

func TestChainGivesTheSamplesOfThanos(t *testing.T) {
	t.Parallel()
	for i, c := range readGolden(t) {
		if d := cmp.Diff(c.Out["chain"], mergeLists(t, Chain, c.Replicas, Options{})); d != "" {
			t.Errorf("case %d, -want +got:\n%s", i, d)
		}
	}
}

// The recording was made over lists that rewind (see testdata/README.md), which
// readers of chunks do not. So three things together say that penalty is right: the
// reference over lists that rewind gives exactly the recording, in all cases; the
// reference over lists that do not gives exactly what Merge gives, in all cases; and
// where rewinding makes no difference, which is nearly everywhere, Merge gives exactly
// the recording.
func TestPenaltyGivesTheSamplesOfThanos(t *testing.T) {
	t.Parallel()
	for key, tc := range map[string]struct {
		function string
		differ   int
	}{
		"penalty":      {"sum", 8},
		"penalty_rate": {"rate", 9},
	} {
		t.Run(key, func(t *testing.T) {
			t.Parallel()
			opts := Options{Counter: AdjustsCounter(tc.function)}
			differ := 0
			for i, c := range readGolden(t) {
				recorded := c.Out[key]
				if d := cmp.Diff(recorded, refPenalty(c.Replicas, opts.Counter, true)); d != "" {
					t.Errorf("case %d, reference that rewinds, -want +got:\n%s", i, d)
				}
				want := refPenalty(c.Replicas, opts.Counter, false)
				if !cmp.Equal(recorded, want) {
					differ++
				}
				if d := cmp.Diff(want, mergeLists(t, Penalty, c.Replicas, opts)); d != "" {
					t.Errorf("case %d, %d replicas, -want +got:\n%s", i, len(c.Replicas), d)
				}
			}
			require.Equal(t, tc.differ, differ, "cases in which rewinding shows")
		})
	}
}

func TestPenaltyGivesWhatTheCompactorOfThanosLeft(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("testdata/compacted.json")
	require.NoError(t, err)
	var blocks []struct {
		Replicas [][][2]float64 `json:"replicas"`
		Out      [][2]float64   `json:"out"`
	}
	require.NoError(t, json.Unmarshal(b, &blocks))
	require.Len(t, blocks, 24)
	for i, c := range blocks {
		if d := cmp.Diff(c.Out, mergeLists(t, Penalty, c.Replicas, Options{})); d != "" {
			t.Errorf("block %d, -want +got:\n%s", i, d)
		}
	}
}

func mergeLists(t testing.TB, fn Func, replicas [][][2]float64, opts Options) [][2]float64 {
	t.Helper()
	return drainFloats(t, Merge(fn, iterators(t, replicas), opts))
}

func iterators(t testing.TB, replicas [][][2]float64) []chunkenc.Iterator {
	t.Helper()
	its := make([]chunkenc.Iterator, 0, len(replicas))
	for _, r := range replicas {
		its = append(its, xorIterator(t, r))
	}
	return its
}

func xorIterator(t testing.TB, samples [][2]float64) chunkenc.Iterator {
	t.Helper()
	c := chunkenc.NewXORChunk()
	app, err := c.Appender()
	require.NoError(t, err)
	for _, s := range samples {
		app.Append(int64(s[0]), s[1])
	}
	return c.Iterator(nil)
}

func drainFloats(t testing.TB, it chunkenc.Iterator) [][2]float64 {
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
