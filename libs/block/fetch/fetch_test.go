package fetch_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"github.com/thanos-io/objstore"
	"github.com/thanos-io/objstore/providers/filesystem"
	"go.uber.org/goleak"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/blocktest"
	"github.com/promontory-io/promontory/libs/block/fetch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// meta makes block number n of a test, with two hours from two hours times n on.
func meta(n int, change ...func(*block.Meta)) *block.Meta {
	m := &block.Meta{}
	m.ULID = blocktest.ID(epoch, uint64(n))
	m.Version = block.MetaVersion
	m.MinTime, m.MaxTime = int64(n)*7200_000, int64(n+1)*7200_000
	m.Compaction.Level = 1
	m.Compaction.Sources = []ulid.ULID{m.ULID}
	m.Thanos.Labels = map[string]string{"cluster": "eu1", "replica": fmt.Sprintf("r%d", n%2)}
	m.Thanos.Source = block.SourceSidecar
	for _, c := range change {
		c(m)
	}
	return m
}

func id(n int) ulid.ULID { return blocktest.ID(epoch, uint64(n)) }

func put(t testing.TB, bkt objstore.Bucket, m *block.Meta) {
	t.Helper()
	b, err := m.Encode()
	require.NoError(t, err)
	putRaw(t, bkt, block.ObjectName(m.ULID, block.MetaFilename), string(b))
	putRaw(t, bkt, block.ObjectName(m.ULID, block.IndexFilename), "i")
	putRaw(t, bkt, block.ObjectName(m.ULID, "chunks/000001"), "c")
}

func putRaw(t testing.TB, bkt objstore.Bucket, name, content string) {
	t.Helper()
	require.NoError(t, bkt.Upload(context.Background(), name, strings.NewReader(content)))
}

// buckets runs a test over each strategy and each of two kinds of bucket.
func buckets(t *testing.T, f func(t *testing.T, bkt *blocktest.Hooked, s fetch.Strategy)) {
	for _, s := range []fetch.Strategy{fetch.Concurrent, fetch.Recursive} {
		t.Run(string(s)+"/memory", func(t *testing.T) {
			t.Parallel()
			f(t, &blocktest.Hooked{Bucket: objstore.NewInMemBucket()}, s)
		})
		t.Run(string(s)+"/filesystem", func(t *testing.T) {
			t.Parallel()
			bkt, err := filesystem.NewBucket(t.TempDir())
			require.NoError(t, err)
			f(t, &blocktest.Hooked{Bucket: bkt}, s)
		})
	}
}

func newBase(t testing.TB, bkt objstore.BucketReader, cfg fetch.Config, reg prometheus.Registerer) *fetch.Base {
	t.Helper()
	b, err := fetch.NewBase(nil, bkt, cfg, reg)
	require.NoError(t, err)
	t.Cleanup(func() { b.Close(context.Background()) })
	return b
}

func metaReads(calls []blocktest.Call) int {
	n := 0
	for _, c := range calls {
		if c.Op == objstore.OpGet && strings.HasSuffix(c.Name, block.MetaFilename) {
			n++
		}
	}
	return n
}

func TestSecondSyncReadsOnlyWhatIsNew(t *testing.T) {
	t.Parallel()
	buckets(t, func(t *testing.T, bkt *blocktest.Hooked, s fetch.Strategy) {
		for n := range 5 {
			put(t, bkt, meta(n))
		}
		putRaw(t, bkt, "debug/metas/"+id(0).String()+".json", "{}")
		putRaw(t, bkt, "stranger", "x")
		reg := prometheus.NewRegistry()
		cfg := fetch.Config{Strategy: s, CacheDir: t.TempDir()}
		base := newBase(t, bkt, cfg, reg)
		f := base.NewFetcher(reg)

		bkt.Reset()
		res, err := f.Fetch(t.Context())
		require.NoError(t, err)
		require.Len(t, res.Metas, 5)
		require.Equal(t, 5, metaReads(bkt.Calls()))
		require.Equal(t, "eu1", res.Metas[id(3)].Thanos.Labels["cluster"])

		put(t, bkt, meta(5))
		require.NoError(t, block.Delete(t.Context(), nil, bkt.Bucket, id(0)))
		bkt.Reset()
		res, err = f.Fetch(t.Context())
		require.NoError(t, err)
		require.Len(t, res.Metas, 5)
		require.NotContains(t, res.Metas, id(0))
		require.Equal(t, 1, metaReads(bkt.Calls()))
		iters := 0
		for _, c := range bkt.Calls() {
			if c.Op == objstore.OpIter {
				iters++
			}
		}
		require.Equal(t, 1, iters, "one listing")

		base.Close(t.Context())
		// After a restart the disk knows, and the gone block's file is gone too.
		require.NoDirExists(t, filepath.Join(cfg.CacheDir, "meta-syncer", id(0).String()))
		bkt.Reset()
		res, err = newBase(t, bkt, cfg, nil).NewFetcher(nil).Fetch(t.Context())
		require.NoError(t, err)
		require.Len(t, res.Metas, 5)
		require.Zero(t, metaReads(bkt.Calls()))

		require.EqualValues(t, 2, testutil.ToFloat64(counter(t, reg, "thanos_blocks_meta_base_syncs_total")))
		require.EqualValues(t, 2, testutil.ToFloat64(counter(t, reg, "thanos_blocks_meta_syncs_total")))
		require.EqualValues(t, 0, testutil.ToFloat64(counter(t, reg, "thanos_blocks_meta_base_cache_busts_total")))
	})
}

// counter finds a metric without labels by its name.
func counter(t testing.TB, reg *prometheus.Registry, name string) prometheus.Collector {
	t.Helper()
	families, err := reg.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() == name {
			c := prometheus.NewGauge(prometheus.GaugeOpts{Name: "x"})
			m := f.GetMetric()[0]
			c.Set(m.GetCounter().GetValue() + m.GetGauge().GetValue())
			return c
		}
	}
	t.Fatalf("metric %s is not exposed", name)
	return nil
}

func TestDamagedDiskCacheIsReadAnew(t *testing.T) {
	t.Parallel()
	bkt := &blocktest.Hooked{Bucket: objstore.NewInMemBucket()}
	put(t, bkt, meta(1))
	cfg := fetch.Config{CacheDir: t.TempDir()}
	base := newBase(t, bkt, cfg, nil)
	_, err := base.NewFetcher(nil).Fetch(t.Context())
	require.NoError(t, err)
	base.Close(t.Context())
	require.NoError(t, os.Truncate(filepath.Join(cfg.CacheDir, "meta-syncer", id(1).String(), block.MetaFilename), 30))
	res, err := newBase(t, bkt, cfg, nil).NewFetcher(nil).Fetch(t.Context())
	require.NoError(t, err)
	require.Len(t, res.Metas, 1)
}

func TestMetaWrittenAnewIsReadAnewWhereTheListingTells(t *testing.T) {
	t.Parallel()
	inner := objstore.NewInMemBucket()
	reg := prometheus.NewRegistry()
	cfg := fetch.Config{Strategy: fetch.Recursive, CacheDir: t.TempDir()}
	f := newBase(t, inner, cfg, reg).NewFetcher(nil)
	name := block.ObjectName(id(1), block.MetaFilename)
	put(t, inner, meta(1))
	require.NoError(t, inner.ChangeLastModified(name, epoch))
	_, err := f.Fetch(t.Context())
	require.NoError(t, err)

	put(t, inner, meta(1, func(m *block.Meta) { m.Thanos.Extensions = []byte(`{"parquet_migrated":true}`) }))
	require.NoError(t, inner.ChangeLastModified(name, epoch.Add(time.Minute)))
	for _, again := range []*fetch.Fetcher{f, newBase(t, inner, cfg, nil).NewFetcher(nil)} {
		res, err := again.Fetch(t.Context())
		require.NoError(t, err)
		require.JSONEq(t, `{"parquet_migrated":true}`, string(res.Metas[id(1)].Thanos.Extensions))
	}
	require.EqualValues(t, 1, testutil.ToFloat64(counter(t, reg, "thanos_blocks_meta_base_cache_busts_total")))
}

func TestPartialAndCorruptedBlocksDoNotHideOthers(t *testing.T) {
	t.Parallel()
	buckets(t, func(t *testing.T, bkt *blocktest.Hooked, s fetch.Strategy) {
		put(t, bkt, meta(1))
		putRaw(t, bkt, block.ObjectName(id(2), "index"), "i")
		putRaw(t, bkt, block.ObjectName(id(3), "meta.json"), `{"ulid"`)
		putRaw(t, bkt, block.ObjectName(id(4), "meta.json"), `{"ulid":"`+id(4).String()+`","version":2}`)
		putRaw(t, bkt, block.ObjectName(id(5), "meta.json"), `{"ulid":"`+id(6).String()+`","version":1}`)
		reg := prometheus.NewRegistry()
		res, err := newBase(t, bkt, fetch.Config{Strategy: s}, nil).NewFetcher(reg).Fetch(t.Context())
		require.NoError(t, err)
		require.Len(t, res.Metas, 1)
		require.Len(t, res.Partial, 4)
		require.ErrorIs(t, res.Partial[id(2)], block.ErrMetaNotFound)
		require.ErrorContains(t, res.Partial[id(2)], id(2).String())
		require.ErrorContains(t, res.Partial[id(3)], "truncated")
		require.ErrorContains(t, res.Partial[id(4)], "from the future")
		require.ErrorContains(t, res.Partial[id(5)], "names block")
		require.Equal(t, map[fetch.State]int{fetch.StateLoaded: 1, fetch.StateNoMeta: 1, fetch.StateCorruptedMeta: 3}, res.Counts)

		require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP thanos_blocks_meta_synced Blocks in each state after the last sync.
# TYPE thanos_blocks_meta_synced gauge
thanos_blocks_meta_synced{state="corrupted-meta-json"} 3
thanos_blocks_meta_synced{state="duplicate"} 0
thanos_blocks_meta_synced{state="failed"} 0
thanos_blocks_meta_synced{state="label-excluded"} 0
thanos_blocks_meta_synced{state="loaded"} 1
thanos_blocks_meta_synced{state="marked-for-deletion"} 0
thanos_blocks_meta_synced{state="marked-for-no-compact"} 0
thanos_blocks_meta_synced{state="marked-for-no-downsample"} 0
thanos_blocks_meta_synced{state="no-meta-json"} 1
thanos_blocks_meta_synced{state="parquet-converted"} 0
thanos_blocks_meta_synced{state="parquet-migrated"} 0
thanos_blocks_meta_synced{state="time-excluded"} 0
thanos_blocks_meta_synced{state="too-fresh"} 0
`), "thanos_blocks_meta_synced"))
	})
}

// failing makes calls for one block fail while it is set.
type failing struct {
	mu  sync.Mutex // guards ops
	ops map[string]error
}

func (f *failing) hook(c blocktest.Call) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ops[c.Op+" "+c.Name]
}

func (f *failing) set(ops map[string]error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ops = ops
}

func TestUnreadableBlockKeepsItsLastGoodStateAndIsNamed(t *testing.T) {
	t.Parallel()
	down := errors.New("down")
	fail := &failing{}
	bkt := &blocktest.Hooked{Bucket: objstore.NewInMemBucket(), Hook: fail.hook}
	put(t, bkt, meta(1))
	put(t, bkt, meta(2))
	reg := prometheus.NewRegistry()
	f := newBase(t, bkt, fetch.Config{}, nil).NewFetcher(reg, fetch.IgnoreDeletionMark(0))

	// Unknown and unreadable: named, and the other is there.
	fail.set(map[string]error{"get " + block.ObjectName(id(2), "meta.json"): down})
	res, err := f.Fetch(t.Context())
	var partial *fetch.PartialError
	require.ErrorAs(t, err, &partial)
	require.ErrorIs(t, err, down)
	require.ErrorContains(t, err, id(2).String())
	require.Contains(t, partial.Blocks, id(2))
	require.Contains(t, res.Failed, id(2))
	require.Len(t, res.Metas, 1)
	require.Equal(t, map[fetch.State]int{fetch.StateLoaded: 1, fetch.StateFailed: 1}, res.Counts)
	require.EqualValues(t, 1, testutil.ToFloat64(counter(t, reg, "thanos_blocks_meta_sync_failures_total")))

	fail.set(nil)
	res, err = f.Fetch(t.Context())
	require.NoError(t, err)
	require.Len(t, res.Metas, 2)

	// Known, and now the question fails: stays.
	fail.set(map[string]error{"exists " + block.ObjectName(id(2), "meta.json"): down})
	res, err = f.Fetch(t.Context())
	require.ErrorAs(t, err, &partial)
	require.Len(t, res.Metas, 2)

	// A mark that was read holds while it cannot be read.
	fail.set(nil)
	_, err = block.MarkForDeletion(t.Context(), nil, bkt, id(2), "", epoch)
	require.NoError(t, err)
	res, err = f.Fetch(t.Context())
	require.NoError(t, err)
	require.Equal(t, map[ulid.ULID]fetch.State{id(2): fetch.StateMarkedForDeletion}, res.Excluded)
	fail.set(map[string]error{"get " + block.ObjectName(id(2), "deletion-mark.json"): down})
	res, err = f.Fetch(t.Context())
	require.ErrorAs(t, err, &partial)
	require.Equal(t, map[ulid.ULID]fetch.State{id(2): fetch.StateMarkedForDeletion}, res.Excluded)

	// Taken off, the mark is forgotten.
	fail.set(nil)
	require.NoError(t, block.RemoveMark(t.Context(), nil, bkt, id(2), block.DeletionMarkFilename))
	res, err = f.Fetch(t.Context())
	require.NoError(t, err)
	require.Len(t, res.Metas, 2)
}

func TestFailedListingGivesNoResult(t *testing.T) {
	t.Parallel()
	buckets(t, func(t *testing.T, bkt *blocktest.Hooked, s fetch.Strategy) {
		put(t, bkt, meta(1))
		f := newBase(t, bkt, fetch.Config{Strategy: s}, nil).NewFetcher(nil)
		_, err := f.Fetch(t.Context())
		require.NoError(t, err)
		down := errors.New("down")
		bkt.Hook = func(c blocktest.Call) error {
			if c.Op == objstore.OpIter {
				return down
			}
			return nil
		}
		res, err := f.Fetch(t.Context())
		require.ErrorIs(t, err, down)
		require.Nil(t, res)
		bkt.Hook = nil
		bkt.Reset()
		res, err = f.Fetch(t.Context())
		require.NoError(t, err)
		require.Len(t, res.Metas, 1)
		require.Zero(t, metaReads(bkt.Calls()), "what was known is known still")
	})
}

func TestCancelledSyncEnds(t *testing.T) {
	t.Parallel()
	buckets(t, func(t *testing.T, bkt *blocktest.Hooked, s fetch.Strategy) {
		for n := range 20 {
			put(t, bkt, meta(n))
		}
		ctx, cancel := context.WithCancel(t.Context())
		bkt.Hook = func(c blocktest.Call) error {
			if c.Op == objstore.OpGet {
				cancel()
			}
			return nil
		}
		res, err := newBase(t, bkt, fetch.Config{Strategy: s}, nil).NewFetcher(nil).Fetch(ctx)
		require.ErrorIs(t, err, context.Canceled)
		require.Nil(t, res)
	})
}

func TestUnusableMarksAreIgnoredAndOtherVersionsReported(t *testing.T) {
	t.Parallel()
	buckets(t, func(t *testing.T, bkt *blocktest.Hooked, s fetch.Strategy) {
		put(t, bkt, meta(1))
		put(t, bkt, meta(2))
		putRaw(t, bkt, block.ObjectName(id(1), block.DeletionMarkFilename), "{")
		f := newBase(t, bkt, fetch.Config{Strategy: s}, nil).NewFetcher(nil, fetch.IgnoreDeletionMark(0))
		res, err := f.Fetch(t.Context())
		require.NoError(t, err)
		require.Len(t, res.Metas, 2)
		putRaw(t, bkt, block.ObjectName(id(2), block.DeletionMarkFilename), `{"id":"`+id(2).String()+`","version":2}`)
		res, err = f.Fetch(t.Context())
		require.ErrorIs(t, err, block.ErrMarkVersion)
		require.Len(t, res.Metas, 2)
	})
}

func TestMarksAreReadOnlyOfBlocksThatAreLeft(t *testing.T) {
	t.Parallel()
	bkt := &blocktest.Hooked{Bucket: objstore.NewInMemBucket()}
	for n := range 10 {
		put(t, bkt, meta(n))
	}
	_, err := block.MarkNoCompact(t.Context(), nil, bkt, id(7), block.ReasonManual, "", epoch)
	require.NoError(t, err)
	_, err = block.MarkNoDownsample(t.Context(), nil, bkt, id(8), block.ReasonManual, "", epoch)
	require.NoError(t, err)
	bkt.Reset()
	f := newBase(t, bkt, fetch.Config{}, nil).NewFetcher(nil,
		fetch.TimePartition(at(7*7200_000+1), at(1<<60)),
		fetch.GatherNoCompactMarks(), fetch.GatherNoDownsampleMarks())
	res, err := f.Fetch(t.Context())
	require.NoError(t, err)
	require.Len(t, res.Metas, 3)
	require.Contains(t, res.Marks.NoCompact, id(7))
	require.Contains(t, res.Marks.NoDownsample, id(8))
	require.Equal(t, map[fetch.State]int{
		fetch.StateLoaded: 3, fetch.StateTimeExcluded: 7,
		fetch.StateMarkedNoCompact: 1, fetch.StateMarkedNoDownsample: 1,
	}, res.Counts)
	marks := 0
	for _, c := range bkt.Calls() {
		if c.Op == objstore.OpGet && !strings.HasSuffix(c.Name, block.MetaFilename) {
			marks++
		}
	}
	require.Equal(t, 6, marks)
}

func at(t int64) func(time.Time) int64 { return func(time.Time) int64 { return t } }

func TestFetchersShareABase(t *testing.T) {
	t.Parallel()
	bkt := &blocktest.Hooked{Bucket: objstore.NewInMemBucket()}
	for n := range 4 {
		put(t, bkt, meta(n))
	}
	base := newBase(t, bkt, fetch.Config{}, nil)
	all, some := base.NewFetcher(nil), base.NewFetcher(nil, fetch.TimePartition(at(2*7200_000+1), at(1<<60)))
	bkt.Reset()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			res, err := all.Fetch(t.Context())
			require.NoError(t, err)
			require.Len(t, res.Metas, 4)
		})
		wg.Go(func() {
			res, err := some.Fetch(t.Context())
			require.NoError(t, err)
			require.Len(t, res.Metas, 2)
		})
	}
	wg.Wait()
	require.Equal(t, 4, metaReads(bkt.Calls()))
}

func TestUnknownStrategyIsRefused(t *testing.T) {
	t.Parallel()
	_, err := fetch.NewBase(nil, objstore.NewInMemBucket(), fetch.Config{Strategy: "quick"}, nil)
	require.ErrorContains(t, err, `"quick" is unknown`)
}

func TestRecordedBucketAfterCompaction(t *testing.T) {
	t.Parallel()
	bkt, err := filesystem.NewBucket(blocktest.RecordedAfter(t))
	require.NoError(t, err)
	res, err := newBase(t, bkt, fetch.Config{Strategy: fetch.Recursive}, nil).NewFetcher(nil, fetch.Deduplicate()).Fetch(t.Context())
	require.NoError(t, err)
	require.Len(t, res.Metas, 11)
	require.Empty(t, res.Excluded)
}

func TestBlockThatIsDeletedWhileItsMarkIsReadIsNotTakenForOneWithoutMark(t *testing.T) {
	t.Parallel()
	buckets(t, func(t *testing.T, bkt *blocktest.Hooked, s fetch.Strategy) {
		put(t, bkt, meta(1))
		put(t, bkt, meta(2))
		for n := range 2 {
			_, err := block.MarkForDeletion(t.Context(), nil, bkt, id(n+1), "", time.Now().Add(-time.Hour))
			require.NoError(t, err)
		}
		f := newBase(t, bkt, fetch.Config{Strategy: s}, nil).NewFetcher(nil, fetch.IgnoreDeletionMark(0))
		res, err := f.Fetch(t.Context())
		require.NoError(t, err)
		require.Empty(t, res.Metas)

		// One goes, the other one's mark is taken off, both after they were listed.
		var once sync.Once
		bkt.Hook = func(c blocktest.Call) error {
			if strings.HasSuffix(c.Name, block.DeletionMarkFilename) && c.Op == objstore.OpGet {
				once.Do(func() {
					require.NoError(t, block.Delete(t.Context(), nil, bkt.Bucket, id(1)))
					require.NoError(t, block.RemoveMark(t.Context(), nil, bkt.Bucket, id(2), block.DeletionMarkFilename))
				})
			}
			return nil
		}
		res, err = f.Fetch(t.Context())
		require.NoError(t, err)
		require.NotContains(t, res.Metas, id(1))
		require.Contains(t, res.Metas, id(2))
	})
}
