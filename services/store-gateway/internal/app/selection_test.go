package app

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/blocktest"
	"github.com/promontory-io/promontory/libs/objstore/filesystem"
	"github.com/promontory-io/promontory/libs/service/flags"
	"github.com/promontory-io/promontory/proto/gen/hintspb"
	"github.com/promontory-io/promontory/proto/gen/thanos"
)

// servedBlocks are the ULIDs that the blocks API shows, sorted.
func servedBlocks(t *testing.T, g *gateway) (ids []string) {
	t.Helper()
	var answer struct {
		Data struct {
			Blocks []struct {
				ULID string `json:"ulid"`
			}
		}
	}
	require.NoError(t, json.Unmarshal([]byte(get(t, g.http+"/api/v1/blocks")), &answer))
	for _, b := range answer.Data.Blocks {
		ids = append(ids, b.ULID)
	}
	slices.Sort(ids)
	return ids
}

// TestFlagsChooseTheBlocksThatAreServed has one bucket and asks which of its blocks a store gateway serves with one flag or another.
func TestFlagsChooseTheBlocksThatAreServed(t *testing.T) {
	t.Parallel()
	now := time.Now()
	hour := func(h int) int64 { return now.Add(time.Duration(h) * time.Hour).UnixMilli() }
	spec := func(cluster string, from int, source block.Source) blocktest.Spec {
		return blocktest.Spec{
			Floats: 1, Interval: time.Hour, ExternalLabels: labels.FromStrings("cluster", cluster), Source: source, MinTime: hour(from), MaxTime: hour(from + 2),
		}
	}
	dir, metas := bucketOf(t,
		spec("eu1", -40, block.SourceSidecar), spec("eu1", -20, block.SourceCompactor), spec("us1", -20, block.SourceSidecar),
		spec("us1", -6, block.SourceSidecar), spec("us1", -4, block.SourceSidecar),
	)
	bkt, err := filesystem.New(dir)
	require.NoError(t, err)
	mark := func(n int, age time.Duration) {
		_, err := block.MarkForDeletion(t.Context(), zap.NewNop(), bkt, metas[n].ULID, "test", now.Add(-age))
		require.NoError(t, err)
	}
	mark(3, 30*time.Hour)
	mark(4, 2*time.Hour)
	require.NoError(t, bkt.Close())
	relabel := func(yaml string) func(*Config) {
		return func(c *Config) { c.Sync.SelectorRelabel = flags.InlineContent("selector.relabel-config", yaml) }
	}
	for name, tc := range map[string]struct {
		change func(*Config)
		want   []int
		counts string // in the metric of blocks by state
	}{
		"defaults":                     {nil, []int{0, 1, 2, 4}, `{state="marked-for-deletion"} 1`},
		"found by listing everything":  {func(c *Config) { c.Sync.Strategy = "recursive" }, []int{0, 1, 2, 4}, `{state="marked-for-deletion"} 1`},
		"marks are heeded at once":     {func(c *Config) { c.Sync.DeletionDelay = 0 }, []int{0, 1, 2}, `{state="marked-for-deletion"} 2`},
		"marks are heeded late":        {func(c *Config) { c.Sync.DeletionDelay = 48 * time.Hour }, []int{0, 1, 2, 3, 4}, `{state="loaded"} 5`},
		"what is new has to wait":      {func(c *Config) { c.Sync.ConsistencyDelay = time.Hour }, []int{1}, `{state="too-fresh"} 4`},
		"what is old is left to other": {func(c *Config) { c.Sync.MinTime = flags.FromNow(-24 * time.Hour) }, []int{1, 2, 4}, `{state="time-excluded"} 1`},
		"what is new is left to other": {func(c *Config) { c.Sync.MaxTime = flags.FromNow(-10 * time.Hour) }, []int{0, 1, 2}, `{state="time-excluded"} 2`},
		"no cluster":                   {relabel(`[{action: keep, source_labels: [cluster], regex: us}]`), nil, `{state="label-excluded"} 5`},
		"a cluster":                    {relabel(`[{action: keep, source_labels: [cluster], regex: us.*}]`), []int{2, 4}, `{state="label-excluded"} 2`},
		"not a block":                  {relabel(`[{action: drop, source_labels: [__block_id], regex: ` + metas[0].ULID.String() + `}]`), []int{1, 2, 4}, `{state="label-excluded"} 1`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := start(t, filesystemYAML(dir), tc.change)
			g.waitReady(t)
			var want []string
			for _, n := range tc.want {
				want = append(want, metas[n].ULID.String())
			}
			slices.Sort(want)
			require.Equal(t, want, servedBlocks(t, g))
			require.Contains(t, metricsOf(t, g), "thanos_blocks_meta_synced"+tc.counts+"\n")
		})
	}
}

// Store gateways with a shard each serve every block exactly once.
func TestShardsByBlockTogetherServeAll(t *testing.T) {
	t.Parallel()
	dir := blocktest.RecordedAfter(t)
	all := start(t, filesystemYAML(dir), nil)
	all.waitReady(t)
	const shards = 3
	var together []string
	for n := range shards {
		g := start(t, filesystemYAML(dir), func(c *Config) {
			c.Sync.SelectorRelabel = flags.InlineContent("selector.relabel-config", fmt.Sprintf(`
- {action: hashmod, source_labels: [__block_id], target_label: shard, modulus: %d}
- {action: keep, source_labels: [shard], regex: %d}`, shards, n))
		})
		g.waitReady(t)
		together = append(together, servedBlocks(t, g)...)
	}
	slices.Sort(together)
	// A shard does not know of other shards' blocks, so it also serves what these hold besides.
	require.Subset(t, together, servedBlocks(t, all))
	require.Len(t, slices.Compact(slices.Clone(together)), len(together), "no block is served twice")
}

func TestHintsSelectBlocksOfLabelCalls(t *testing.T) {
	t.Parallel()
	spec := func(metric string) blocktest.Spec {
		return blocktest.Spec{
			Series: []labels.Labels{labels.FromStrings("__name__", metric, "of_"+metric, "x")}, Interval: 10 * time.Minute, ExternalLabels: labels.FromStrings("cluster", metric),
		}
	}
	dir, metas := bucketOf(t, spec("a"), spec("b"))
	g := start(t, filesystemYAML(dir), nil)
	g.waitReady(t)
	client := thanos.NewStoreClient(g.conn)
	const mint, maxt = blocktest.DefaultMinTime, blocktest.DefaultMinTime + 7_200_000
	pack := func(name string, m interface{ MarshalVT() ([]byte, error) }) *anypb.Any {
		b, err := m.MarshalVT()
		require.NoError(t, err)
		return &anypb.Any{TypeUrl: "type.googleapis.com/hintspb." + name, Value: b}
	}
	for name, tc := range map[string]struct {
		matcher *labels.Matcher
		values  []string
		queried []ulid.ULID
	}{
		"by block":           {matcher(labels.MatchEqual, "__block_id", metas[1].ULID.String()), []string{"b"}, []ulid.ULID{metas[1].ULID}},
		"by external labels": {matcher(labels.MatchRegexp, "cluster", "a|c"), []string{"a"}, []ulid.ULID{metas[0].ULID}},
		"none":               {matcher(labels.MatchEqual, "cluster", "c"), nil, nil},
		"all":                {matcher(labels.MatchNotEqual, "cluster", "c"), []string{"a", "b"}, []ulid.ULID{metas[0].ULID, metas[1].ULID}},
	} {
		t.Run(name, func(t *testing.T) {
			var queried []string
			for _, id := range tc.queried {
				queried = append(queried, id.String())
			}
			slices.Sort(queried)
			values, err := client.LabelValues(t.Context(), &thanos.LabelValuesRequest{
				Label: "__name__", Start: mint, End: maxt, Hints: pack("LabelValuesRequestHints", &hintspb.LabelValuesRequestHints{BlockMatchers: matchers(tc.matcher)}),
			})
			require.NoError(t, err)
			require.ElementsMatch(t, tc.values, values.GetValues())
			require.ElementsMatch(t, queried, queriedBlocks(t, values.GetHints(), &hintspb.LabelValuesResponseHints{})[:len(queried)])
			names, err := client.LabelNames(t.Context(), &thanos.LabelNamesRequest{
				Start: mint, End: maxt, Hints: pack("LabelNamesRequestHints", &hintspb.LabelNamesRequestHints{BlockMatchers: matchers(tc.matcher)}),
			})
			require.NoError(t, err)
			for _, metric := range []string{"a", "b"} {
				require.Equal(t, slices.Contains(tc.values, metric), slices.Contains(names.GetNames(), "of_"+metric))
			}
			require.Len(t, queriedBlocks(t, names.GetHints(), &hintspb.LabelNamesResponseHints{}), len(queried)+1)
		})
	}
}

func TestIdleHeadersAreClosedAndOpenedAgain(t *testing.T) {
	t.Parallel()
	g := start(t, filesystemYAML(blocktest.RecordedAfter(t)), func(c *Config) {
		c.Headers.LazyReader, c.Headers.IdleTimeout = true, 30*time.Millisecond
	})
	g.waitReady(t)
	for range 2 {
		frames, err := series(t, g.conn, ask(lastStart, lastEnd, thanos.PartialResponseStrategy_ABORT))
		require.NoError(t, err)
		require.Len(t, frames, 1)
		require.Eventually(t, func() bool {
			text := metricsOf(t, g)
			return counterOf(t, text, "thanos_bucket_store_indexheader_lazy_unload_total") == counterOf(t, text, "thanos_bucket_store_indexheader_lazy_load_total")
		}, 10*time.Second, 10*time.Millisecond, "all that were opened are closed")
	}
	require.Greater(t, counterOf(t, metricsOf(t, g), "thanos_bucket_store_indexheader_lazy_load_total"), 1)
	require.Zero(t, counterOf(t, metricsOf(t, g), "thanos_bucket_store_indexheader_lazy_unload_failed_total"))
}
