package read

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/thanos-io/objstore"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/blocktest"
	"github.com/promontory-io/promontory/libs/objstore/faults"
)

// all reads a block to its end.
func all(ctx context.Context, bkt objstore.Bucket, m *block.Meta, o Options) (series, chks, bytes int, err error) {
	src, err := Open(ctx, bkt, m, o)
	if err != nil {
		return 0, 0, 0, err
	}
	defer src.Close()
	if err := src.Symbols(ctx, func(uint32, string) error { return nil }); err != nil {
		return 0, 0, 0, err
	}
	var s Series
	for {
		err := src.Next(ctx, &s)
		if errors.Is(err, io.EOF) {
			return series, chks, bytes, nil
		}
		if err != nil {
			return series, chks, bytes, err
		}
		series++
		for _, c := range s.Chunks {
			d, err := src.Chunk(ctx, c.Ref)
			if err != nil {
				return series, chks, bytes, err
			}
			chks++
			bytes += len(d.Bytes)
		}
	}
}

func TestWholeBlockIsReadWithAnyBuffer(t *testing.T) {
	t.Parallel()
	bkt := objstore.NewInMemBucket()
	m := blocktest.Upload(t, bkt, blocktest.Spec{Floats: 50, Histograms: 5, Interval: 20 * time.Second})
	_, _, want, err := all(t.Context(), bkt, m, DefaultOptions())
	require.NoError(t, err)
	for _, n := range []int{1, 7, 64, 1000, 1 << 20} {
		series, chks, size, err := all(t.Context(), bkt, m, Options{IndexBuffer: n, ChunkBuffer: n, Attempts: 1})
		require.NoError(t, err, "buffer %d", n)
		require.EqualValues(t, m.Stats.NumSeries, series)
		require.EqualValues(t, m.Stats.NumChunks, chks)
		require.Equal(t, want, size)
	}
}

func TestRequestsFollowTheSizeOfBuffersNotTheNumberOfChunks(t *testing.T) {
	t.Parallel()
	mem := objstore.NewInMemBucket()
	m := blocktest.Upload(t, mem, blocktest.Spec{Floats: 300, Interval: 15 * time.Second})
	bkt, err := faults.Wrap(mem, faults.Config{})
	require.NoError(t, err)
	_, _, _, err = all(t.Context(), bkt, m, DefaultOptions())
	require.NoError(t, err)
	require.Less(t, bkt.Requests().Total(), int64(12), bkt.Requests().String())
}

func TestFailingReadsAreRepeated(t *testing.T) {
	t.Parallel()
	mem := objstore.NewInMemBucket()
	m := blocktest.Upload(t, mem, blocktest.Spec{Floats: 50})
	cut := int64(10)
	bkt, err := faults.Wrap(mem, faults.Config{Seed: 3, Rules: []faults.Rule{
		{Operations: []string{faults.GetRange}, Share: 0.3, Error: faults.ErrorPlain},
		{Operations: []string{faults.GetRange}, Share: 0.2, BreakAfter: &cut},
		{Operations: []string{faults.GetRange}, ShortReads: 3},
	}})
	require.NoError(t, err)
	series, _, _, err := all(t.Context(), bkt, m, Options{IndexBuffer: 100, ChunkBuffer: 500, Attempts: 15, Backoff: time.Microsecond})
	require.NoError(t, err)
	require.Equal(t, 50, series)
}

func TestChecksumThatIsWrongOnceIsReadAgain(t *testing.T) {
	t.Parallel()
	mem := objstore.NewInMemBucket()
	m := blocktest.Upload(t, mem, blocktest.Spec{Floats: 5})
	bkt := &flippingBucket{Bucket: mem}
	src, err := Open(t.Context(), bkt, m, DefaultOptions())
	require.NoError(t, err)
	defer src.Close()
	require.NoError(t, src.Symbols(t.Context(), func(uint32, string) error { return nil }))
	var s Series
	require.NoError(t, src.Next(t.Context(), &s))
	bkt.flip = true
	_, err = src.Chunk(t.Context(), s.Chunks[0].Ref)
	require.NoError(t, err)
	require.Equal(t, 1, src.Rereads())
}

// flippingBucket changes a bit of the next large range it reads.
type flippingBucket struct {
	objstore.Bucket
	flip bool
}

func (b *flippingBucket) GetRange(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	rc, err := b.Bucket.GetRange(ctx, name, off, n)
	if err != nil || !b.flip {
		return rc, err
	}
	b.flip = false
	content, err := io.ReadAll(rc)
	if err != nil {
		return nil, err
	}
	content[20] ^= 1
	return io.NopCloser(bytes.NewReader(content)), rc.Close()
}

func TestMissingPiecesAreNamed(t *testing.T) {
	t.Parallel()
	for _, rel := range []string{"index", "chunks/000001"} {
		bkt := objstore.NewInMemBucket()
		m := blocktest.Upload(t, bkt, blocktest.Spec{Floats: 5})
		require.NoError(t, bkt.Delete(t.Context(), block.ObjectName(m.ULID, rel)))
		_, _, _, err := all(t.Context(), bkt, m, DefaultOptions())
		c, ok := AsCorrupt(err)
		require.True(t, ok, "%v", err)
		require.Equal(t, rel, c.Object)
		require.ErrorIs(t, err, ErrMissing)
		require.ErrorIs(t, err, block.ErrCorrupt)
		require.Contains(t, err.Error(), m.ULID.String())
	}
}

func TestResyncFindsTheNextReadableSeries(t *testing.T) {
	t.Parallel()
	bkt := objstore.NewInMemBucket()
	m := blocktest.Upload(t, bkt, blocktest.Spec{Floats: 20})
	name := block.ObjectName(m.ULID, block.IndexFilename)
	src, err := Open(t.Context(), bkt, m, DefaultOptions())
	require.NoError(t, err)
	begin := src.pos
	src.Close()
	content := slices.Clone(bkt.Objects()[name])
	for i := range 20 {
		content[(begin+15)/16*16+int64(i)] = 0xff
	}
	require.NoError(t, bkt.Upload(t.Context(), name, bytes.NewReader(content)))
	src, err = OpenDamaged(t.Context(), bkt, m, DefaultOptions())
	require.NoError(t, err)
	defer src.Close()
	require.NoError(t, src.Symbols(t.Context(), func(uint32, string) error { return nil }))
	var s Series
	err = src.Next(t.Context(), &s)
	require.ErrorIs(t, err, block.ErrCorrupt)
	skipped, err := src.Resync(t.Context())
	require.NoError(t, err)
	require.Positive(t, skipped)
	n := 0
	for src.Next(t.Context(), &s) == nil {
		n++
	}
	require.Equal(t, 19, n)
}

// FuzzSource reads a block whose index and chunks are arbitrary: it may fail, and must do so
// with an error.
func FuzzSource(f *testing.F) {
	bkt := objstore.NewInMemBucket()
	dir := f.TempDir()
	m, err := blocktest.Write(dir, blocktest.Spec{Floats: 2, Histograms: 1, Interval: 10 * time.Minute})
	require.NoError(f, err)
	m, err = block.Upload(context.Background(), nil, bkt, dir+"/"+m.ULID.String(), block.UploadOptions{})
	require.NoError(f, err)
	objects := bkt.Objects()
	f.Add(objects[block.ObjectName(m.ULID, block.IndexFilename)], objects[block.ObjectName(m.ULID, "chunks/000001")])
	f.Add([]byte{}, []byte{})
	f.Add(objects[block.ObjectName(m.ULID, block.IndexFilename)], []byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, index, segment []byte) {
		bkt := objstore.NewInMemBucket()
		require.NoError(t, bkt.Upload(t.Context(), block.ObjectName(m.ULID, block.IndexFilename), bytes.NewReader(index)))
		require.NoError(t, bkt.Upload(t.Context(), block.ObjectName(m.ULID, "chunks/000001"), bytes.NewReader(segment)))
		meta := m.Clone()
		meta.Thanos.Files = nil
		_, _, _, _ = all(t.Context(), bkt, meta, Options{IndexBuffer: 64, ChunkBuffer: 64, Attempts: 1})
		src, err := OpenDamaged(t.Context(), bkt, meta, Options{IndexBuffer: 64, ChunkBuffer: 64, Attempts: 1})
		if err != nil {
			return
		}
		defer src.Close()
		if src.Symbols(t.Context(), func(uint32, string) error { return nil }) != nil {
			return
		}
		var s Series
		for range len(index) + 10 {
			err := src.Next(t.Context(), &s)
			if errors.Is(err, io.EOF) {
				return
			}
			if err == nil {
				for _, c := range s.Chunks {
					_, _ = src.Chunk(t.Context(), c.Ref)
				}
				continue
			}
			if _, err := src.Resync(t.Context()); err != nil {
				return
			}
		}
		t.Fatal("does not end")
	})
}
