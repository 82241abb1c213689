package receipt_test

import (
	"encoding/json"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/promapi/promtypes"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/services/querier/internal/receipt"
)

// calls returns random calls to a few stores, sorted by address.
func calls(r *rand.Rand) *receipt.Stats {
	stats := &receipt.Stats{}
	for range r.IntN(8) {
		name := string(rune('a' + r.IntN(3)))
		s := receipt.Store{
			Addr: name, Component: "store", LabelSets: []labels.Labels{labels.FromStrings("replica", name)},
			State: receipt.State(r.IntN(5)), Hedged: r.IntN(2), Queued: time.Duration(r.IntN(1000)),
			StreamStats: storeapi.StreamStats{Series: r.Int64N(9), Chunks: r.Int64N(9), Samples: r.Int64N(9), Bytes: r.Int64N(9), Frames: r.Int64N(9)},
		}
		s.Resolutions[r.IntN(int(storeapi.NumResolutions))] = s.Chunks
		if s.Missing() {
			s.Err = "no"
			from := r.Int64N(100)
			s.Gaps = []receipt.Gap{{Addr: name, Component: "store", Labels: s.LabelSets[0], MinTime: from, MaxTime: from + r.Int64N(50), Reason: "no"}}
		}
		if r.IntN(2) == 0 {
			s.Gateway = &receipt.Gateway{Blocks: []string{string(rune('A' + r.IntN(3)))}, CacheHits: r.Int64N(5)}
		}
		stats.Add(s)
	}
	return stats
}

func TestReceiptsOfPartsAddUpToThatOfTheWhole(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 5))
	for range 500 {
		whole := &receipt.Stats{}
		var parts []promtypes.Receipt
		for range 1 + r.IntN(4) {
			one := calls(r)
			whole.Add(one.All()...)
			// As it comes over the network.
			text, err := json.Marshal(receipt.JSON(one.All(), time.Duration(r.IntN(3)), time.Second))
			require.NoError(t, err)
			var read promtypes.Receipt
			require.NoError(t, json.Unmarshal(text, &read))
			parts = append(parts, read)
		}
		got := receipt.Merge(parts)
		want := receipt.JSON(whole.All(), 0, time.Second)
		want.QueuedSeconds = got.QueuedSeconds
		text, err := json.Marshal(want)
		require.NoError(t, err)
		merged, err := json.Marshal(got)
		require.NoError(t, err)
		require.JSONEq(t, string(text), string(merged))
	}
	none := receipt.Merge(nil)
	require.Equal(t, promtypes.CoverageComplete, none.Coverage)
	require.NotNil(t, none.Stores)
	odd := receipt.Merge([]promtypes.Receipt{{Stores: []promtypes.ReceiptStore{{Address: "a", State: "lost"}}}, {Stores: []promtypes.ReceiptStore{{Address: "a", State: "asleep"}}}})
	require.Equal(t, "asleep", odd.Stores[0].State, "a state of a newer querier is worse than all known ones")
}
