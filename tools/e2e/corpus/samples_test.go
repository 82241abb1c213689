package corpus

import (
	"context"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/blocktest"
	"github.com/promontory-io/promontory/libs/objstore/filesystem"
)

// epoch is the time of the first sample, span how long there are samples, window how long a block is.
var epoch = time.Unix(1_699_999_200, 0).UTC()

const (
	span   = 4 * time.Hour
	window = 2 * time.Hour
)

// sample is one sample of any kind.
type sample struct {
	t  int64
	f  float64
	h  *histogram.Histogram
	fh *histogram.FloatHistogram
}

func (s sample) T() int64                      { return s.t }
func (s sample) F() float64                    { return s.f }
func (s sample) H() *histogram.Histogram       { return s.h }
func (s sample) FH() *histogram.FloatHistogram { return s.fh }
func (s sample) Copy() chunks.Sample           { return s }

func (s sample) Type() chunkenc.ValueType {
	switch {
	case s.h != nil:
		return chunkenc.ValHistogram
	case s.fh != nil:
		return chunkenc.ValFloatHistogram
	default:
		return chunkenc.ValFloat
	}
}

// writeBlocks writes the samples of testdata/samples.load as blocks of a window each and returns their folders.
func writeBlocks(t *testing.T, dir string) []string {
	t.Helper()
	text, err := os.ReadFile("testdata/samples.load")
	require.NoError(t, err)
	loaded := promqltest.LoadedStorage(t, string(text))
	defer func() { require.NoError(t, loaded.Close()) }()
	querier, err := loaded.Querier(math.MinInt64, math.MaxInt64)
	require.NoError(t, err)
	defer querier.Close()

	windows := make([][]storage.Series, span/window)
	set := querier.Select(context.Background(), true, nil, labels.MustNewMatcher(labels.MatchRegexp, labels.MetricName, ".+"))
	for set.Next() {
		lset := set.At().Labels()
		cut := make([][]chunks.Sample, len(windows))
		it := set.At().Iterator(nil)
		for kind := it.Next(); kind != chunkenc.ValNone; kind = it.Next() {
			n := int(it.AtT() / window.Milliseconds())
			if n < len(cut) {
				cut[n] = append(cut[n], read(t, it, kind, strings.HasPrefix(lset.Get(labels.MetricName), "int_")))
			}
		}
		require.NoError(t, it.Err())
		for n := range cut {
			if len(cut[n]) > 0 {
				windows[n] = append(windows[n], storage.NewListSeries(lset, cut[n]))
			}
		}
	}
	require.NoError(t, set.Err())
	var out []string
	for _, series := range windows {
		folder, err := tsdb.CreateBlock(series, dir, 4*window.Milliseconds(), slog.New(slog.DiscardHandler))
		require.NoError(t, err)
		out = append(out, folder)
	}
	return out
}

func read(t *testing.T, it chunkenc.Iterator, kind chunkenc.ValueType, integer bool) sample {
	t.Helper()
	if kind == chunkenc.ValFloat {
		at, f := it.At()
		return sample{t: epoch.UnixMilli() + at, f: f}
	}
	at, fh := it.AtFloatHistogram(nil)
	if integer {
		return sample{t: epoch.UnixMilli() + at, h: toInteger(fh)}
	}
	return sample{t: epoch.UnixMilli() + at, fh: fh}
}

// toInteger makes the integer histogram of one whose counts are whole.
func toInteger(fh *histogram.FloatHistogram) *histogram.Histogram {
	deltas := func(counts []float64) (out []int64) {
		var last int64
		for _, c := range counts {
			out = append(out, int64(c)-last)
			last = int64(c)
		}
		return out
	}
	return &histogram.Histogram{
		CounterResetHint: fh.CounterResetHint, Schema: fh.Schema, ZeroThreshold: fh.ZeroThreshold,
		ZeroCount: uint64(fh.ZeroCount), Count: uint64(fh.Count), Sum: fh.Sum,
		PositiveSpans: fh.PositiveSpans, NegativeSpans: fh.NegativeSpans,
		PositiveBuckets: deltas(fh.PositiveBuckets), NegativeBuckets: deltas(fh.NegativeBuckets),
		CustomValues: fh.CustomValues,
	}
}

// upload puts blocks into the bucket in a folder, as those of a replica.
func upload(t *testing.T, bucketDir, replica string, blocks []string) {
	t.Helper()
	bucket, err := filesystem.New(bucketDir)
	require.NoError(t, err)
	for n, from := range blocks {
		m, err := block.ReadMetaDir(from)
		require.NoError(t, err)
		// Blocks of replicas are copies, not the same.
		m.ULID = blocktest.ID(epoch.Add(time.Duration(n)*time.Second), uint64(replica[0]))
		m.Compaction.Sources = nil
		m.Compaction.Sources = append(m.Compaction.Sources, m.ULID)
		m.Thanos = block.Thanos{Version: block.ThanosVersion, Labels: map[string]string{"replica": replica}, Source: block.SourceSidecar}
		folder := filepath.Join(t.TempDir(), m.ULID.String())
		require.NoError(t, os.CopyFS(folder, os.DirFS(from)))
		for _, name := range []string{block.MetaFilename, "tombstones"} {
			require.NoError(t, os.RemoveAll(filepath.Join(folder, name)))
		}
		require.NoError(t, block.WriteMetaDir(folder, m))
		blocktest.UploadDir(t, bucket, folder)
	}
}
