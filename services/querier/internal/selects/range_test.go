package selects_test

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/dedup"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/services/querier/internal/endpoints"
	"github.com/promontory-io/promontory/services/querier/internal/fakepeer"
	"github.com/promontory-io/promontory/services/querier/internal/selects"
)

const hour = 3_600_000

// scraped is what a Prometheus that loses every twentieth scrape has of a counter, in chunks of 120 that end at even hours.
func scraped(rnd *rand.Rand, phase, hours int64) (out [][]fakepeer.Sample) {
	var chunk []fakepeer.Sample
	for t := phase; t < hours*hour; t += 15_000 {
		if len(chunk) == 120 || (len(chunk) > 0 && chunk[0].T/(2*hour) != t/(2*hour)) {
			out, chunk = append(out, chunk), nil
		}
		if rnd.IntN(20) > 0 {
			chunk = append(chunk, fakepeer.Sample{T: t, V: float64(t / 1000)})
		}
	}
	return append(out, chunk)
}

// Live data of an HA pair comes from sidecars, whose Prometheus cuts chunks to the range it is asked for; history
// comes from stores, and a querier may ask a querier that asks sidecars.
func TestExactChoosesTheSameSamplesInAnyRangeOfStoresThatCutChunks(t *testing.T) {
	t.Parallel()
	const hours = 8
	rnd := rand.New(rand.NewPCG(7, 7))
	a, b := scraped(rnd, 2000, hours), scraped(rnd, 9000, hours)
	start := func(component string) (out []endpoints.Endpoint) {
		for replica, lists := range map[string][][]fakepeer.Sample{"a": a, "b": b} {
			e := fakepeer.StartStore(t, &fakepeer.Store{
				External: lset("replica", replica), Cut: component != endpoints.ComponentStore,
				Series: []storeapi.Series{fakepeer.Series(t, lset("__name__", "up"), lists...)},
			})
			e.ComponentType = component
			out = append(out, e)
		}
		return out
	}
	opts := selects.Options{Dedup: true, ReplicaLabels: []string{"replica"}}
	read := func(c *selects.Creator, mint, maxt int64) []fakepeer.Sample {
		got := drain(t, open(t, c, opts, mint, maxt).Select(t.Context(), false, nil, up))
		require.Len(t, got, 1)
		return got[0].Samples
	}
	whole := read(creator(selects.Config{Dedup: dedup.Exact}, start(endpoints.ComponentStore)...), 0, hours*hour)
	require.Greater(t, len(whole), hours*240)
	for _, component := range []string{endpoints.ComponentSidecar, endpoints.ComponentQuery} {
		t.Run(component, func(t *testing.T) {
			t.Parallel()
			c := creator(selects.Config{Dedup: dedup.Exact}, start(component)...)
			rnd := rand.New(rand.NewPCG(8, 8))
			for range 60 {
				mint := rnd.Int64N((hours - 1) * hour)
				maxt := mint + 60_000 + rnd.Int64N([]int64{300_000, hour, 4 * hour}[rnd.IntN(3)])
				var want []fakepeer.Sample
				for _, s := range whole {
					if s.T >= mint && s.T <= maxt {
						want = append(want, s)
					}
				}
				require.Equal(t, want, read(c, mint, maxt), "%d to %d", mint, maxt)
			}
		})
	}
}
