package tenants

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRecentKnowsTheNewestOfEachSeriesUntilItForgets(t *testing.T) {
	t.Parallel()
	var r recent
	rnd := rand.New(rand.NewPCG(3, 4)) //nolint:gosec // no secret
	for range 50 {
		series := 1 + rnd.IntN(3000)
		r.reset(series)
		want := map[uint64]int64{}
		for range 2 * series {
			key := uint64(rnd.IntN(series)) * 4096 // many in the same place
			old, ok := want[key]
			if !ok {
				old = noSample
			}
			s := r.at(key)
			require.Equal(t, old, s.newest)
			s.newest = rnd.Int64()
			want[key] = s.newest
		}
		r.forget()
		require.EqualValues(t, noSample, r.at(4096).newest)
	}
}
