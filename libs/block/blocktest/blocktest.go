// Package blocktest makes real blocks for tests: small ones from a description, whose
// every sample can be computed, and the recorded buckets in testdata.
package blocktest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/thanos-io/objstore"

	"github.com/promontory-io/promontory/libs/block"
)

// Names of the metrics in generated blocks. Each series has the labels __name__ and
// series="<number>" unless Spec.Series says otherwise.
const (
	FloatMetric          = "test_float"
	HistogramMetric      = "test_histogram"
	FloatHistogramMetric = "test_float_histogram"
)

// Spec describes a block. The zero value is a usable block of nothing but defaults.
type Spec struct {
	// ID is the block's ULID; the zero one lets the TSDB choose.
	ID ulid.ULID
	// ExternalLabels are {cluster="test", replica="r0"} where they are empty.
	ExternalLabels labels.Labels
	// MinTime and MaxTime are Unix milliseconds, MaxTime exclusive. With both 0 the
	// block has the two hours from DefaultMinTime on.
	MinTime, MaxTime int64
	// Interval is the time between samples, a minute where it is 0.
	Interval time.Duration
	// Floats, Histograms and FloatHistograms are how many series of each kind there
	// are; with none of them and no Series, ten float series.
	Floats, Histograms, FloatHistograms int
	// Series are float series with these labels, next to the numbered ones. Their numbers
	// for FloatValue go on after Floats.
	Series []labels.Labels
	// Level is the compaction level, 1 where it is 0.
	Level int
	// Sources are the compaction sources, the block itself where there are none.
	Sources []ulid.ULID
	// Resolution is recorded in meta.json; the samples are raw whatever it says.
	Resolution int64
	// Source is recorded in meta.json, block.SourceTest where it is empty.
	Source block.Source
	// Plain leaves out the "thanos" section, as Prometheus does.
	Plain bool
}

// DefaultMinTime is where blocks begin by default: 2025-11-20 00:00:00 UTC.
const DefaultMinTime int64 = 1763596800000

func (s Spec) withDefaults() Spec {
	if s.MinTime == 0 && s.MaxTime == 0 {
		s.MinTime, s.MaxTime = DefaultMinTime, DefaultMinTime+2*time.Hour.Milliseconds()
	}
	if s.Interval == 0 {
		s.Interval = time.Minute
	}
	if s.Floats+s.Histograms+s.FloatHistograms+len(s.Series) == 0 {
		s.Floats = 10
	}
	if s.ExternalLabels.IsEmpty() {
		s.ExternalLabels = labels.FromStrings("cluster", "test", "replica", "r0")
	}
	if s.Level == 0 {
		s.Level = 1
	}
	if s.Source == "" {
		s.Source = block.SourceTest
	}
	return s
}

// FloatValue is the value of float series number n at time t: a counter that grows with t.
func FloatValue(n int, t int64) float64 { return float64(n)*1e6 + float64(t/1000%1e6) }

// HistogramValue is the value of histogram series number n at time t.
func HistogramValue(n int, t int64) *histogram.Histogram {
	return tsdbutil.GenerateTestHistogram(int64(n)*100 + t/60000%1000)
}

// FloatHistogramValue is the value of float histogram series number n at time t.
func FloatHistogramValue(n int, t int64) *histogram.FloatHistogram {
	return HistogramValue(n, t).ToFloat(nil)
}

type sample struct {
	t  int64
	f  float64
	h  *histogram.Histogram
	fh *histogram.FloatHistogram
}

// Create writes the block below dir, in a folder named by its ULID, and returns its meta.json.
func Create(tb testing.TB, dir string, spec Spec) *block.Meta {
	tb.Helper()
	m, err := Write(dir, spec)
	if err != nil {
		tb.Fatalf("make a test block: %v", err)
	}
	return m
}

// Write is Create for who has no test, such as a load generator.
func Write(dir string, spec Spec) (*block.Meta, error) {
	spec = spec.withDefaults()
	// The writer commits every 10,000 samples and then refuses samples older than half
	// a chunk range, so the range must be wide for the next series to begin at MinTime.
	chunkRange := 4 * max(1, spec.MaxTime-spec.MinTime)
	made, err := tsdb.CreateBlock(series(spec), dir, chunkRange, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	m, err := block.ReadMetaDir(made)
	if err != nil {
		return nil, err
	}
	if spec.ID != (ulid.ULID{}) {
		m.ULID = spec.ID
		// The folder is renamed after meta.json names it: until then it is nobody's block.
		if err := os.Remove(filepath.Join(made, block.MetaFilename)); err != nil {
			return nil, err
		}
		renamed := filepath.Join(dir, spec.ID.String())
		if err := os.Rename(made, renamed); err != nil {
			return nil, err
		}
		made = renamed
	}
	finish(m, spec)
	if err := block.WriteMetaDir(made, m); err != nil {
		return nil, err
	}
	// Prometheus leaves a tombstones file, which no block in a bucket has.
	if err := os.Remove(filepath.Join(made, "tombstones")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return m, nil
}

func finish(m *block.Meta, spec Spec) {
	m.Compaction.Level = spec.Level
	m.Compaction.Sources = spec.Sources
	if len(spec.Sources) == 0 {
		m.Compaction.Sources = []ulid.ULID{m.ULID}
	}
	if spec.Plain {
		return
	}
	m.Thanos = block.Thanos{
		Version:    block.ThanosVersion,
		Labels:     spec.ExternalLabels.Map(),
		Downsample: block.Downsample{Resolution: spec.Resolution},
		Source:     spec.Source,
	}
}

func series(spec Spec) []storage.Series {
	var out []storage.Series
	add := func(lset labels.Labels, at func(t int64) sample) {
		var samples []chunks.Sample
		for t := spec.MinTime; t < spec.MaxTime; t += spec.Interval.Milliseconds() {
			samples = append(samples, at(t))
		}
		out = append(out, storage.NewListSeries(lset, samples))
	}
	name := func(metric string, n int) labels.Labels {
		return labels.FromStrings(labels.MetricName, metric, "series", strconv.Itoa(n))
	}
	for n := range spec.Floats {
		add(name(FloatMetric, n), func(t int64) sample { return sample{t: t, f: FloatValue(n, t)} })
	}
	for i, lset := range spec.Series {
		n := spec.Floats + i
		add(lset, func(t int64) sample { return sample{t: t, f: FloatValue(n, t)} })
	}
	for n := range spec.Histograms {
		add(name(HistogramMetric, n), func(t int64) sample { return sample{t: t, h: HistogramValue(n, t)} })
	}
	for n := range spec.FloatHistograms {
		add(name(FloatHistogramMetric, n), func(t int64) sample { return sample{t: t, fh: FloatHistogramValue(n, t)} })
	}
	return out
}

// Upload makes a block and uploads it, and returns the meta.json in the bucket.
func Upload(tb testing.TB, bkt objstore.Bucket, spec Spec) *block.Meta {
	tb.Helper()
	dir := tb.TempDir()
	m := Create(tb, dir, spec)
	return UploadDir(tb, bkt, filepath.Join(dir, m.ULID.String()))
}

// UploadDir uploads the block in a local folder, and returns the meta.json in the bucket.
func UploadDir(tb testing.TB, bkt objstore.Bucket, dir string) *block.Meta {
	tb.Helper()
	m, err := block.Upload(context.Background(), nil, bkt, dir, block.UploadOptions{})
	if err != nil {
		tb.Fatalf("upload a test block: %v", err)
	}
	return m
}

// ID returns a ULID made at the given time, the same for the same arguments.
func ID(t time.Time, n uint64) ulid.ULID {
	var id ulid.ULID
	if err := id.SetTime(ulid.Timestamp(t)); err != nil {
		panic(fmt.Sprintf("time %v is out of the range of ULIDs", t)) //nolint:forbidigo // for tests
	}
	for i := range 8 {
		id[15-i] = byte(n >> (8 * i))
	}
	return id
}
