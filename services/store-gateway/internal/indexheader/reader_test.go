package indexheader_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/index"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/blocktest"
	"github.com/promontory-io/promontory/libs/objstore"
	"github.com/promontory-io/promontory/libs/objstore/faults"
	"github.com/promontory-io/promontory/services/store-gateway/internal/indexheader"
	"github.com/promontory-io/promontory/services/store-gateway/internal/rangeread"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/baidubce/bce-sdk-go/util/log.NewLogger.func1"))
}

// manyValues makes a block with labels of one, some and many values.
func manyValues(t testing.TB) (bkt objstore.Bucket, name string, ix *index.Reader) {
	t.Helper()
	var series []labels.Labels
	for i := range 300 {
		series = append(series, labels.FromStrings("__name__", fmt.Sprintf("m%d", i%3), "id", fmt.Sprintf("%04d", i*7%1000), "wide", fmt.Sprint("v", i%40), "ünï", "çödé"))
	}
	series = append(series, labels.FromStrings("__name__", "lonely"), labels.FromStrings("zz", "last"))
	dir := t.TempDir()
	meta := blocktest.Create(t, dir, blocktest.Spec{Series: series, Interval: time.Hour})
	mem := objstore.NewInMemBucket()
	blockDir := filepath.Join(dir, meta.ULID.String())
	blocktest.UploadDir(t, mem, blockDir)
	ix, err := index.NewFileReader(filepath.Join(blockDir, block.IndexFilename), index.DecodePostingsRaw)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, ix.Close()) })
	return mem, block.ObjectName(meta.ULID, block.IndexFilename), ix
}

func TestReaderAnswersAsTheIndexItself(t *testing.T) {
	t.Parallel()
	bkt, name, ix := manyValues(t)
	header, err := indexheader.BuildBytes(t.Context(), rangeread.New(bkt, rangeread.DefaultConfig()), indexheader.Index{Name: name})
	require.NoError(t, err)
	ranges, err := ix.PostingsRanges()
	require.NoError(t, err)
	for _, sampling := range []int{1, 2, 3, 32, 1000} {
		t.Run(fmt.Sprint("sampling ", sampling), func(t *testing.T) {
			t.Parallel()
			r, err := indexheader.OpenBytes(header, sampling)
			require.NoError(t, err)
			checkAgainst(t, r, ix, ranges)
		})
	}
}

func checkAgainst(t *testing.T, r *indexheader.Reader, ix *index.Reader, ranges map[labels.Label]index.Range) {
	t.Helper()
	ctx := context.Background()
	names, err := ix.LabelNames(ctx)
	require.NoError(t, err)
	slices.Sort(names)
	require.Equal(t, names, r.LabelNames())
	for _, n := range names {
		require.True(t, r.HasLabel(n))
		want, err := ix.SortedLabelValues(ctx, n, nil)
		require.NoError(t, err)
		require.Equal(t, len(want), r.CountValues(n))
		var got []string
		require.NoError(t, r.Values(n, "", func(v string, rng indexheader.Range) bool {
			got = append(got, string([]byte(v)))
			// Our range begins with the length that theirs leaves out, and may end with padding.
			exact := ranges[labels.Label{Name: n, Value: v}]
			require.Equal(t, exact.Start-4, rng.Start, "%s=%s", n, v)
			require.GreaterOrEqual(t, rng.End, exact.End+4)
			require.Less(t, rng.End, exact.End+12)
			return true
		}))
		require.Equal(t, want, got)
		for _, v := range want {
			rng, ok, err := r.Postings(n, v)
			require.NoError(t, err)
			require.True(t, ok, "%s=%s", n, v)
			require.Equal(t, ranges[labels.Label{Name: n, Value: v}].Start-4, rng.Start)
			_, ok, err = r.Postings(n, v+"\x00")
			require.NoError(t, err)
			require.False(t, ok)
		}
		for _, v := range []string{"", "0", "zzzz", "v1x"} {
			_, ok, err := r.Postings(n, v)
			require.NoError(t, err)
			require.False(t, ok)
		}
	}
	var got []string
	require.NoError(t, r.Values("id", "03", func(v string, _ indexheader.Range) bool {
		got = append(got, string([]byte(v)))
		return len(got) < 3
	}))
	all, err := ix.SortedLabelValues(ctx, "id", nil)
	require.NoError(t, err)
	i, _ := slices.BinarySearch(all, "03")
	require.Equal(t, all[i:i+3], got, "values from a prefix on, until told to stop")
	_, ok, err := r.Postings("", "")
	require.NoError(t, err)
	require.True(t, ok, "all series")
	_, ok, err = r.Postings("nothing", "x")
	require.NoError(t, err)
	require.False(t, ok)
	require.False(t, r.HasLabel("nothing"))
	require.False(t, r.HasLabel(""))

	symbols := r.Symbols()
	it := ix.Symbols()
	for ref := uint32(0); it.Next(); ref++ {
		s, err := symbols.Lookup(ref)
		require.NoError(t, err)
		require.Equal(t, it.At(), s)
	}
	_, err = symbols.Lookup(1 << 30)
	require.ErrorIs(t, err, indexheader.ErrCorrupt)
}

// reversed returns a header whose table has its lines in the opposite order, as
// indexes of version 1 may, which did not sort them.
func reversed(t *testing.T, header []byte) []byte {
	t.Helper()
	foot := header[len(header)-20:]
	start := int(binary.BigEndian.Uint64(foot[8:]))
	n := int(binary.BigEndian.Uint32(header[start:]))
	content := header[start+4 : start+4+n]
	count := binary.BigEndian.Uint32(content)
	var entries [][]byte
	rest := content[4:]
	for range count {
		begin := rest
		_, k := binary.Uvarint(rest)
		rest = rest[k:]
		for range 2 {
			size, k := binary.Uvarint(rest)
			rest = rest[k+int(size):]
		}
		_, k = binary.Uvarint(rest)
		rest = rest[k:]
		entries = append(entries, begin[:len(begin)-len(rest)])
	}
	slices.Reverse(entries)
	out := slices.Clone(header)
	copy(out[start+8:], bytes.Join(entries, nil))
	binary.BigEndian.PutUint32(out[start+4+n:], crc32.Checksum(out[start+4:start+4+n], crc32.MakeTable(crc32.Castagnoli)))
	return out
}

func TestATableWithoutOrderIsReadAsAWhole(t *testing.T) {
	t.Parallel()
	bkt, name, ix := manyValues(t)
	header, err := indexheader.BuildBytes(t.Context(), rangeread.New(bkt, rangeread.DefaultConfig()), indexheader.Index{Name: name})
	require.NoError(t, err)
	r, err := indexheader.OpenBytes(reversed(t, header), 32)
	require.NoError(t, err)
	ranges, err := ix.PostingsRanges()
	require.NoError(t, err)
	checkAgainst(t, r, ix, ranges)
	n, err := r.LabelBytes("wide")
	require.NoError(t, err)
	sorted, err := indexheader.OpenBytes(header, 32)
	require.NoError(t, err)
	want, err := sorted.LabelBytes("wide")
	require.NoError(t, err)
	require.Equal(t, want, n)
}

func TestDamageIsNoticed(t *testing.T) {
	t.Parallel()
	bkt, name, _ := manyValues(t)
	header, err := indexheader.BuildBytes(t.Context(), rangeread.New(bkt, rangeread.DefaultConfig()), indexheader.Index{Name: name})
	require.NoError(t, err)
	for i := 0; i < len(header); i += 3 {
		b := slices.Clone(header)
		b[i] ^= 0xff
		if _, err := indexheader.OpenBytes(b, 32); err != nil {
			require.ErrorIs(t, err, indexheader.ErrCorrupt)
		} else {
			require.Equal(t, 5, i, "byte %d can change unnoticed", i)
		}
	}
	for i := range header {
		_, err := indexheader.OpenBytes(header[:i], 32)
		require.ErrorIs(t, err, indexheader.ErrCorrupt, "cut off at %d", i)
	}
}

func TestHandleMakesOpensAndMendsTheFile(t *testing.T) {
	t.Parallel()
	bkt, name, _ := manyValues(t)
	f, err := faults.Wrap(bkt, faults.Config{})
	require.NoError(t, err)
	dir := t.TempDir()
	newHandle := func(lazy bool) *indexheader.Handle {
		o := indexheader.NewOpener(rangeread.New(f, rangeread.DefaultConfig()), indexheader.Config{Dir: dir, Lazy: lazy, IdleTimeout: time.Nanosecond}, zap.NewNop(), indexheader.NewMetrics(nil))
		return o.Handle("block", indexheader.Index{Name: name})
	}
	use := func(h *indexheader.Handle) {
		t.Helper()
		r, release, err := h.Acquire(t.Context())
		require.NoError(t, err)
		require.NotEmpty(t, r.LabelNames())
		release()
	}
	h := newHandle(false)
	use(h)
	use(h)
	require.EqualValues(t, 1, f.Requests()[faults.GetRange], "it is small")
	require.EqualValues(t, 1, f.Requests()[faults.Attributes])
	h.Retire()

	f.Reset()
	h = newHandle(true)
	use(h)
	require.Empty(t, f.Requests()[faults.GetRange], "a file on disk is used")
	r, release, err := h.Acquire(t.Context())
	require.NoError(t, err)
	h.CloseIdle()
	_, _, err = r.Postings("wide", "v1")
	require.NoError(t, err, "a header in use stays open")
	release()
	h.CloseIdle()
	_, _, err = r.Postings("wide", "v1")
	require.ErrorIs(t, err, os.ErrClosed)
	use(h)
	h.Retire()

	file := filepath.Join(dir, "block", indexheader.Filename)
	require.NoError(t, os.WriteFile(file, []byte("something else"), 0o644))
	h = newHandle(false)
	use(h)
	require.NotEmpty(t, f.Requests()[faults.GetRange], "made anew")
	h.Retire()
}

func TestAHeaderCostsFewRequests(t *testing.T) {
	t.Parallel()
	numbered := func(n int) (series []labels.Labels) {
		for i := range n {
			series = append(series, labels.FromStrings("__name__", "m", "id", fmt.Sprintf("%06d", i)))
		}
		return series
	}
	for name, tc := range map[string]struct {
		series int
		ranges int64
	}{
		"a small index as a whole":                               {10, 1},
		"the end with the table, the beginning with the symbols": {2500, 2},
		"and the rest of the table":                              {10_000, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mem := objstore.NewInMemBucket()
			meta := blocktest.Upload(t, mem, blocktest.Spec{Series: numbered(tc.series), Interval: time.Hour})
			object := block.ObjectName(meta.ULID, block.IndexFilename)
			f, err := faults.Wrap(mem, faults.Config{})
			require.NoError(t, err)
			bkt := rangeread.New(f, rangeread.Config{})
			size, err := bkt.Size(t.Context(), object)
			require.NoError(t, err)
			var headers [][]byte
			for _, said := range []int64{size, 0} {
				f.Reset()
				b, err := indexheader.BuildBytes(t.Context(), bkt, indexheader.Index{Name: object, Size: said})
				require.NoError(t, err)
				headers = append(headers, b)
				require.Equal(t, tc.ranges, f.Requests()[faults.GetRange], "of %d bytes", size)
				require.Equal(t, map[bool]int64{true: 0, false: 1}[said > 0], f.Requests()[faults.Attributes])
				r, err := indexheader.OpenBytes(b, 32)
				require.NoError(t, err)
				_, ok, err := r.Postings("id", fmt.Sprintf("%06d", tc.series-1))
				require.NoError(t, err)
				require.True(t, ok)
			}
			require.True(t, bytes.Equal(headers[0], headers[1]))
		})
	}
}

func TestACancelledBuildLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	var series []labels.Labels
	for i := range 10_000 {
		series = append(series, labels.FromStrings("__name__", "m", "id", fmt.Sprintf("%06d", i)))
	}
	bkt := objstore.NewInMemBucket()
	meta := blocktest.Upload(t, bkt, blocktest.Spec{Series: series, Interval: time.Hour})
	name := block.ObjectName(meta.ULID, block.IndexFilename)
	for after := range int64(4) { // size, end, beginning, table
		f, err := faults.Wrap(bkt, faults.Config{Rules: []faults.Rule{{After: after, Error: faults.ErrorPlain}}})
		require.NoError(t, err)
		dir := t.TempDir()
		err = indexheader.BuildFile(t.Context(), rangeread.New(f, rangeread.Config{}), indexheader.Index{Name: name}, filepath.Join(dir, "b", "index-header"))
		require.ErrorIs(t, err, faults.ErrInjected)
		entries, err := os.ReadDir(filepath.Join(dir, "b"))
		require.NoError(t, err)
		require.Empty(t, entries)
	}
}

func FuzzOpen(f *testing.F) {
	files, err := filepath.Glob("testdata/01*")
	require.NoError(f, err)
	for _, name := range files[:2] {
		b, err := os.ReadFile(name)
		require.NoError(f, err)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := indexheader.OpenBytes(b, 2)
		if err != nil {
			if r, err = indexheader.OpenBytes(sealed(b), 2); err != nil {
				return
			}
		}
		for _, n := range r.LabelNames() {
			_ = r.Values(n, "", func(v string, _ indexheader.Range) bool {
				_, _, _ = r.Postings(n, v)
				return true
			})
			_, _ = r.LabelBytes(n)
		}
		s := r.Symbols()
		for ref := range uint32(100) {
			_, _ = s.Lookup(ref)
		}
	})
}

// sealed returns b with the checksums that its content should have, so that damage gets
// past them.
func sealed(b []byte) []byte {
	const footer, toc = 20, 52
	if len(b) < 14+toc+footer {
		return b
	}
	b = slices.Clone(b)
	table := crc32.MakeTable(crc32.Castagnoli)
	sum := func(from, to int) {
		if from >= 0 && from < to && to+4 <= len(b) {
			binary.BigEndian.PutUint32(b[to:], crc32.Checksum(b[from:to], table))
		}
	}
	start := binary.BigEndian.Uint64(b[len(b)-12:])
	if start < uint64(len(b)-4) {
		sum(int(start)+4, int(start)+4+int(binary.BigEndian.Uint32(b[start:])))
	}
	sum(18, 18+int(binary.BigEndian.Uint32(b[14:])))
	sum(len(b)-footer-toc, len(b)-footer-4)
	sum(len(b)-footer, len(b)-4)
	return b
}
