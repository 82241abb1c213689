package app

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/prometheus/prometheus/tsdb"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/blocktest"
	"github.com/promontory-io/promontory/libs/objstore/filesystem"
	"github.com/promontory-io/promontory/libs/storeapi/storeapitest"
)

func TestStoreAPIContract(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Config){
		"defaults": nil,
		"lazy headers and postings, tiny batches": func(c *Config) {
			c.Headers.LazyReader, c.Headers.Download = true, downloadLazy
			c.Read.LazyPostings = true
			c.Read.BatchSeries = 3
		},
		"headers in memory, estimates too low": func(c *Config) {
			c.Headers.Cache = false
			c.Read.SeriesBytes, c.Read.ChunkBytes = 8, 8
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storeapitest.Run(t, func(t *testing.T, data storeapitest.Data) *grpc.ClientConn {
				dir := t.TempDir()
				upload(t, dir, data, change != nil)
				g := start(t, filesystemYAML(dir), change)
				g.waitReady(t)
				return g.conn
			})
		})
	}
}

// upload makes a block of data and puts it into a bucket. forget leaves out what the metadata say
// about sizes.
func upload(t *testing.T, bucketDir string, data storeapitest.Data, forget bool) *block.Meta {
	t.Helper()
	dir := t.TempDir()
	w, err := tsdb.NewBlockWriter(slog.New(slog.DiscardHandler), dir, 2*(storeapitest.End-storeapitest.Start))
	require.NoError(t, err)
	data.Append(t, w.Appender(context.Background()))
	id, err := w.Flush(context.Background())
	require.NoError(t, err)
	require.NoError(t, w.Close())
	blockDir := filepath.Join(dir, id.String())
	meta, err := block.ReadMetaDir(blockDir)
	require.NoError(t, err)
	meta.Thanos.Labels = data.External.Map()
	meta.Thanos.Source = block.SourceTest
	require.NoError(t, block.WriteMetaDir(blockDir, meta))
	bkt, err := filesystem.New(bucketDir)
	require.NoError(t, err)
	uploaded := blocktest.UploadDir(t, bkt, blockDir)
	if forget {
		uploaded = uploaded.Clone()
		uploaded.Thanos.IndexStats = block.IndexStats{}
		uploaded.Thanos.Files, uploaded.Thanos.SegmentFiles = nil, nil
		require.NoError(t, block.WriteMetaDir(filepath.Join(bucketDir, id.String()), uploaded))
	}
	require.NoError(t, bkt.Close())
	return uploaded
}
