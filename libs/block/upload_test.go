package block_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"github.com/thanos-io/objstore"
	"github.com/thanos-io/objstore/providers/filesystem"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/blocktest"
)

// makeBlock returns the folder and meta of a small local block.
func makeBlock(t testing.TB) (string, *block.Meta) {
	t.Helper()
	dir := t.TempDir()
	m := blocktest.Create(t, dir, blocktest.Spec{Floats: 3, Histograms: 1, FloatHistograms: 1})
	return filepath.Join(dir, m.ULID.String()), m
}

func uploads(calls []blocktest.Call) []string {
	var out []string
	for _, c := range calls {
		if c.Op == objstore.OpUpload {
			_, rel, _ := block.SplitObject(c.Name)
			out = append(out, rel)
		}
	}
	return out
}

func TestUploadSendsMetaLastAndDescribesTheFiles(t *testing.T) {
	t.Parallel()
	dir, local := makeBlock(t)
	bkt := &blocktest.Hooked{Bucket: objstore.NewInMemBucket()}
	now := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	m, err := block.Upload(t.Context(), nil, bkt, dir, block.UploadOptions{
		Concurrency: 4, HashFunc: block.HashSHA256, Now: func() time.Time { return now },
	})
	require.NoError(t, err)
	require.Equal(t, []string{"chunks/000001", "index", "meta.json"}, uploads(bkt.Calls()))
	verified := map[string]bool{}
	for _, c := range bkt.Calls() {
		if c.Op == objstore.OpAttributes {
			_, rel, _ := block.SplitObject(c.Name)
			verified[rel] = true
		}
		if c.Op == objstore.OpUpload && strings.HasSuffix(c.Name, block.MetaFilename) {
			require.Equal(t, map[string]bool{"chunks/000001": true, "index": true}, verified, "data is verified before meta.json goes")
		}
	}

	require.Equal(t, now, m.Thanos.UploadTime)
	require.Equal(t, []string{"000001"}, m.Thanos.SegmentFiles)
	require.Len(t, m.Thanos.Files, 3)
	for i, rel := range []string{"chunks/000001", "index", "meta.json"} {
		f := m.Thanos.Files[i]
		require.Equal(t, rel, f.RelPath)
		if rel == block.MetaFilename {
			require.Zero(t, f.SizeBytes)
			require.Nil(t, f.Hash)
			continue
		}
		st, err := os.Stat(filepath.Join(dir, rel))
		require.NoError(t, err)
		require.Equal(t, st.Size(), f.SizeBytes)
		require.Len(t, f.Hash.Value, 64)
	}
	require.Positive(t, m.Thanos.IndexStats.SeriesMaxSize)
	require.Positive(t, m.Thanos.IndexStats.ChunkMaxSize)
	require.Equal(t, local.BlockMeta, m.BlockMeta)

	stored, err := block.FetchMeta(t.Context(), bkt, m.ULID)
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(m, stored))
	again, err := block.ReadMetaDir(dir)
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(local, again), "the local block is not changed")

	_, err = block.Upload(t.Context(), nil, bkt, dir, block.UploadOptions{})
	require.ErrorIs(t, err, block.ErrExists)
	_, err = block.FetchMeta(t.Context(), bkt, m.ULID)
	require.NoError(t, err, "a refused upload removes nothing")
}

// noVisibleLie fails if a block is visible without all its data being there.
func noVisibleLie(t testing.TB, bkt objstore.Bucket, m *block.Meta) (visible bool) {
	t.Helper()
	got, err := block.FetchMeta(context.Background(), bkt, m.ULID)
	if err != nil {
		if !errors.Is(err, block.ErrMetaNotFound) && !errors.Is(err, block.ErrMetaCorrupt) {
			require.NoError(t, err)
		}
		return false
	}
	for _, f := range got.Thanos.Files {
		attrs, err := bkt.Attributes(context.Background(), block.ObjectName(m.ULID, f.RelPath))
		require.NoError(t, err, f.RelPath)
		if f.SizeBytes > 0 {
			require.Equal(t, f.SizeBytes, attrs.Size, f.RelPath)
		}
	}
	return true
}

func TestUploadFailingAnywhereLeavesNoVisibleBlockAndCleansUp(t *testing.T) {
	t.Parallel()
	dir, m := makeBlock(t)
	boom := errors.New("boom")
	for n := int64(1); ; n++ {
		inner := objstore.NewInMemBucket()
		var calls atomic.Int64
		bkt := &blocktest.Hooked{Bucket: inner, Hook: func(blocktest.Call) error {
			if calls.Add(1) == n {
				return boom
			}
			return nil
		}, Cut: 10}
		_, err := block.Upload(t.Context(), nil, bkt, dir, block.UploadOptions{})
		if err == nil {
			require.GreaterOrEqual(t, n, int64(7), "all calls were made to fail")
			return
		}
		require.ErrorIs(t, err, boom)
		require.ErrorContains(t, err, m.ULID.String())
		require.Empty(t, inner.Objects(), "call %d failed", n)

		_, err = block.Upload(t.Context(), nil, inner, dir, block.UploadOptions{})
		require.NoError(t, err)
	}
}

func TestUploadCancelledAnywhereLeavesNoMeta(t *testing.T) {
	t.Parallel()
	dir, m := makeBlock(t)
	for n := int64(1); n <= 7; n++ {
		inner := objstore.NewInMemBucket()
		ctx, cancel := context.WithCancel(t.Context())
		var calls atomic.Int64
		bkt := &blocktest.Hooked{Bucket: inner, Hook: func(blocktest.Call) error {
			if calls.Add(1) == n {
				cancel()
			}
			return nil
		}}
		_, err := block.Upload(ctx, nil, bkt, dir, block.UploadOptions{})
		visible := noVisibleLie(t, inner, m)
		if err != nil {
			require.ErrorIs(t, err, context.Canceled, "call %d", n)
			require.False(t, visible, "call %d", n)
			require.Empty(t, inner.Objects())
		} else {
			require.True(t, visible)
		}
		cancel()
	}
}

func TestKilledUploadIsTakenUpAgain(t *testing.T) {
	t.Parallel()
	dir, m := makeBlock(t)
	for n := int64(1); ; n++ {
		inner, err := filesystem.NewBucket(t.TempDir())
		require.NoError(t, err)
		bkt := &blocktest.Hooked{Bucket: inner, Hook: blocktest.KillAt(n), Cut: 100}
		_, err = block.Upload(t.Context(), nil, bkt, dir, block.UploadOptions{})
		if err == nil {
			require.Greater(t, n, int64(7))
			return
		}
		require.ErrorIs(t, err, blocktest.ErrKilled)
		// The size check of meta.json comes after the block is whole.
		if noVisibleLie(t, inner, m) {
			continue
		}
		_, err = block.Upload(t.Context(), nil, inner, dir, block.UploadOptions{})
		require.NoError(t, err)
		require.True(t, noVisibleLie(t, inner, m))
	}
}

func TestUploadVerifiesSizes(t *testing.T) {
	t.Parallel()
	for _, rel := range []string{"chunks/000001", "index", "meta.json"} {
		dir, m := makeBlock(t)
		inner := objstore.NewInMemBucket()
		_, err := block.Upload(t.Context(), nil, &liar{Bucket: inner, about: rel}, dir, block.UploadOptions{})
		require.ErrorIs(t, err, block.ErrVerify)
		require.ErrorContains(t, err, rel)
		require.False(t, noVisibleLie(t, inner, m))
		require.Empty(t, inner.Objects())
	}
}

// liar reports one byte less for one object.
type liar struct {
	objstore.Bucket
	about string
}

func (l *liar) Attributes(ctx context.Context, name string) (objstore.ObjectAttributes, error) {
	a, err := l.Bucket.Attributes(ctx, name)
	if strings.HasSuffix(name, l.about) {
		a.Size--
	}
	return a, err
}

func TestMetaThatCannotBeRemovedKeepsItsData(t *testing.T) {
	t.Parallel()
	dir, m := makeBlock(t)
	inner := objstore.NewInMemBucket()
	bkt := &blocktest.Hooked{Bucket: &liar{Bucket: inner, about: block.MetaFilename}, Hook: func(c blocktest.Call) error {
		if c.Op == objstore.OpDelete && strings.HasSuffix(c.Name, block.MetaFilename) {
			return errors.New("denied")
		}
		return nil
	}}
	_, err := block.Upload(t.Context(), nil, bkt, dir, block.UploadOptions{})
	require.ErrorIs(t, err, block.ErrVerify)
	require.True(t, noVisibleLie(t, inner, m))
}

func TestBrokenLocalBlocksAreNotUploaded(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		breakIt func(t *testing.T, dir string)
		want    error
		says    string
	}{
		"missing index": {func(t *testing.T, dir string) {
			require.NoError(t, os.Remove(filepath.Join(dir, "index")))
		}, block.ErrCorrupt, "index"},
		"truncated index": {func(t *testing.T, dir string) {
			require.NoError(t, os.Truncate(filepath.Join(dir, "index"), 200))
		}, block.ErrCorrupt, "damaged index"},
		"index cut to nothing": {func(t *testing.T, dir string) {
			require.NoError(t, os.Truncate(filepath.Join(dir, "index"), 3))
		}, block.ErrCorrupt, "truncated index of 3 bytes"},
		"flipped bit in a series": {func(t *testing.T, dir string) { flip(t, filepath.Join(dir, "index")) }, block.ErrCorrupt, "series at"},
		"missing segment": {func(t *testing.T, dir string) {
			require.NoError(t, os.Remove(filepath.Join(dir, "chunks", "000001")))
		}, block.ErrCorrupt, "chunk segment 000001 is missing"},
		"missing chunks folder": {func(t *testing.T, dir string) {
			require.NoError(t, os.RemoveAll(filepath.Join(dir, "chunks")))
		}, block.ErrCorrupt, "chunks"},
		"gap in segments": {func(t *testing.T, dir string) {
			require.NoError(t, os.Rename(filepath.Join(dir, "chunks", "000001"), filepath.Join(dir, "chunks", "000002")))
		}, block.ErrCorrupt, "chunk segment 000001 is missing"},
		"truncated segment": {func(t *testing.T, dir string) {
			require.NoError(t, os.Truncate(filepath.Join(dir, "chunks", "000001"), 20))
		}, block.ErrCorrupt, "which has 20 bytes"},
		"empty segment": {func(t *testing.T, dir string) {
			require.NoError(t, os.Truncate(filepath.Join(dir, "chunks", "000001"), 0))
		}, block.ErrCorrupt, "cut off after 0 bytes"},
		"no meta": {func(t *testing.T, dir string) {
			require.NoError(t, os.Remove(filepath.Join(dir, "meta.json")))
		}, block.ErrMetaNotFound, "no meta.json"},
		"no labels": {func(t *testing.T, dir string) {
			m, err := block.ReadMetaDir(dir)
			require.NoError(t, err)
			m.Thanos.Labels = nil
			require.NoError(t, block.WriteMetaDir(dir, m))
		}, block.ErrNoLabels, "no external labels"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, m := makeBlock(t)
			tc.breakIt(t, dir)
			bkt := &blocktest.Hooked{Bucket: objstore.NewInMemBucket()}
			_, err := block.Upload(t.Context(), nil, bkt, dir, block.UploadOptions{})
			require.ErrorIs(t, err, tc.want)
			require.ErrorContains(t, err, tc.says)
			require.ErrorContains(t, err, m.ULID.String())
			require.Empty(t, uploads(bkt.Calls()))
		})
	}
}

// flip damages a byte in the middle of the series section of an index.
func flip(t *testing.T, name string) {
	t.Helper()
	b, err := os.ReadFile(name)
	require.NoError(t, err)
	toc := b[len(b)-52:]
	begin := int(uint64(toc[8])<<56 | uint64(toc[14])<<8 | uint64(toc[15]))
	b[(begin+15)/16*16+5] ^= 1
	require.NoError(t, os.WriteFile(name, b, 0o644))
}

func TestIndexStatsMatchTheRecordedOnes(t *testing.T) {
	t.Parallel()
	dir := blocktest.RecordedAfter(t)
	metas, err := filepath.Glob(filepath.Join(dir, "*", block.MetaFilename))
	require.NoError(t, err)
	require.NotEmpty(t, metas)
	for _, f := range metas {
		m, err := block.ReadMetaDir(filepath.Dir(f))
		require.NoError(t, err)
		got, err := block.ReadIndexStats(filepath.Dir(f))
		require.NoError(t, err)
		// Ours count the last series and the last chunk of each series too, so they may be larger.
		require.GreaterOrEqual(t, got.SeriesMaxSize, m.Thanos.IndexStats.SeriesMaxSize, m)
		require.Less(t, got.SeriesMaxSize, 2*m.Thanos.IndexStats.SeriesMaxSize+1, m)
		require.GreaterOrEqual(t, got.ChunkMaxSize, m.Thanos.IndexStats.ChunkMaxSize, m)
		require.Less(t, got.ChunkMaxSize, int64(20000), m)
	}
}

func TestIndexStatsOfAKnownBlock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	long := strings.Repeat("x", 300)
	m := blocktest.Create(t, dir, blocktest.Spec{Floats: 1, Series: []labels.Labels{labels.FromStrings("__name__", "m", "l", long)}, Interval: 15 * time.Second})
	got, err := block.ReadIndexStats(filepath.Join(dir, m.ULID.String()))
	require.NoError(t, err)
	require.Zero(t, got.SeriesMaxSize%16)
	st, err := os.Stat(filepath.Join(dir, m.ULID.String(), "chunks", "000001"))
	require.NoError(t, err)
	require.Less(t, got.ChunkMaxSize, st.Size()-8)
	require.Greater(t, got.ChunkMaxSize*int64(m.Stats.NumChunks), st.Size()-8-1, "the largest is at least the mean")
}

func FuzzReadIndexStats(f *testing.F) {
	dir, _ := makeBlock(f)
	good, err := os.ReadFile(filepath.Join(dir, "index"))
	require.NoError(f, err)
	f.Add(good, 0, byte(0))
	f.Add(good, 700, byte(0xff))
	f.Fuzz(func(t *testing.T, index []byte, at int, mask byte) {
		if len(index) > 0 {
			index = append([]byte(nil), index...)
			index[(at%len(index)+len(index))%len(index)] ^= mask
		}
		work := t.TempDir()
		require.NoError(t, os.CopyFS(work, os.DirFS(dir)))
		require.NoError(t, os.Remove(filepath.Join(work, "index")))
		require.NoError(t, os.WriteFile(filepath.Join(work, "index"), index, 0o644))
		if _, err := block.ReadIndexStats(work); err != nil {
			require.ErrorIs(t, err, block.ErrCorrupt)
		}
	})
}

func BenchmarkReadIndexStats(b *testing.B) {
	dir := b.TempDir()
	m := blocktest.Create(b, dir, blocktest.Spec{Floats: 20000, Interval: 20 * time.Minute})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := block.ReadIndexStats(filepath.Join(dir, m.ULID.String())); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(m.Stats.NumSeries), "series")
}

func Example() {
	bkt := objstore.NewInMemBucket()
	id, _ := block.ParseID("01M83WSTYAPSSY2NT7K45FA41G")
	_, err := block.FetchMeta(context.Background(), bkt, id)
	fmt.Println(err, errors.Is(err, block.ErrMetaNotFound))
	// Output: read meta.json of block 01M83WSTYAPSSY2NT7K45FA41G: no meta.json true
}
