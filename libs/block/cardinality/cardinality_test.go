package cardinality

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/index"
	"github.com/stretchr/testify/require"
	"github.com/thanos-io/objstore"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/blocktest"
)

func manySeries() []labels.Labels {
	var out []labels.Labels
	for i := range 300 {
		out = append(out, labels.FromStrings("__name__", fmt.Sprintf("m%d", i%7), "pod", fmt.Sprintf("pod-%d", i), "job", fmt.Sprintf("job-%d", i%3)))
	}
	return out
}

// truth counts with Prometheus' own reader.
func truth(t *testing.T, file string) (series uint64, byPair map[string]uint64) {
	t.Helper()
	r, err := index.NewFileReader(file, index.DecodePostingsRaw)
	require.NoError(t, err)
	defer func() { require.NoError(t, r.Close()) }()
	count := func(name, value string) uint64 {
		p, err := r.Postings(context.Background(), name, value)
		require.NoError(t, err)
		n := uint64(0)
		for p.Next() {
			n++
		}
		require.NoError(t, p.Err())
		return n
	}
	byPair = map[string]uint64{}
	names, err := r.LabelNames(context.Background())
	require.NoError(t, err)
	for _, name := range names {
		values, err := r.SortedLabelValues(context.Background(), name, nil)
		require.NoError(t, err)
		for _, v := range values {
			byPair[name+"="+v] = count(name, v)
		}
	}
	return count(index.AllPostingsKey()), byPair
}

func TestFiguresAreThoseOfTheIndex(t *testing.T) {
	t.Parallel()
	bkt := objstore.NewInMemBucket()
	dir := t.TempDir()
	meta := blocktest.Create(t, dir, blocktest.Spec{Series: manySeries(), ExternalLabels: labels.FromStrings("cluster", "x")})
	blocktest.UploadDir(t, bkt, filepath.Join(dir, meta.ULID.String()))
	series, pairs := truth(t, filepath.Join(dir, meta.ULID.String(), block.IndexFilename))

	r, err := Read(t.Context(), bkt, meta.ULID, 1000)
	require.NoError(t, err)
	require.Equal(t, series, r.Series)
	require.Equal(t, uint64(len(pairs)), r.LabelPairs)
	got := map[string]uint64{}
	for _, f := range r.Metrics {
		got["__name__="+f.Name] = f.Value
	}
	for _, f := range r.Pairs {
		got[f.Name] = f.Value
	}
	require.Equal(t, pairs, got)
	require.Equal(t, Label{Name: "pod", Values: 300, Series: 300}, r.Labels[0])
	require.True(t, slices.IsSortedFunc(r.Metrics, func(a, b Figure) int { return cmp.Compare(b.Value, a.Value) }))

	few, err := Read(t.Context(), bkt, meta.ULID, 2)
	require.NoError(t, err)
	require.Equal(t, r.Metrics[:2], few.Metrics)
	require.Len(t, few.Pairs, 2)
	require.Equal(t, uint64(100), few.Pairs[0].Value)
	require.Equal(t, r.Series, few.Series)
}

func TestOnlyTheTablesAreRead(t *testing.T) {
	t.Parallel()
	bkt := objstore.NewInMemBucket()
	meta := blocktest.Upload(t, bkt, blocktest.Spec{Series: manySeries(), ExternalLabels: labels.FromStrings("cluster", "x")})
	size, err := bkt.Attributes(t.Context(), block.ObjectName(meta.ULID, block.IndexFilename))
	require.NoError(t, err)
	r, err := Read(t.Context(), bkt, meta.ULID, 10)
	require.NoError(t, err)
	require.Less(t, r.ReadBytes, size.Size/3)
}

func TestABrokenIndexIsCorruptAndNotFatal(t *testing.T) {
	t.Parallel()
	whole := objstore.NewInMemBucket()
	meta := blocktest.Upload(t, whole, blocktest.Spec{Series: manySeries(), ExternalLabels: labels.FromStrings("cluster", "x")})
	name := block.ObjectName(meta.ULID, block.IndexFilename)
	good := whole.Objects()[name]
	toc, err := index.NewTOCFromByteSlice(wholeIndex(good))
	require.NoError(t, err)
	flip := func(at int) []byte {
		b := bytes.Clone(good)
		b[at] ^= 0x55
		return b
	}
	for what, content := range map[string][]byte{
		"empty":                     {},
		"table of contents cut off": good[:len(good)-10],
		"table of contents changed": flip(len(good) - 20),
		"length changed":            flip(int(toc.PostingsTable)),
		"number changed":            flip(int(toc.PostingsTable) + 7),
		"an entry changed":          flip(int(toc.PostingsTable) + 20),
		"a late entry changed":      flip(len(good) - 80),
		"checksum changed":          flip(len(good) - tocLen - 2),
	} {
		bkt := objstore.NewInMemBucket()
		require.NoError(t, bkt.Upload(t.Context(), name, bytes.NewReader(content)))
		_, err := Read(t.Context(), bkt, meta.ULID, 10)
		require.ErrorIs(t, err, block.ErrCorrupt, what)
	}
	_, err = Read(t.Context(), objstore.NewInMemBucket(), meta.ULID, 10)
	require.Error(t, err)
	require.NotErrorIs(t, err, block.ErrCorrupt)
}

// wholeIndex presents an index to the parser of its table of contents.
type wholeIndex []byte

func (b wholeIndex) Len() int                    { return len(b) }
func (b wholeIndex) Range(start, end int) []byte { return b[start:end] }

// FuzzScan reads tables of any content: they give a report or an error, whatever they claim of themselves.
func FuzzScan(f *testing.F) {
	dir := f.TempDir()
	meta := blocktest.Create(f, dir, blocktest.Spec{Series: manySeries()[:20], ExternalLabels: labels.FromStrings("cluster", "x")})
	b, err := os.ReadFile(filepath.Join(dir, meta.ULID.String(), block.IndexFilename))
	require.NoError(f, err)
	toc, err := index.NewTOCFromByteSlice(wholeIndex(b))
	require.NoError(f, err)
	f.Add(b[toc.PostingsTable:], listsEnd(toc))
	f.Add([]byte{0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0}, uint64(0))
	f.Add(binary.BigEndian.AppendUint32(nil, 1<<31), uint64(1))
	f.Fuzz(func(t *testing.T, table []byte, end uint64) {
		r, err := scan(bytes.NewReader(table), end, 5)
		if err == nil {
			require.LessOrEqual(t, len(r.Metrics), 5)
			require.LessOrEqual(t, r.ReadBytes, int64(len(table)))
		}
	})
}
