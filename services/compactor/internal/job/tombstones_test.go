package job

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/index"
	"github.com/prometheus/prometheus/tsdb/tombstones"
	"github.com/stretchr/testify/require"
	"github.com/thanos-io/objstore"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/blocktest"
	"github.com/promontory-io/promontory/libs/block/fetch"
	"github.com/promontory-io/promontory/libs/chunks"
	"github.com/promontory-io/promontory/libs/dedup"
	"github.com/promontory-io/promontory/services/compactor/internal/compacttest"
	"github.com/promontory-io/promontory/services/compactor/internal/plan"
	"github.com/promontory-io/promontory/services/compactor/internal/read"
)

// withTombstones uploads a block of three series whose first one is deleted from the second half hour
// on. It returns the name of that series and the time.
func withTombstones(t *testing.T, bkt objstore.Bucket) (*block.Meta, string, int64) {
	t.Helper()
	dir := t.TempDir()
	m := blocktest.Create(t, dir, blocktest.Spec{Floats: 3})
	root := filepath.Join(dir, m.ULID.String())
	b, err := tsdb.OpenBlock(nil, root, nil, nil)
	require.NoError(t, err)
	ir, err := b.Index()
	require.NoError(t, err)
	n, v := index.AllPostingsKey()
	ps, err := ir.Postings(t.Context(), n, v)
	require.NoError(t, err)
	require.True(t, ps.Next())
	ref := ps.At()
	var lb labels.ScratchBuilder
	require.NoError(t, ir.Series(ref, &lb, nil))
	require.NoError(t, ir.Close())
	require.NoError(t, b.Close())

	from := m.MinTime + 30*time.Minute.Milliseconds()
	stones := tombstones.NewMemTombstones()
	stones.AddInterval(ref, tombstones.Interval{Mint: from, Maxt: m.MaxTime})
	_, err = tombstones.WriteFile(nil, root, stones)
	require.NoError(t, err)
	content, err := os.ReadFile(filepath.Join(root, tombstonesFile))
	require.NoError(t, err)
	m.Stats.NumTombstones = 1
	require.NoError(t, block.WriteMetaDir(root, m))
	m = blocktest.UploadDir(t, bkt, root)
	require.NoError(t, bkt.Upload(t.Context(), block.ObjectName(m.ULID, tombstonesFile), bytes.NewReader(content)))
	return m, lb.Labels().String(), from
}

func rewrite(m *block.Meta) *plan.Job {
	return &plan.Job{
		Kind: plan.Rewrite, Group: m.GroupKey(), Labels: m.Thanos.Labels, Targets: []int64{0},
		Sources: []*plan.Block{plan.NewBlock(m, fetch.Marks{})}, MinTime: m.MinTime, MaxTime: m.MaxTime,
	}
}

func TestTombstonesInTheBucketAreApplied(t *testing.T) {
	t.Parallel()
	bkt := objstore.NewInMemBucket()
	m, name, from := withTombstones(t, bkt)
	e := New(zap.NewNop(), bkt, Config{Dir: t.TempDir(), Dedup: dedup.Chain})
	res, err := e.Run(t.Context(), rewrite(m))
	require.NoError(t, err)
	require.Len(t, res.Made, 1)
	require.Zero(t, res.Made[0].Stats.NumTombstones)
	before, after := compacttest.Content(t, bkt, m), compacttest.Content(t, bkt, res.Made[0])
	require.Len(t, after, len(before))
	for series, chks := range before {
		want := compacttest.Points(t, chks, chunks.Raw)
		if series == name {
			want = want[:30]
			require.Less(t, want[29].T, from)
		}
		require.Equal(t, want, compacttest.Points(t, after[series], chunks.Raw), series)
	}
	left, err := os.ReadDir(e.cfg.Dir)
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestTombstonesThatAreMissingOrBrokenAreToldApart(t *testing.T) {
	t.Parallel()
	bkt := objstore.NewInMemBucket()
	m, _, _ := withTombstones(t, bkt)
	object := block.ObjectName(m.ULID, tombstonesFile)
	content := bkt.Objects()[object]
	e := New(zap.NewNop(), bkt, Config{Dir: t.TempDir(), Dedup: dedup.Chain})

	for name, text := range map[string]string{"empty": "", "cut off": string(content[:len(content)-2]), "other bytes": strings.Repeat("x", 40)} {
		require.NoError(t, bkt.Upload(t.Context(), object, strings.NewReader(text)))
		_, err := e.Run(t.Context(), rewrite(m))
		corrupt, ok := read.AsCorrupt(err)
		require.True(t, ok, "%s: %v", name, err)
		require.Equal(t, m.ULID, corrupt.Block)
		require.Equal(t, tombstonesFile, corrupt.Object)
	}
	// Shippers do not upload tombstones, though meta.json counts them: nothing is deleted then.
	require.NoError(t, bkt.Delete(t.Context(), object))
	res, err := e.Run(t.Context(), rewrite(m))
	require.NoError(t, err)
	require.Equal(t, m.Stats.NumSamples, res.Made[0].Stats.NumSamples)
}
