// Package blocks generates blocks for benchmarks straight into a FILESYSTEM bucket,
// always the same ones for the same options.
package blocks

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"

	"github.com/promontory-io/promontory/libs/block"
)

// Spec is one block.
type Spec struct {
	// ID names the block; its time part is free.
	ID ulid.ULID
	// MinTime is the first sample, Unix milliseconds.
	MinTime int64
	// Series, Chunks and Samples are how many series, chunks in each and samples in
	// each chunk there are.
	Series, Chunks, Samples int
	// Step is the time between samples in milliseconds.
	Step int64
	// External are the external labels.
	External map[string]string
}

// MaxTime is the block's end, exclusive.
func (s Spec) MaxTime() int64 { return s.MinTime + int64(s.Chunks*s.Samples)*s.Step }

// ID makes a block id out of a number.
func ID(n int) ulid.ULID {
	var id ulid.ULID
	_ = id.SetTime(1_700_000_000_000) // a constant that fits
	binary.BigEndian.PutUint64(id[8:], uint64(n))
	return id
}

// labelSets are the series of a block, sorted: eight labels, as a pod's request
// counter has them.
func labelSets(n int) []labels.Labels {
	out := make([]labels.Labels, n)
	codes, methods := []string{"200", "404", "500"}, []string{"GET", "POST"}
	for i := range out {
		target := i / 12
		out[i] = labels.FromStrings("__name__", "http_requests_total", "code", codes[i%3], "handler", "/api/v1/h"+strconv.Itoa(i/6%2),
			"instance", fmt.Sprintf("10.%d.%d.%d:8080", target>>16&255, target>>8&255, target&255), "job", "app-"+strconv.Itoa(target%50),
			"method", methods[i/3%2], "namespace", "ns-"+strconv.Itoa(target%10), "pod", fmt.Sprintf("app-%d-%08x", target%50, target*2654435761))
	}
	slices.SortFunc(out, labels.Compare)
	return out
}

// Write writes the block into dir/<ID>, index, chunks and meta.json, and returns how
// many bytes of chunks it has.
func Write(dir string, s Spec) (int64, error) {
	root := filepath.Join(dir, s.ID.String())
	if err := os.MkdirAll(filepath.Join(root, "chunks"), 0o755); err != nil {
		return 0, fmt.Errorf("make block folder: %w", err)
	}
	size, err := writeData(root, s)
	if err != nil {
		return 0, fmt.Errorf("write block %s: %w", s.ID, err)
	}
	stats, err := block.ReadIndexStats(root)
	if err != nil {
		return 0, fmt.Errorf("index statistics of block %s: %w", s.ID, err)
	}
	files, err := block.ListFiles(root, "")
	if err != nil {
		return 0, fmt.Errorf("files of block %s: %w", s.ID, err)
	}
	m := &block.Meta{BlockMeta: tsdb.BlockMeta{
		ULID: s.ID, MinTime: s.MinTime, MaxTime: s.MaxTime(), Version: 1,
		Stats: tsdb.BlockStats{
			NumSeries: uint64(s.Series), NumChunks: uint64(s.Series * s.Chunks), NumSamples: uint64(s.Series * s.Chunks * s.Samples),
		},
		Compaction: tsdb.BlockMetaCompaction{Level: 1, Sources: []ulid.ULID{s.ID}},
	}}
	m.Thanos.Version, m.Thanos.Labels, m.Thanos.Source = 1, s.External, "test"
	m.Thanos.IndexStats, m.Thanos.Files = stats, files
	segments, err := os.ReadDir(filepath.Join(root, "chunks"))
	if err != nil {
		return 0, fmt.Errorf("segments of block %s: %w", s.ID, err)
	}
	for _, f := range segments {
		m.Thanos.SegmentFiles = append(m.Thanos.SegmentFiles, f.Name())
	}
	return size, block.WriteMetaDir(root, m)
}

func writeData(root string, s Spec) (size int64, err error) {
	sets := labelSets(s.Series)
	symbols := map[string]struct{}{}
	for _, ls := range sets {
		ls.Range(func(l labels.Label) { symbols[l.Name], symbols[l.Value] = struct{}{}, struct{}{} })
	}
	sorted := make([]string, 0, len(symbols))
	for sym := range symbols {
		sorted = append(sorted, sym)
	}
	slices.Sort(sorted)

	iw, err := index.NewWriter(context.Background(), filepath.Join(root, block.IndexFilename))
	if err != nil {
		return 0, err
	}
	cw, err := chunks.NewWriter(filepath.Join(root, "chunks"))
	if err != nil {
		return 0, err
	}
	for _, sym := range sorted {
		if err := iw.AddSymbol(sym); err != nil {
			return 0, err
		}
	}
	for i, ls := range sets {
		metas, n, err := encode(s, uint64(i))
		if err != nil {
			return 0, err
		}
		size += n
		if err := cw.WriteChunks(metas...); err != nil {
			return 0, err
		}
		if err := iw.AddSeries(storage.SeriesRef(i), ls, metas...); err != nil {
			return 0, err
		}
	}
	if err := iw.Close(); err != nil {
		return 0, err
	}
	return size, cw.Close()
}

// encode makes the chunks of series i: a counter whose steps vary.
func encode(s Spec, i uint64) (metas []chunks.Meta, size int64, err error) {
	r := rand.New(rand.NewPCG(i, 1))
	t, v := s.MinTime, float64(r.IntN(1000))
	for range s.Chunks {
		c := chunkenc.NewXORChunk()
		app, err := c.Appender()
		if err != nil {
			return nil, 0, err
		}
		first := t
		for range s.Samples {
			app.Append(t, v)
			t += s.Step
			v += float64(r.IntN(8))
		}
		size += int64(len(c.Bytes()))
		metas = append(metas, chunks.Meta{Chunk: c, MinTime: first, MaxTime: t - s.Step})
	}
	return metas, size, nil
}
