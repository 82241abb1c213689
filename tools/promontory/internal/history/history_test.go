package history

import (
	"context"
	"log/slog"
	"math"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/promontory-io/promontory/libs/block"
	"github.com/stretchr/testify/require"
	"github.com/thanos-io/objstore"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/tools/promontory/internal/demo"
)

func testConfig() Config {
	return Config{
		End: time.Date(2026, 3, 1, 15, 20, 0, 0, time.UTC), Length: 5 * time.Hour, Interval: 30 * time.Second,
		Replicas: []Replica{
			{Labels: map[string]string{"cluster": "demo", "replica": "a"}, Outage: 30 * time.Minute},
			{Labels: map[string]string{"cluster": "demo", "replica": "b"}, Offset: 7 * time.Second, Outage: 75 * time.Minute, OddBlocks: true},
		},
	}
}

func testDeps(t *testing.T) Deps {
	t.Helper()
	return Deps{Bucket: objstore.NewInMemBucket(), Logger: zap.NewNop(), WorkDir: filepath.Join(t.TempDir(), "work")}
}

func TestPlanCoversTheTimeInAlignedBlocksOfDistinctIDs(t *testing.T) {
	t.Parallel()
	c := testConfig()
	items := plan(c)
	require.Len(t, items, 6, "10:00 to 12:00 to 14:00 to 15:20, twice")
	seen := map[string]bool{}
	for i, it := range items {
		require.Equal(t, time.Date(2026, 3, 1, 10+i/2*2, 0, 0, 0, time.UTC).UnixMilli(), it.mint)
		require.False(t, seen[it.id.String()])
		seen[it.id.String()] = true
		require.Equal(t, c.End.UnixMilli(), int64(it.id.Time()))
	}
	require.Equal(t, c.End.UnixMilli(), items[5].maxt)
	require.Equal(t, items, plan(c), "the same plan again")
}

func TestMakeRefusesAConfigurationThatMakesNoSense(t *testing.T) {
	t.Parallel()
	_, err := Make(t.Context(), Config{Interval: time.Millisecond}, testDeps(t))
	require.ErrorContains(t, err, "length of history")
	require.ErrorContains(t, err, "scrape interval")
	require.ErrorContains(t, err, "needs a replica")
}

func TestHistoryHoldsWhatTheShopDid(t *testing.T) {
	t.Parallel()
	c, deps := testConfig(), testDeps(t)
	made, err := Make(t.Context(), c, deps)
	require.NoError(t, err)
	require.Equal(t, 6, made)
	require.NoDirExists(t, deps.WorkDir)

	series := map[string]demo.Series{}
	for _, target := range demo.Targets() {
		for _, s := range target.Series {
			series[s.Labels.String()] = s
		}
	}
	for _, it := range plan(c) {
		b := download(t, deps.Bucket, it)
		checked := map[string]int{}
		forEach(t, b, func(lset labels.Labels, at int64, float float64, histogramSum float64) {
			require.GreaterOrEqual(t, at, it.mint)
			require.Less(t, at, it.maxt)
			require.False(t, it.replica.misses(at), "%s at %d in an outage", lset, at)
			s := series[lset.String()]
			switch {
			case lset.Get(labels.MetricName) == "up":
				checked["up"]++
			case value.IsStaleNaN(float) || value.IsStaleNaN(histogramSum):
				checked["stale"]++
			case s.Histogram != nil:
				require.InDelta(t, s.Histogram(time.UnixMilli(at)).Sum, histogramSum, 0)
				checked["histogram"]++
			default:
				require.InDelta(t, s.Float(time.UnixMilli(at)), float, 0, "%s at %d", lset, at)
				checked["float"]++
			}
		})
		scrapes := int((it.maxt - it.mint) / c.Interval.Milliseconds())
		require.InDelta(t, 9*scrapes, checked["up"], 9*21, "nine targets, at most ten minutes missing")
		require.Greater(t, checked["float"], 200*(scrapes-25))
		require.Greater(t, checked["histogram"], 5*(scrapes-25))
	}
}

// download fetches the block and checks its meta.json against the plan.
func download(t *testing.T, bkt objstore.Bucket, it item) *tsdb.Block {
	t.Helper()
	dir := filepath.Join(t.TempDir(), it.id.String())
	meta, err := block.Download(t.Context(), bkt, it.id, dir, block.DownloadOptions{})
	require.NoError(t, err)
	require.Equal(t, it.replica.Labels, meta.Thanos.Labels)
	require.Equal(t, it.id, meta.ULID)
	require.GreaterOrEqual(t, meta.MinTime, it.mint)
	require.LessOrEqual(t, meta.MaxTime, it.maxt)
	require.Equal(t, 1, meta.Compaction.Level)
	b, err := tsdb.OpenBlock(slog.New(slog.DiscardHandler), dir, nil, nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// forEach calls f for each sample of the block.
func forEach(t *testing.T, b *tsdb.Block, f func(lset labels.Labels, at int64, float, histogramSum float64)) {
	t.Helper()
	querier, err := tsdb.NewBlockQuerier(b, math.MinInt64, math.MaxInt64)
	require.NoError(t, err)
	defer querier.Close()
	set := querier.Select(context.Background(), true, nil, labels.MustNewMatcher(labels.MatchRegexp, labels.MetricName, ".+"))
	for set.Next() {
		eachSample(t, set.At(), f)
	}
	require.NoError(t, set.Err())
}

func eachSample(t *testing.T, s storage.Series, f func(lset labels.Labels, at int64, float, histogramSum float64)) {
	t.Helper()
	it := s.Iterator(nil)
	for kind := it.Next(); kind != chunkenc.ValNone; kind = it.Next() {
		if kind == chunkenc.ValFloat {
			at, v := it.At()
			f(s.Labels(), at, v, math.NaN())
			continue
		}
		at, h := it.AtFloatHistogram(nil)
		f(s.Labels(), at, math.NaN(), h.Sum)
	}
	require.NoError(t, it.Err())
}

func TestMakeGoesOnWhereItWasInterrupted(t *testing.T) {
	t.Parallel()
	c, deps := testConfig(), testDeps(t)
	ctx, cancel := context.WithCancel(t.Context())
	deps.Progress = func(done, _ int) {
		if done == 2 {
			cancel()
		}
	}
	first, err := Make(ctx, c, deps)
	require.ErrorIs(t, err, context.Canceled)
	require.Less(t, first, 6)

	deps.Progress = nil
	second, err := Make(t.Context(), c, deps)
	require.NoError(t, err)
	require.Equal(t, 6, first+second)
	third, err := Make(t.Context(), c, deps)
	require.NoError(t, err)
	require.Zero(t, third, "nothing is left to be made")
}
