package bucket

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/downsample"
)

// localBlock reads a block of any resolution that lies in a folder. It must be closed.
type localBlock struct {
	dir    string
	index  *index.Reader
	chunks *chunks.Reader
}

func openLocal(dir string) (*localBlock, error) {
	in, err := index.NewFileReader(filepath.Join(dir, block.IndexFilename), index.DecodePostingsRaw)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", block.ErrCorrupt, err)
	}
	data, err := chunks.NewDirReader(filepath.Join(dir, block.ChunksDirname), downsample.NewPool())
	if err != nil {
		return nil, errors.Join(err, in.Close())
	}
	return &localBlock{dir: dir, index: in, chunks: data}, nil
}

// chunk returns the data of a chunk, which lies in the mapped file: it is valid until the block is closed.
func (b *localBlock) chunk(c chunks.Meta) (chunkenc.Chunk, error) {
	chunk, _, err := b.chunks.ChunkOrIterable(c)
	return chunk, err
}

func (b *localBlock) Close() error { return errors.Join(b.chunks.Close(), b.index.Close()) }

// blockWriter writes a block into a folder and counts what is in it. It must be closed, before what its strings lie in
// goes away: it keeps them until then.
type blockWriter struct {
	chunks *chunks.Writer
	index  *index.Writer
	stats  *tsdb.BlockStats
}

// newBlockWriter begins a block in dir whose labels have no other strings than symbols, which are sorted; what is
// written is added to stats.
func newBlockWriter(ctx context.Context, dir string, symbols index.StringIter, stats *tsdb.BlockStats) (_ *blockWriter, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	w := &blockWriter{stats: stats}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.Close())
		}
	}()
	if w.chunks, err = chunks.NewWriter(filepath.Join(dir, block.ChunksDirname)); err != nil {
		return nil, err
	}
	if w.index, err = index.NewWriter(ctx, filepath.Join(dir, block.IndexFilename)); err != nil {
		return nil, err
	}
	for symbols.Next() {
		if err := w.index.AddSymbol(symbols.At()); err != nil {
			return nil, err
		}
	}
	return w, symbols.Err()
}

// add writes a series; series come in the order of their labels. One without chunks is left out.
func (w *blockWriter) add(lset labels.Labels, chks []chunks.Meta) error {
	if len(chks) == 0 {
		return nil
	}
	if err := w.chunks.WriteChunks(chks...); err != nil {
		return err
	}
	ref := storage.SeriesRef(w.stats.NumSeries)
	w.stats.NumSeries++
	for _, c := range chks {
		count(w.stats, c.Chunk)
	}
	return w.index.AddSeries(ref, lset, chks...)
}

func (w *blockWriter) Close() error {
	var errs []error
	if w.index != nil {
		errs = append(errs, w.index.Close())
	}
	if w.chunks != nil {
		errs = append(errs, w.chunks.Close())
	}
	return errors.Join(errs...)
}

// count adds the samples of a chunk, of aggregates the windows, to stats.
func count(stats *tsdb.BlockStats, chunk chunkenc.Chunk) {
	n := uint64(chunk.NumSamples())
	stats.NumChunks++
	stats.NumSamples += n
	switch chunk.Encoding() {
	case chunkenc.EncXOR:
		stats.NumFloatSamples += n
	case chunkenc.EncHistogram, chunkenc.EncFloatHistogram:
		stats.NumHistogramSamples += n
	}
}

// remaker makes new blocks of block m in the folder dir, and uploads them.
type remaker struct {
	*env

	dir  string
	m    *block.Meta
	opts block.UploadOptions
}

// one has change write next of the block into the folder made, and uploads it. Nil without an error says that nothing was
// left, and nothing was uploaded.
func (r remaker) one(ctx context.Context, next *block.Meta, change func(old *localBlock, made string) error) (*block.Meta, error) {
	if err := r.withOld(ctx, func(old *localBlock) error { return change(old, r.made(next)) }); err != nil {
		return nil, err
	}
	return r.upload(ctx, next)
}

// made is the folder of a new block.
func (r remaker) made(next *block.Meta) string { return filepath.Join(r.dir, next.ULID.String()) }

// withOld downloads the block and opens it for f. Files that are there already, and whole, are not fetched again.
func (r remaker) withOld(ctx context.Context, f func(*localBlock) error) (err error) {
	dir := filepath.Join(r.dir, r.m.ULID.String())
	if _, err := block.Download(ctx, r.bkt, r.m.ULID, dir, block.DownloadOptions{Concurrency: r.opts.Concurrency}); err != nil {
		return err
	}
	old, err := openLocal(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, old.Close()) }()
	return f(old)
}

// upload uploads the block that was made, unless it has no series.
func (r remaker) upload(ctx context.Context, next *block.Meta) (*block.Meta, error) {
	if next.Stats.NumSeries == 0 {
		return nil, nil
	}
	if err := block.WriteMetaDir(r.made(next), next); err != nil {
		return nil, err
	}
	opts := r.opts
	opts.Now = r.now
	return block.Upload(ctx, r.logger, r.bkt, r.made(next), opts)
}

// successor returns the meta.json of a block that is made of m, with the sections that follow from what is written left
// empty.
func successor(m *block.Meta, id ulid.ULID, source block.Source) *block.Meta {
	next := m.Clone()
	next.ULID = id
	next.Stats = tsdb.BlockStats{}
	next.Thanos.Source = source
	next.Thanos.Files, next.Thanos.SegmentFiles, next.Thanos.IndexStats = nil, nil, block.IndexStats{}
	next.Thanos.UploadTime = time.Time{}
	return next
}
