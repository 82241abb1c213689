package tenants

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/stretchr/testify/require"
)

func cached(c *seriesCache, k seriesKey) known {
	var out [1]known
	c.get([]seriesKey{k}, out[:])
	return out[0]
}

func TestTheCacheKeepsWhatAMapWould(t *testing.T) {
	t.Parallel()
	c := newSeriesCache()
	want := map[string]known{}
	get := func(name string) known { return cached(c, c.key([]byte(name))) }
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range 200_000 {
		name := fmt.Sprint("series-", rnd.IntN(20_000))
		switch rnd.IntN(3) {
		case 0:
			v := known{ref: storage.SeriesRef(1 + rnd.IntN(1000)), body: rnd.Uint64(), start: rnd.Int64()}
			want[name] = v
			c.put([]entry{{c.key([]byte(name)), v}})
		default:
			require.Equal(t, want[name], get(name))
		}
		if i%50_000 == 49_999 {
			gone := chunks.HeadSeriesRef(rnd.IntN(1000))
			for n, v := range want {
				if chunks.HeadSeriesRef(v.ref) <= gone {
					delete(want, n)
				}
			}
			c.forget(func(r chunks.HeadSeriesRef) bool { return r <= gone })
			require.Equal(t, len(want), c.len())
		}
	}
	for n, v := range want {
		require.Equal(t, v, get(n))
	}
}
