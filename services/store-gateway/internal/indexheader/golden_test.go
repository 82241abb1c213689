package indexheader_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/block/blocktest"
	"github.com/promontory-io/promontory/libs/objstore/filesystem"
	"github.com/promontory-io/promontory/services/store-gateway/internal/indexheader"
	"github.com/promontory-io/promontory/services/store-gateway/internal/rangeread"
)

func recorded(t *testing.T) (*rangeread.Bucket, []string) {
	t.Helper()
	bkt, err := filesystem.New(blocktest.RecordedAfter(t))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, bkt.Close()) })
	files, err := filepath.Glob("testdata/01*")
	require.NoError(t, err)
	require.Len(t, files, 11)
	ids := make([]string, len(files))
	for i, f := range files {
		ids[i] = filepath.Base(f)
	}
	return rangeread.New(bkt, rangeread.DefaultConfig()), ids
}

func TestHeadersAreEqualToTheRecordedOnes(t *testing.T) {
	t.Parallel()
	bkt, ids := recorded(t)
	for _, id := range ids {
		want, err := os.ReadFile(filepath.Join("testdata", id))
		require.NoError(t, err)
		size, err := bkt.Size(t.Context(), id+"/index")
		require.NoError(t, err)
		// Metadata may say nothing of the size, and may be wrong.
		for _, said := range []int64{0, size, size - 1, size + 1, size / 2, 3, 1 << 40} {
			file := filepath.Join(t.TempDir(), id, indexheader.Filename)
			require.NoError(t, indexheader.BuildFile(t.Context(), bkt, indexheader.Index{Name: id + "/index", Size: said}, file))
			got, err := os.ReadFile(file)
			require.NoError(t, err)
			require.True(t, bytes.Equal(want, got), "header of %s differs", id)
			require.NoFileExists(t, file+".tmp")
		}
	}
}

func TestRecordedHeadersAreReadable(t *testing.T) {
	t.Parallel()
	_, ids := recorded(t)
	for _, id := range ids {
		r, err := indexheader.OpenFile(filepath.Join("testdata", id), 0)
		require.NoError(t, err)
		require.Equal(t, []string{"__name__", "code", "handler", "instance", "job", "le", "method", "namespace", "pod"}, r.LabelNames())
		rng, ok, err := r.Postings("__name__", "up")
		require.NoError(t, err)
		require.True(t, ok)
		require.Greater(t, rng.End, rng.Start)
		require.NoError(t, r.Close())
	}
}
