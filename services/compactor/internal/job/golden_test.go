package job

import (
	"context"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/thanos-io/objstore"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/blocktest"
	"github.com/promontory-io/promontory/libs/block/fetch"
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
