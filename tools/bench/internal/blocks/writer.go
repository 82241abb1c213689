package blocks

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"

	"github.com/promontory-io/promontory/libs/block"
)

// Writer writes one block into a folder, series by series. Used by one goroutine.
type Writer struct {
	root  string
	meta  block.Meta
	index *index.Writer
	chks  *chunks.Writer
}

// NewWriter begins the block id in dir/<id>, for samples from minTime on and before
// maxTime, Unix milliseconds. symbols are all strings that labels will have, sorted,
// each once.
func NewWriter(dir string, id ulid.ULID, minTime, maxTime int64, external map[string]string, symbols []string) (_ *Writer, err error) {
	w := &Writer{root: filepath.Join(dir, id.String())}
	defer func() {
		if err != nil {
			err = fmt.Errorf("write block %s: %w", id, err)
		}
	}()
	w.meta.BlockMeta = tsdb.BlockMeta{
		ULID: id, MinTime: minTime, MaxTime: maxTime, Version: 1,
		Compaction: tsdb.BlockMetaCompaction{Level: 1, Sources: []ulid.ULID{id}},
	}
	w.meta.Thanos.Version, w.meta.Thanos.Labels, w.meta.Thanos.Source = 1, external, "test"
	if err := os.MkdirAll(filepath.Join(w.root, block.ChunksDirname), 0o755); err != nil {
		return nil, err
	}
	if w.chks, err = chunks.NewWriter(filepath.Join(w.root, block.ChunksDirname)); err != nil {
		return nil, err
	}
	if w.index, err = index.NewWriter(context.Background(), filepath.Join(w.root, block.IndexFilename)); err != nil {
		return nil, errors.Join(err, w.chks.Close())
	}
	for _, s := range symbols {
		if err := w.index.AddSymbol(s); err != nil {
			return nil, errors.Join(err, w.chks.Close(), w.index.Close())
		}
	}
	return w, nil
}

// Add adds a series with its chunks. Series come in the order of their labels.
func (w *Writer) Add(lset labels.Labels, metas ...chunks.Meta) error {
	if err := w.chks.WriteChunks(metas...); err != nil {
		return w.fail(err)
	}
	if err := w.index.AddSeries(storage.SeriesRef(w.meta.Stats.NumSeries), lset, metas...); err != nil {
		return w.fail(err)
	}
	w.meta.Stats.NumSeries++
	w.meta.Stats.NumChunks += uint64(len(metas))
	for _, m := range metas {
		w.meta.Stats.NumSamples += uint64(m.Chunk.NumSamples())
	}
	return nil
}

// Close ends the block and writes its meta.json.
func (w *Writer) Close() error {
	if err := errors.Join(w.index.Close(), w.chks.Close()); err != nil {
		return w.fail(err)
	}
	var err error
	if w.meta.Thanos.IndexStats, err = block.ReadIndexStats(w.root); err != nil {
		return w.fail(err)
	}
	if w.meta.Thanos.Files, err = block.ListFiles(w.root, ""); err != nil {
		return w.fail(err)
	}
	segments, err := os.ReadDir(filepath.Join(w.root, block.ChunksDirname))
	if err != nil {
		return w.fail(err)
	}
	for _, f := range segments {
		w.meta.Thanos.SegmentFiles = append(w.meta.Thanos.SegmentFiles, f.Name())
	}
	return block.WriteMetaDir(w.root, &w.meta)
}

func (w *Writer) fail(err error) error { return fmt.Errorf("write block %s: %w", w.meta.ULID, err) }
