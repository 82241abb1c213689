package bucket

import (
	"encoding/binary"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/blocktest"
	"github.com/promontory-io/promontory/libs/downsample"
)

// own gives a block a group of its own, so that it overlaps nothing.
func own(name string) func(*blocktest.Spec) {
	return func(s *blocktest.Spec) { s.ExternalLabels = labels.FromStrings("seeded", name) }
}

// fine makes four chunks a series, of half an hour each.
func fine(s *blocktest.Spec) { s.Interval = 15 * time.Second }

// addBroken uploads a block whose chunk lists and meta.json were changed; change may be nil.
func (b *testBucket) addBroken(n int64, name string, change func([]chunks.Meta) []chunks.Meta, meta func(*block.Meta)) *block.Meta {
	b.tb.Helper()
	from := blocktest.DefaultMinTime + 2*n*hour
	spec := blocktest.Spec{ID: blocktest.ID(time.UnixMilli(from+3*hour), uint64(1000+n)), MinTime: from, MaxTime: from + 2*hour, Floats: 3}
	fine(&spec)
	own(name)(&spec)
	dir := b.tb.TempDir()
	m := blocktest.Create(b.tb, dir, spec)
	made := filepath.Join(dir, m.ULID.String())
	if change != nil {
		m.Stats.NumChunks = rewriteChunks(b.tb, made, change)
	}
	if meta != nil {
		meta(m)
	}
	require.NoError(b.tb, block.WriteMetaDir(made, m))
	return blocktest.UploadDir(b.tb, b.Bucket, made)
}

// rewriteChunks writes index and chunks of a local block anew, each series with the chunks that change returns, and
// returns how many these are.
func rewriteChunks(tb testing.TB, dir string, change func([]chunks.Meta) []chunks.Meta) (n uint64) {
	tb.Helper()
	old := filepath.Join(tb.TempDir(), "old")
	require.NoError(tb, os.Rename(dir, old))
	require.NoError(tb, os.Mkdir(dir, 0o755))
	in, err := index.NewFileReader(filepath.Join(old, block.IndexFilename), index.DecodePostingsRaw)
	require.NoError(tb, err)
	data, err := chunks.NewDirReader(filepath.Join(old, block.ChunksDirname), downsample.NewPool())
	require.NoError(tb, err)
	outData, err := chunks.NewWriter(filepath.Join(dir, block.ChunksDirname))
	require.NoError(tb, err)
	out, err := index.NewWriter(tb.Context(), filepath.Join(dir, block.IndexFilename))
	require.NoError(tb, err)
	for s := in.Symbols(); s.Next(); {
		require.NoError(tb, out.AddSymbol(s.At()))
	}
	var all [][]chunks.Meta
	require.NoError(tb, eachSeries(tb.Context(), in, func(s indexed) error {
		lset, chks := s.lset, s.chunks
		for i := range chks {
			if chks[i].Chunk, _, err = data.ChunkOrIterable(chks[i]); err != nil {
				return err
			}
		}
		changed := change(chks)
		n += uint64(len(changed))
		if err := outData.WriteChunks(changed...); err != nil {
			return err
		}
		all = append(all, changed)
		return out.AddSeries(storage.SeriesRef(len(all)), lset, roomy(changed)...)
	}))
	// The writer keeps strings that lie in the file the reader has mapped, so it goes first.
	for _, c := range []io.Closer{out, outData, data, in} {
		require.NoError(tb, c.Close())
	}
	patchIndex(tb, filepath.Join(dir, block.IndexFilename), all)
	return n
}

// roomy gives chunks times that the index writer accepts and that take more bytes than any true ones.
func roomy(chks []chunks.Meta) []chunks.Meta {
	chks = slices.Clone(chks)
	for i := range chks {
		chks[i].MinTime = int64(i+1) << 59
		chks[i].MaxTime = chks[i].MinTime + 1<<57
	}
	return chks
}

// patchIndex replaces the chunk lists of all series, in their place: the index writer refuses to write wrong ones.
//
// Format: Prometheus TSDB index v2, tsdb/docs/format/index.md.
func patchIndex(tb testing.TB, path string, all [][]chunks.Meta) {
	tb.Helper()
	content, err := os.ReadFile(path)
	require.NoError(tb, err)
	r, err := index.NewFileReader(path, index.DecodePostingsRaw)
	require.NoError(tb, err)
	name, value := index.AllPostingsKey()
	postings, err := r.Postings(tb.Context(), name, value)
	require.NoError(tb, err)
	for _, chks := range all {
		require.True(tb, postings.Next())
		entry := content[16*int(postings.At()):]
		length, skip := binary.Uvarint(entry)
		body := entry[skip : skip+int(length)]
		pairs, at := binary.Uvarint(body)
		for range 2 * pairs {
			_, size := binary.Uvarint(body[at:])
			at += size
		}
		patched := binary.AppendUvarint(slices.Clone(body[:at]), uint64(len(chks)))
		for i, c := range chks {
			if i == 0 {
				patched = binary.AppendVarint(patched, c.MinTime)
				patched = binary.AppendUvarint(patched, uint64(c.MaxTime-c.MinTime))
				patched = binary.AppendUvarint(patched, uint64(c.Ref))
				continue
			}
			patched = binary.AppendUvarint(patched, uint64(c.MinTime-chks[i-1].MaxTime))
			patched = binary.AppendUvarint(patched, uint64(c.MaxTime-c.MinTime))
			patched = binary.AppendVarint(patched, int64(c.Ref)-int64(chks[i-1].Ref))
		}
		whole := append(binary.AppendUvarint(nil, uint64(len(patched))), patched...)
		whole = binary.BigEndian.AppendUint32(whole, crc32.Checksum(patched, crc32.MakeTable(crc32.Castagnoli)))
		room := entry[:skip+int(length)+crc32.Size]
		require.LessOrEqual(tb, len(whole), len(room))
		clear(room)
		copy(room, whole)
	}
	require.NoError(tb, r.Close())
	require.NoError(tb, os.WriteFile(path, content, 0o600))
}

// samplesOf returns every sample of a block in a bucket, as text by series.
func (b *testBucket) samplesOf(id ulid.ULID) map[string][]string {
	b.tb.Helper()
	out := map[string][]string{}
	in, err := index.NewFileReader(b.path(id, block.IndexFilename), index.DecodePostingsRaw)
	require.NoError(b.tb, err)
	data, err := chunks.NewDirReader(b.path(id, block.ChunksDirname), downsample.NewPool())
	require.NoError(b.tb, err)
	require.NoError(b.tb, eachSeries(b.tb.Context(), in, func(s indexed) error {
		lset, chks := s.lset, s.chunks
		for _, c := range chks {
			chunk, _, err := data.ChunkOrIterable(c)
			if err != nil {
				return err
			}
			it := chunk.Iterator(nil)
			for it.Next() != 0 {
				t, v := it.At()
				out[lset.String()] = append(out[lset.String()], strconv.FormatInt(t, 10)+" "+strconv.FormatFloat(v, 'g', -1, 64))
			}
			if it.Err() != nil {
				return it.Err()
			}
		}
		return nil
	}))
	require.NoError(b.tb, in.Close())
	require.NoError(b.tb, data.Close())
	return out
}

func twice(chks []chunks.Meta) []chunks.Meta {
	return append([]chunks.Meta{chks[0], chks[0]}, chks[1:]...)
}

func swapped(chks []chunks.Meta) []chunks.Meta {
	return append([]chunks.Meta{chks[1], chks[0]}, chks[2:]...)
}

// impostor has a second chunk over the first one's time, with the samples of another.
func impostor(chks []chunks.Meta) []chunks.Meta {
	second := chks[1]
	second.MinTime, second.MaxTime = chks[0].MinTime, chks[0].MaxTime
	return append([]chunks.Meta{chks[0], second}, chks[1:]...)
}
