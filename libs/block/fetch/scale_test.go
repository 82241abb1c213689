package fetch_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/thanos-io/objstore"
	"github.com/thanos-io/objstore/providers/filesystem"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/blocktest"
	"github.com/promontory-io/promontory/libs/block/fetch"
)

// BenchmarkSync measures the first sync of a fresh process over 10,000 blocks, with and
// without a warm disk cache, and the second sync, with the store-gateway's filters.
func BenchmarkSync(b *testing.B) {
	const blocks = 10000
	fs, err := filesystem.NewBucket(b.TempDir())
	require.NoError(b, err)
	for name, bkt := range map[string]objstore.Bucket{"memory": objstore.NewInMemBucket(), "filesystem": fs} {
		for n := range blocks {
			put(b, bkt, meta(n, func(m *block.Meta) {
				m.Thanos.SegmentFiles = []string{"000001"}
				m.Thanos.Files = []block.File{{RelPath: "chunks/000001", SizeBytes: 1}, {RelPath: "index", SizeBytes: 1}, {RelPath: "meta.json"}}
				m.Thanos.UploadTime = epoch
			}))
		}
		for _, s := range []fetch.Strategy{fetch.Concurrent, fetch.Recursive} {
			b.Run(fmt.Sprintf("%s/%s", name, s), func(b *testing.B) { syncs(b, bkt, s, blocks) })
		}
	}
}

func syncs(b *testing.B, inner objstore.Bucket, s fetch.Strategy, blocks int) {
	bkt := &blocktest.Hooked{Bucket: inner}
	var first, second, restart time.Duration
	var heap uint64
	for b.Loop() {
		dir := b.TempDir()
		var base *fetch.Base
		open := func() *fetch.Fetcher {
			base = newBase(b, bkt, fetch.Config{Strategy: s, CacheDir: dir}, nil)
			return base.NewFetcher(nil,
				fetch.TimePartition(at(0), at(1<<60)), fetch.ConsistencyDelay(0, nil),
				fetch.IgnoreDeletionMark(24*time.Hour), fetch.Deduplicate())
		}
		timed := func(f *fetch.Fetcher) time.Duration {
			begin := time.Now()
			res, err := f.Fetch(context.Background())
			require.NoError(b, err)
			require.Len(b, res.Metas, blocks)
			return time.Since(begin)
		}
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		f := open()
		first += timed(f)
		base.Close(context.Background())
		bkt.Reset()
		runtime.GC()
		runtime.ReadMemStats(&after)
		heap = after.HeapAlloc - before.HeapAlloc
		second += timed(f)
		require.Zero(b, metaReads(bkt.Calls()))
		bkt.Reset()
		restart += timed(open())
		require.Zero(b, metaReads(bkt.Calls()))
		base.Close(context.Background())
		bkt.Reset()
	}
	b.ReportMetric(first.Seconds()/float64(b.N), "first-s")
	b.ReportMetric(second.Seconds()/float64(b.N), "second-s")
	b.ReportMetric(restart.Seconds()/float64(b.N), "restart-s")
	b.ReportMetric(float64(heap)/1e6, "heap-MB")
}
