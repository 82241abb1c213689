package blockread

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/cache/indexcache"
	"github.com/promontory-io/promontory/libs/downsample"
	"github.com/promontory-io/promontory/services/store-gateway/internal/indexheader"
	"github.com/promontory-io/promontory/services/store-gateway/internal/postings"
	"github.com/promontory-io/promontory/services/store-gateway/internal/rangeread"
)

// ErrCorrupt says that what was read of a block cannot be right.
var ErrCorrupt = errors.New("corrupt block")

// Broken reports whether err is the fault of the block, which asking again does not
// mend, and not of the bucket or the request.
func Broken(err error) bool {
	for _, kind := range []error{
		ErrCorrupt, indexheader.ErrCorrupt, postings.ErrCorrupt, downsample.ErrCorrupt,
		rangeread.ErrMissing, rangeread.ErrTruncated,
	} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// Config says how blocks are read.
type Config struct {
	// SeriesBytes and ChunkBytes are how large a series entry and a chunk are taken
	// to be in blocks whose metadata does not say.
	SeriesBytes, ChunkBytes int64
	// BatchSeries is how many series are read at once at most.
	BatchSeries int
	// LazyPostings leaves matchers with large lists to be checked on the series.
	LazyPostings bool
	// MaxKeyRatio is how many lists a matcher may need for each series that is left by
	// then; 0 is no limit. It counts with LazyPostings only.
	MaxKeyRatio float64
}

// DefaultConfig returns the usual sizes.
func DefaultConfig() Config {
	return Config{SeriesBytes: 64 << 10, ChunkBytes: 16000, BatchSeries: 10000, MaxKeyRatio: 100}
}

// Deps are what blocks are read with.
type Deps struct {
	Bucket *rangeread.Bucket
	Opener *indexheader.Opener
	// Cache holds parts of indexes; nil holds nothing.
	Cache indexcache.Cache
}

// Block is a block in the bucket. It is safe for concurrent use.
type Block struct {
	// Meta must not be changed.
	Meta *block.Meta
	// External are the external labels.
	External labels.Labels

	id       string
	header   *indexheader.Handle
	segments []segment
	cfg      Config
	deps     Deps
	// seriesBytes and chunkBytes are how much is read where the size is not known.
	seriesBytes, chunkBytes int64
}

// segment is an object with chunks.
type segment struct {
	name string
	size int64 // 0 when not known
}

// New returns the block that meta describes. It reads nothing unless meta does not say
// which chunk objects there are.
func New(ctx context.Context, meta *block.Meta, cfg Config, deps Deps) (*Block, error) {
	b := &Block{
		Meta: meta, External: meta.ExternalLabels(), id: meta.ULID.String(),
		header: deps.Opener.Handle(meta.ULID.String(), indexOf(meta)),
		cfg:    cfg, deps: deps,
		seriesBytes: cfg.SeriesBytes, chunkBytes: cfg.ChunkBytes,
	}
	if s := meta.Thanos.IndexStats.SeriesMaxSize; s > 0 {
		b.seriesBytes = s + seriesFraming
	}
	if s := meta.Thanos.IndexStats.ChunkMaxSize; s > 0 {
		b.chunkBytes = s
	}
	return b, b.findSegments(ctx)
}

// indexOf is where the index of a block is.
func indexOf(meta *block.Meta) indexheader.Index {
	ix := indexheader.Index{Name: block.ObjectName(meta.ULID, block.IndexFilename)}
	for _, f := range meta.Thanos.Files {
		if f.RelPath == block.IndexFilename {
			ix.Size = f.SizeBytes
		}
	}
	return ix
}

// findSegments takes the first answer: the list of segments, the list of files, the
// bucket.
func (b *Block) findSegments(ctx context.Context) error {
	sizes := map[string]int64{}
	var names []string
	for _, f := range b.Meta.Thanos.Files {
		if dir, name := path.Split(f.RelPath); dir == block.ChunksDirname+"/" {
			names = append(names, name)
			sizes[name] = f.SizeBytes
		}
	}
	if len(b.Meta.Thanos.SegmentFiles) > 0 {
		names = slices.Clone(b.Meta.Thanos.SegmentFiles)
	}
	if len(names) == 0 && b.Meta.Stats.NumChunks != 0 {
		dir := block.ObjectName(b.Meta.ULID, block.ChunksDirname) + "/"
		listed, err := b.deps.Bucket.List(ctx, dir)
		if err != nil {
			return fmt.Errorf("block %s: %w", b.id, err)
		}
		for _, l := range listed {
			if l = path.Base(l); strings.Trim(l, "0123456789") == "" {
				names = append(names, l)
			}
		}
	}
	slices.Sort(names)
	for _, n := range names {
		b.segments = append(b.segments, segment{
			name: block.ObjectName(b.Meta.ULID, block.ChunksDirname+"/"+n), size: sizes[n],
		})
	}
	return nil
}

// ID is the block's ULID.
func (b *Block) ID() string { return b.id }

// Load makes sure that the index header can be had.
func (b *Block) Load(ctx context.Context) error {
	_, release, err := b.header.Acquire(ctx)
	if err != nil {
		return b.wrap(err)
	}
	release()
	return nil
}

// CloseIdle closes the index header where it has not been used for long.
func (b *Block) CloseIdle() { b.header.CloseIdle() }

// Retire frees what the block holds once nobody reads it any more.
func (b *Block) Retire() { b.header.Retire() }

// wrap names the block.
func (b *Block) wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("block %s: %w", b.id, err)
}
