package dedup

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

type span struct{ mint, maxt int64 }

func (s *span) bounds() (int64, int64) { return s.mint, s.maxt }

func TestSplitOverlapsTakesTheFirstReplicaWithRoom(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		in   []span
		want [][]span
	}{
		"nothing":               {nil, nil},
		"no overlap":            {[]span{{1, 2}, {3, 4}}, [][]span{{{1, 2}, {3, 4}}}},
		"touching is overlap":   {[]span{{1, 2}, {2, 3}}, [][]span{{{1, 2}}, {{2, 3}}}},
		"pair":                  {[]span{{1, 5}, {2, 6}, {6, 9}, {7, 9}}, [][]span{{{1, 5}, {6, 9}}, {{2, 6}, {7, 9}}}},
		"gap is filled by next": {[]span{{1, 5}, {2, 6}, {7, 9}, {10, 12}}, [][]span{{{1, 5}, {7, 9}, {10, 12}}, {{2, 6}}}},
		"third":                 {[]span{{1, 9}, {2, 9}, {3, 9}, {10, 11}}, [][]span{{{1, 9}, {10, 11}}, {{2, 9}}, {{3, 9}}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, tc.want, SplitOverlaps(tc.in, (*span).bounds))
		})
	}
}

func TestSplitOverlapsLosesNothingAndLeavesNoOverlap(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 1))
	for range 500 {
		in := make([]span, 1+rnd.IntN(60))
		for i := range in {
			m := rnd.Int64N(200)
			in[i] = span{m, m + rnd.Int64N(60)}
		}
		slices.SortStableFunc(in, func(a, b span) int { return cmp.Compare(a.mint, b.mint) })
		before := slices.Clone(in)
		var all []span
		for _, r := range SplitOverlaps(in, (*span).bounds) {
			require.NotEmpty(t, r)
			for i := 1; i < len(r); i++ {
				require.Less(t, r[i-1].maxt, r[i].mint)
			}
			all = append(all, r...)
		}
		require.ElementsMatch(t, before, all)
		require.Equal(t, before, in, "input untouched")
	}
}
