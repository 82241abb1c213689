package write_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"
	"github.com/thanos-io/objstore"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/blocktest"
	"github.com/promontory-io/promontory/libs/chunks"
	"github.com/promontory-io/promontory/services/compactor/internal/compacttest"
	"github.com/promontory-io/promontory/services/compactor/internal/merge"
	"github.com/promontory-io/promontory/services/compactor/internal/read"
	"github.com/promontory-io/promontory/services/compactor/internal/write"
)

func chunkOf(t *testing.T, from int64, n int) merge.Chunk {
	t.Helper()
	c := chunkenc.NewXORChunk()
	app, err := c.Appender()
	require.NoError(t, err)
	for i := range n {
		app.Append(from+int64(i)*1000, float64(i))
	}
	return merge.Chunk{MinTime: from, MaxTime: from + int64(n-1)*1000, Encoding: chunkenc.EncXOR, Bytes: c.Bytes(), Samples: n}
}

func newBlock(t *testing.T, bkt objstore.Bucket, o write.Options) *write.Block {
	t.Helper()
	m := &block.Meta{BlockMeta: tsdb.BlockMeta{ULID: blocktest.ID(time.UnixMilli(5e12), 1), MinTime: 0, MaxTime: 1e9, Version: 1}}
	m.Thanos.Labels = map[string]string{"cluster": "a"}
	m.Thanos.Source = block.SourceCompactor
	o.Dir, o.Read = t.TempDir(), read.Options{IndexBuffer: 64, ChunkBuffer: 64, Attempts: 1}
	b, err := write.New(t.Context(), zap.NewNop(), bkt, m, o)
	require.NoError(t, err)
	t.Cleanup(func() {
		left, err := os.ReadDir(o.Dir)
		require.NoError(t, err)
		require.Empty(t, left, "scratch is empty in the end")
	})
	return b
}

func fill(t *testing.T, b *write.Block) {
	t.Helper()
	require.NoError(t, b.Begin([]string{"__name__", "a", "b", "up"}))
	for _, v := range []string{"a", "b"} {
		var cs []merge.Chunk
		for i := range int64(20) {
			cs = append(cs, chunkOf(t, i*200_000, 120))
		}
		require.NoError(t, b.Add(labels.FromStrings("__name__", "up", "a", v), cs))
	}
}

func TestBlockIsReadByTheTSDBWhateverTheSizeOfItsSegments(t *testing.T) {
	t.Parallel()
	for _, size := range []int64{300, 2000, 0} {
		bkt := objstore.NewInMemBucket()
		b := newBlock(t, bkt, write.Options{SegmentBytes: size, Hash: block.HashSHA256})
		fill(t, b)
		require.NoError(t, b.Finish())
		exists, err := block.Exists(t.Context(), bkt, blocktest.ID(time.UnixMilli(5e12), 1))
		require.NoError(t, err)
		require.False(t, exists, "not visible before it is published")
		m, err := b.Publish(t.Context())
		require.NoError(t, err)

		require.EqualValues(t, 2, m.Stats.NumSeries)
		require.EqualValues(t, 40, m.Stats.NumChunks)
		require.EqualValues(t, 4800, m.Stats.NumSamples)
		require.Positive(t, m.Thanos.IndexStats.ChunkMaxSize)
		require.Zero(t, m.Thanos.IndexStats.SeriesMaxSize%16)
		require.Equal(t, size == 300, len(m.Thanos.SegmentFiles) > 20)
		require.Len(t, m.Thanos.Files, len(m.Thanos.SegmentFiles)+2)
		for _, f := range m.Thanos.Files {
			if f.RelPath == block.MetaFilename {
				continue
			}
			content := bkt.Objects()[block.ObjectName(m.ULID, f.RelPath)]
			sum := sha256.Sum256(content)
			require.Equal(t, hex.EncodeToString(sum[:]), f.Hash.Value, f.RelPath)
			require.EqualValues(t, len(content), f.SizeBytes)
		}
		for _, cs := range compacttest.Content(t, bkt, m) {
			require.Len(t, cs, 20)
			require.Len(t, compacttest.Points(t, cs, chunks.Raw), 2400)
		}
	}
}

// liar changes what it stores.
type liar struct {
	*objstore.InMemBucket
	name string
}

func (l *liar) Upload(ctx context.Context, name string, r io.Reader, opts ...objstore.ObjectUploadOption) error {
	if name == l.name {
		r = &flip{r: r}
	}
	return l.InMemBucket.Upload(ctx, name, r, opts...)
}

type flip struct {
	r    io.Reader
	done bool
}

func (f *flip) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if n > 100 && !f.done {
		p[100] ^= 1
		f.done = true
	}
	return n, err
}

func TestWhatTheBucketSpoilsIsNeverPublished(t *testing.T) {
	t.Parallel()
	for _, rel := range []string{"chunks/000001", "index"} {
		id := blocktest.ID(time.UnixMilli(5e12), 1)
		bkt := &liar{InMemBucket: objstore.NewInMemBucket(), name: block.ObjectName(id, rel)}
		b := newBlock(t, bkt, write.Options{})
		fill(t, b)
		require.ErrorIs(t, b.Finish(), write.ErrVerify)
		b.Discard()
		require.Empty(t, bkt.Objects(), "nothing stays")
	}
}

func TestDiscardedBlockLeavesNothing(t *testing.T) {
	t.Parallel()
	bkt := objstore.NewInMemBucket()
	b := newBlock(t, bkt, write.Options{SegmentBytes: 300})
	fill(t, b)
	b.Discard()
	require.Empty(t, bkt.Objects())
	newBlock(t, bkt, write.Options{}).Discard()
}
