package block_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/stretchr/testify/require"
	"github.com/thanos-io/objstore"
	"github.com/thanos-io/objstore/providers/filesystem"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/blocktest"
)

func gets(calls []blocktest.Call) []string {
	var out []string
	for _, c := range calls {
		if c.Op == objstore.OpGet {
			_, rel, _ := block.SplitObject(c.Name)
			out = append(out, rel)
		}
	}
	return out
}

func TestDownloadedBlockCanBeOpened(t *testing.T) {
	t.Parallel()
	src, _ := makeBlock(t)
	bkt := objstore.NewInMemBucket()
	m := blocktest.UploadDir(t, bkt, src)
	_, err := block.MarkNoCompact(t.Context(), nil, bkt, m.ULID, block.ReasonManual, "", m.CreationTime())
	require.NoError(t, err)

	dst := filepath.Join(t.TempDir(), "work", m.ULID.String())
	got, err := block.Download(t.Context(), bkt, m.ULID, dst, block.DownloadOptions{Concurrency: 3})
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(m, got))
	local, err := block.ReadMetaDir(dst)
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(m, local))
	require.NoFileExists(t, filepath.Join(dst, block.NoCompactMarkFilename))

	b, err := tsdb.OpenBlock(nil, dst, nil, nil)
	require.NoError(t, err)
	require.Equal(t, m.Stats.NumSeries, b.Meta().Stats.NumSeries)
	require.NoError(t, b.Close())
}

func TestRecordedBlocksWithoutAFileListCanBeDownloaded(t *testing.T) {
	t.Parallel()
	dir := blocktest.RecordedBefore(t)
	bkt, err := filesystem.NewBucket(dir)
	require.NoError(t, err)
	id := mustID(t, idText)
	dst := t.TempDir()
	m, err := block.Download(t.Context(), bkt, id, dst, block.DownloadOptions{})
	require.NoError(t, err)
	require.Empty(t, m.Thanos.Files)
	for _, rel := range []string{"index", "chunks/000001"} {
		want, err := os.ReadFile(filepath.Join(dir, idText, rel))
		require.NoError(t, err)
		got, err := os.ReadFile(filepath.Join(dst, rel))
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
}

func TestSecondDownloadFetchesOnlyWhatIsNotThere(t *testing.T) {
	t.Parallel()
	src, _ := makeBlock(t)
	bkt := &blocktest.Hooked{Bucket: objstore.NewInMemBucket()}
	m, err := block.Upload(t.Context(), nil, bkt, src, block.UploadOptions{HashFunc: block.HashSHA256})
	require.NoError(t, err)
	dst := t.TempDir()

	bkt.Hook = func(c blocktest.Call) error {
		if c.Op == objstore.OpGet && strings.HasSuffix(c.Name, block.IndexFilename) {
			return errors.New("down")
		}
		return nil
	}
	_, err = block.Download(t.Context(), bkt, m.ULID, dst, block.DownloadOptions{})
	require.ErrorContains(t, err, "fetch index: down")
	require.NoFileExists(t, filepath.Join(dst, block.MetaFilename), "what is not whole has no meta.json")
	require.FileExists(t, filepath.Join(dst, "chunks", "000001"))

	bkt.Hook = nil
	bkt.Reset()
	require.NoError(t, os.WriteFile(filepath.Join(dst, "chunks", "000002"), []byte("stale"), 0o644))
	_, err = block.Download(t.Context(), bkt, m.ULID, dst, block.DownloadOptions{})
	require.NoError(t, err)
	require.Equal(t, []string{"meta.json", "index"}, gets(bkt.Calls()))
	require.NoFileExists(t, filepath.Join(dst, "chunks", "000002"), "a reader would open it")

	bkt.Reset()
	require.NoError(t, os.WriteFile(filepath.Join(dst, "index"), []byte("damaged"), 0o644))
	_, err = block.Download(t.Context(), bkt, m.ULID, dst, block.DownloadOptions{})
	require.NoError(t, err)
	require.Equal(t, []string{"meta.json", "index"}, gets(bkt.Calls()))
}

func TestDownloadSaysWhatIsWrongWithTheBlock(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		spoil func(t *testing.T, bkt objstore.Bucket, m *block.Meta)
		want  error
		says  string
	}{
		"absent": {func(t *testing.T, bkt objstore.Bucket, m *block.Meta) {
			require.NoError(t, block.Delete(t.Context(), nil, bkt, m.ULID))
		}, block.ErrMetaNotFound, "no meta.json"},
		"missing segment": {func(t *testing.T, bkt objstore.Bucket, m *block.Meta) {
			require.NoError(t, bkt.Delete(t.Context(), block.ObjectName(m.ULID, "chunks/000001")))
		}, block.ErrCorrupt, "chunks/000001 is missing"},
		"truncated index": {func(t *testing.T, bkt objstore.Bucket, m *block.Meta) {
			put(t, bkt, block.ObjectName(m.ULID, "index"))
		}, block.ErrCorrupt, "fetch index"},
		"other bytes of the same length": {func(t *testing.T, bkt objstore.Bucket, m *block.Meta) {
			name := block.ObjectName(m.ULID, "index")
			attrs, err := bkt.Attributes(t.Context(), name)
			require.NoError(t, err)
			require.NoError(t, bkt.Upload(t.Context(), name, io.LimitReader(zeroes{}, attrs.Size)))
		}, block.ErrCorrupt, "SHA256"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			src, _ := makeBlock(t)
			bkt := objstore.NewInMemBucket()
			m, err := block.Upload(t.Context(), nil, bkt, src, block.UploadOptions{HashFunc: block.HashSHA256})
			require.NoError(t, err)
			tc.spoil(t, bkt, m)
			dst := t.TempDir()
			_, err = block.Download(t.Context(), bkt, m.ULID, dst, block.DownloadOptions{})
			require.ErrorIs(t, err, tc.want)
			require.ErrorContains(t, err, tc.says)
			require.ErrorContains(t, err, m.ULID.String())
			require.NoFileExists(t, filepath.Join(dst, block.MetaFilename))
		})
	}
}

func TestStreamCutOffIsNotTakenForACorruptBlock(t *testing.T) {
	t.Parallel()
	src, _ := makeBlock(t)
	bkt := objstore.NewInMemBucket()
	m := blocktest.UploadDir(t, bkt, src)
	_, err := block.Download(t.Context(), &short{Bucket: bkt}, m.ULID, t.TempDir(), block.DownloadOptions{})
	require.ErrorContains(t, err, "wrong size")
	require.NotErrorIs(t, err, block.ErrCorrupt)
}

// short ends the stream of an index early, without an error.
type short struct{ objstore.Bucket }

func (s *short) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	r, err := s.Bucket.Get(ctx, name)
	if err == nil && strings.HasSuffix(name, block.IndexFilename) {
		return io.NopCloser(io.LimitReader(r, 10)), r.Close()
	}
	return r, err
}
