package blocktest_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"
	"github.com/thanos-io/objstore"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/blocktest"
)

func TestEverySampleOfAMadeBlockCanBeComputed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	spec := blocktest.Spec{
		ID:     blocktest.ID(time.UnixMilli(1763596800123), 7),
		Floats: 2, Histograms: 1, FloatHistograms: 1,
		Series: []labels.Labels{labels.FromStrings("__name__", "mine", "a", "b")},
		Level:  3,
	}
	m := blocktest.Create(t, dir, spec)
	require.Equal(t, spec.ID, m.ULID)
	require.EqualValues(t, 1763596800123, m.ULID.Time())
	require.Equal(t, 3, m.Compaction.Level)
	require.Equal(t, map[string]string{"cluster": "test", "replica": "r0"}, m.Thanos.Labels)
	require.EqualValues(t, 5, m.Stats.NumSeries)
	require.EqualValues(t, 5*120, m.Stats.NumSamples)
	require.EqualValues(t, 2*120, m.Stats.NumHistogramSamples)
	require.Equal(t, blocktest.DefaultMinTime, m.MinTime)

	b, err := tsdb.OpenBlock(nil, filepath.Join(dir, m.ULID.String()), nil, nil)
	require.NoError(t, err)
	defer func() { require.NoError(t, b.Close()) }()
	q, err := tsdb.NewBlockQuerier(b, math.MinInt64, math.MaxInt64)
	require.NoError(t, err)
	defer func() { require.NoError(t, q.Close()) }()
	set := q.Select(t.Context(), true, nil, labels.MustNewMatcher(labels.MatchRegexp, "__name__", ".+"))
	samples := 0
	for set.Next() {
		lset := set.At().Labels()
		n := 2
		if s := lset.Get("series"); s != "" {
			n, err = strconv.Atoi(s)
			require.NoError(t, err)
		}
		it := set.At().Iterator(nil)
		for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
			samples++
			switch lset.Get("__name__") {
			case blocktest.HistogramMetric:
				at, h := it.AtHistogram(nil)
				require.True(t, blocktest.HistogramValue(n, at).Equals(h))
			case blocktest.FloatHistogramMetric:
				at, h := it.AtFloatHistogram(nil)
				require.True(t, blocktest.FloatHistogramValue(n, at).Equals(h))
			default:
				at, v := it.At()
				require.Equal(t, blocktest.FloatValue(n, at), v)
			}
		}
		require.NoError(t, it.Err())
	}
	require.NoError(t, set.Err())
	require.Equal(t, 5*120, samples)
}

func TestLargeBlocksCanBeMade(t *testing.T) {
	t.Parallel()
	m := blocktest.Create(t, t.TempDir(), blocktest.Spec{Floats: 50, Histograms: 3, Interval: 15 * time.Second})
	require.EqualValues(t, 53*480, m.Stats.NumSamples)
	require.EqualValues(t, 53, m.Stats.NumSeries)
}

func TestUploadedTestBlockIsWhole(t *testing.T) {
	t.Parallel()
	bkt := objstore.NewInMemBucket()
	m := blocktest.Upload(t, bkt, blocktest.Spec{})
	ok, err := block.Exists(t.Context(), bkt, m.ULID)
	require.NoError(t, err)
	require.True(t, ok)
	require.Len(t, bkt.Objects(), 3)
}

func TestRecordedBucketsUnpack(t *testing.T) {
	t.Parallel()
	for want, dir := range map[int]string{336: blocktest.RecordedBefore(t), 11: blocktest.RecordedAfter(t)} {
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Len(t, entries, want)
		for _, e := range entries {
			_, ok := block.ParseID(e.Name())
			require.True(t, ok, e.Name())
		}
	}
}

func TestUnpackStaysInItsFolder(t *testing.T) {
	t.Parallel()
	for _, h := range []tar.Header{
		{Name: "../out", Typeflag: tar.TypeReg, Mode: 0o644},
		{Name: "/etc/out", Typeflag: tar.TypeReg, Mode: 0o644},
		{Name: "link", Typeflag: tar.TypeSymlink, Linkname: "/"},
	} {
		var buf bytes.Buffer
		gz := gzip.NewWriter(&buf)
		tw := tar.NewWriter(gz)
		require.NoError(t, tw.WriteHeader(&h))
		require.NoError(t, tw.Close())
		require.NoError(t, gz.Close())
		require.Error(t, blocktest.Unpack(&buf, t.TempDir()), h.Name)
	}
	require.Error(t, blocktest.Unpack(bytes.NewReader([]byte("no gzip")), t.TempDir()))
}
