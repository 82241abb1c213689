package job

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/thanos-io/objstore"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/blocktest"
	"github.com/promontory-io/promontory/libs/block/fetch"
	"github.com/promontory-io/promontory/libs/chunks"
	"github.com/promontory-io/promontory/libs/dedup"
	"github.com/promontory-io/promontory/libs/objstore/filesystem"
	"github.com/promontory-io/promontory/services/compactor/internal/compacttest"
	"github.com/promontory-io/promontory/services/compactor/internal/plan"
)

// view reads the blocks of a bucket as the compactor sees them.
func view(tb testing.TB, bkt objstore.Bucket, replicaLabels ...string) []*plan.Block {
	tb.Helper()
	base, err := fetch.NewBase(nil, bkt, fetch.Config{Strategy: fetch.Recursive}, nil)
	require.NoError(tb, err)
	f := base.NewFetcher(nil, fetch.IgnoreDeletionMark(0), fetch.RemoveReplicaLabels(replicaLabels...), fetch.Deduplicate(),
		fetch.GatherNoCompactMarks(), fetch.GatherNoDownsampleMarks())
	res, err := f.Fetch(tb.Context())
	require.NoError(tb, err)
	var out []*plan.Block
	for _, m := range res.Metas {
		out = append(out, plan.NewBlock(m, res.Marks))
	}
	return out
}

// compactAll works until nothing is left to do.
func compactAll(ctx context.Context, tb testing.TB, bkt objstore.Bucket, e *Executor, replicaLabels ...string) []Result {
	tb.Helper()
	var out []Result
	for {
		p := plan.Make(view(tb, bkt, replicaLabels...), plan.Options{Vertical: true, Downsampling: true, Now: time.Now()})
		if len(p.Jobs) == 0 {
			return out
		}
		for i := range p.Jobs {
			res, err := e.Run(ctx, &p.Jobs[i])
			require.NoError(tb, err)
			out = append(out, res)
		}
	}
}

func TestRecordedBucketBecomesWhatThanosMadeOfIt(t *testing.T) {
	t.Parallel()
	got, err := filesystem.New(blocktest.RecordedBefore(t))
	require.NoError(t, err)
	want, err := filesystem.New(blocktest.RecordedAfter(t))
	require.NoError(t, err)

	e := New(zap.NewNop(), got, Config{Dir: t.TempDir(), Dedup: dedup.Penalty})
	compactAll(t.Context(), t, got, e, "replica")

	gotBlocks, wantBlocks := compacttest.ByRange(view(t, got)), compacttest.ByRange(view(t, want))
	require.ElementsMatch(t, slices.Collect(maps.Keys(wantBlocks)), slices.Collect(maps.Keys(gotBlocks)))
	for key, w := range wantBlocks {
		g := gotBlocks[key]
		require.Equal(t, w.Thanos.Labels, g.Thanos.Labels)
		require.Len(t, g.Compaction.Sources, len(w.Compaction.Sources))
		require.Equal(t, block.SourceCompactor, g.Thanos.Source)
		compacttest.RequireSameContent(t, want, w, got, g)
	}
}

// TestRecordedBucketWithExactHasTheSameBlocksAndValuesThatWereScraped compacts the recorded pair with the
// other function that merges replicas.
func TestRecordedBucketWithExactHasTheSameBlocksAndValuesThatWereScraped(t *testing.T) {
	t.Parallel()
	bkt, err := filesystem.New(blocktest.RecordedBefore(t))
	require.NoError(t, err)
	scraped := map[string]map[compacttest.Point]bool{}
	for _, b := range view(t, bkt) {
		for name, cs := range compacttest.Content(t, bkt, b.Meta) {
			if scraped[name] == nil {
				scraped[name] = map[compacttest.Point]bool{}
			}
			for _, p := range compacttest.Points(t, cs, chunks.Raw) {
				scraped[name][p] = true
			}
		}
	}
	e := New(zap.NewNop(), bkt, Config{Dir: t.TempDir(), Dedup: dedup.Exact})
	compactAll(t.Context(), t, bkt, e, "replica")

	after, err := filesystem.New(blocktest.RecordedAfter(t))
	require.NoError(t, err)
	blocks := view(t, bkt)
	// Which replica's sample ends a range may differ, so ranges are compared by their beginnings.
	begins := func(bs []*plan.Block) (out []string) {
		for _, b := range bs {
			out = append(out, fmt.Sprint(b.Meta.MinTime, "@", b.Meta.Thanos.Downsample.Resolution, " of ", len(b.Meta.Compaction.Sources)))
		}
		return out
	}
	require.ElementsMatch(t, begins(view(t, after)), begins(blocks))
	got := map[string]int{}
	for _, b := range blocks {
		if b.Meta.Thanos.Downsample.Resolution > 0 {
			continue
		}
		for name, cs := range compacttest.Content(t, bkt, b.Meta) {
			last := int64(math.MinInt64)
			for _, p := range compacttest.Points(t, cs, chunks.Raw) {
				require.True(t, scraped[name][p], "%s: nobody has seen %v", name, p)
				require.True(t, last == math.MinInt64 || p.T-last <= 90_000, "%s: a gap from %d to %d, which one of the two has filled", name, last, p.T)
				last = p.T
				got[name]++
			}
		}
	}
	require.Len(t, got, len(scraped))
	require.Empty(t, compactAll(t.Context(), t, bkt, e, "replica"), "nothing is left to do")
}
