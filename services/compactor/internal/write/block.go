package write

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"
	"github.com/thanos-io/objstore"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/services/compactor/internal/merge"
	"github.com/promontory-io/promontory/services/compactor/internal/read"
)

const (
	// DefaultSegmentBytes is the size of a chunk segment: large enough for few
	// objects, small enough for two of each resolution to fit into a small scratch.
	DefaultSegmentBytes int64 = 128 << 20
	// discardTimeout bounds the removal of what a failed job has uploaded.
	discardTimeout = time.Minute
)

// ErrVerify says that what can be read back is not what was written. Nothing has been
// made visible; the job may be tried again.
var ErrVerify = errors.New("block differs from what was written")

// Options are how blocks are written.
type Options struct {
	// Dir is the scratch folder; blocks make their own folders in it.
	Dir string
	// SegmentBytes is DefaultSegmentBytes where it is 0.
	SegmentBytes int64
	// Hash adds checksums of the files to meta.json.
	Hash block.HashFunc
	// Now is the clock for upload_time; nil means time.Now.
	Now func() time.Time
	// Read is how the block is read back.
	Read read.Options
}

// Block is a block being written. It is used by one goroutine.
type Block struct {
	ctx    context.Context //nolint:containedctx // Output has no context: a Block lives within one job
	logger *zap.Logger
	bkt    objstore.Bucket
	opts   Options
	meta   *block.Meta
	dir    string

	index    *index.Writer
	metas    []chunks.Meta
	ref      storage.SeriesRef
	seg      *segment
	segments int
	sent     []block.File
	sending  chan sendResult
	sum      *summer
	maxChunk int64
	local    int64
}

type sendResult struct {
	file block.File
	err  error
}

// New prepares to write the block that meta describes: its ULID, times, labels,
// resolution, source and compaction section. The rest is filled in by Finish. ctx ends
// the writing.
func New(ctx context.Context, logger *zap.Logger, bkt objstore.Bucket, meta *block.Meta, opts Options) (*Block, error) {
	if opts.SegmentBytes == 0 {
		opts.SegmentBytes = DefaultSegmentBytes
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	b := &Block{
		ctx: ctx, logger: logger.Named("write"), bkt: bkt, opts: opts, meta: meta.Clone(),
		dir: filepath.Join(opts.Dir, meta.ULID.String()), sum: newSummer(),
	}
	if err := os.RemoveAll(b.dir); err != nil {
		return nil, fmt.Errorf("write block %s: %w", meta.ULID, err)
	}
	if err := os.MkdirAll(b.dir, 0o755); err != nil {
		return nil, fmt.Errorf("write block %s: %w", meta.ULID, err)
	}
	w, err := index.NewWriter(ctx, filepath.Join(b.dir, block.IndexFilename))
	if err != nil {
		return nil, b.fail("begin index", err)
	}
	b.index = w
	return b, nil
}

func (b *Block) fail(what string, err error) error {
	return fmt.Errorf("write block %s: %s: %w", b.meta.ULID, what, err)
}

// Begin implements merge.Output.
func (b *Block) Begin(symbols []string) error {
	for _, s := range symbols {
		if err := b.index.AddSymbol(s); err != nil {
			return b.fail("add symbol", err)
		}
	}
	return nil
}

// Add implements merge.Output.
func (b *Block) Add(lset labels.Labels, cs []merge.Chunk) error {
	b.sum.series(func(yield func(string)) {
		lset.Range(func(l labels.Label) {
			yield(l.Name)
			yield(l.Value)
		})
	})
	b.metas = b.metas[:0]
	for i := range cs {
		c := &cs[i]
		ref, crc, err := b.writeChunk(c)
		if err != nil {
			return b.fail("write chunk", err)
		}
		b.sum.chunk(c.MinTime, c.MaxTime, c.Encoding, c.Samples, crc)
		b.metas = append(b.metas, chunks.Meta{Ref: ref, MinTime: c.MinTime, MaxTime: c.MaxTime})
	}
	b.ref++
	if err := b.index.AddSeries(b.ref, lset, b.metas...); err != nil {
		return b.fail("add series "+lset.String(), err)
	}
	return nil
}

// writeChunk writes a chunk to the current segment, and begins a new one where it is full.
func (b *Block) writeChunk(c *merge.Chunk) (chunks.ChunkRef, uint32, error) {
	if b.seg != nil && b.seg.size+chunkBytes(c) > b.opts.SegmentBytes {
		if err := b.endSegment(); err != nil {
			return 0, 0, err
		}
	}
	if b.seg == nil {
		b.segments++
		seg, err := newSegment(b.dir, b.segments, b.opts.Hash)
		if err != nil {
			return 0, 0, err
		}
		b.seg = seg
	}
	off := b.seg.size
	crc, err := b.seg.write(c)
	if err != nil {
		return 0, 0, err
	}
	b.maxChunk = max(b.maxChunk, b.seg.size-off)
	return chunks.ChunkRef(chunks.NewBlockChunkRef(uint64(b.segments-1), uint64(off))), crc, nil
}

// endSegment closes the current segment and uploads it in the background. It waits for
// the one before.
func (b *Block) endSegment() error {
	seg := b.seg
	b.seg = nil
	if err := seg.close(); err != nil {
		return err
	}
	if err := b.wait(); err != nil {
		return err
	}
	b.local += seg.size
	ch := make(chan sendResult, 1)
	b.sending = ch
	file := block.File{RelPath: path.Join(block.ChunksDirname, seg.name), SizeBytes: seg.size, Hash: seg.sum()}
	go func() {
		err := b.send(file, seg.path)
		ch <- sendResult{file: file, err: errors.Join(err, os.Remove(seg.path))}
	}()
	return nil
}

// wait waits for the upload under way.
func (b *Block) wait() error {
	if b.sending == nil {
		return nil
	}
	r := <-b.sending
	b.sending = nil
	// Also what failed may be there in part.
	b.sent = append(b.sent, r.file)
	return r.err
}

// send uploads a local file and asks the bucket for its size.
func (b *Block) send(f block.File, local string) error {
	if err := b.ctx.Err(); err != nil {
		return err
	}
	file, err := os.Open(local)
	if err != nil {
		return err
	}
	name := block.ObjectName(b.meta.ULID, f.RelPath)
	err = b.bkt.Upload(b.ctx, name, file)
	if err = errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("upload %s: %w", f.RelPath, err)
	}
	attrs, err := b.bkt.Attributes(b.ctx, name)
	if err != nil {
		return fmt.Errorf("verify %s: %w", f.RelPath, err)
	}
	if attrs.Size != f.SizeBytes {
		return fmt.Errorf("%w: %s has %d bytes in the bucket and %d here", ErrVerify, f.RelPath, attrs.Size, f.SizeBytes)
	}
	return nil
}

// Empty reports whether no series has been added.
func (b *Block) Empty() bool { return b.sum.Series == 0 }

// LocalBytes is how much was written to the scratch folder.
func (b *Block) LocalBytes() int64 { return b.local }

// Sum is what has been written so far.
func (b *Block) Sum() Sum { return b.sum.sum() }

// Finish uploads what is left, reads the block back and compares. The block is whole in the
// bucket then, but not visible.
func (b *Block) Finish() error {
	if b.Empty() {
		return b.fail("finish", errors.New("it has no series"))
	}
	if b.seg != nil {
		if err := b.endSegment(); err != nil {
			return b.fail("end segment", err)
		}
	}
	if err := b.wait(); err != nil {
		return b.fail("chunks", err)
	}
	w := b.index
	b.index = nil
	if err := w.Close(); err != nil {
		return b.fail("end index", err)
	}
	file, err := b.indexFile()
	if err != nil {
		return b.fail("index", err)
	}
	b.sent = append(b.sent, file)
	if err := b.send(file, filepath.Join(b.dir, block.IndexFilename)); err != nil {
		return b.fail("index", err)
	}
	if err := os.RemoveAll(b.dir); err != nil {
		return b.fail("clear scratch", err)
	}
	b.fillMeta()
	return b.verify()
}

func (b *Block) indexFile() (block.File, error) {
	name := filepath.Join(b.dir, block.IndexFilename)
	st, err := os.Stat(name)
	if err != nil {
		return block.File{}, err
	}
	// The writer keeps postings in files of their own before it puts them in.
	b.local += 2 * st.Size()
	f := block.File{RelPath: block.IndexFilename, SizeBytes: st.Size()}
	if b.opts.Hash == block.HashNone {
		return f, nil
	}
	h := sha256.New()
	file, err := os.Open(name)
	if err != nil {
		return f, err
	}
	_, err = io.Copy(h, file)
	f.Hash = hashOf(b.opts.Hash, h)
	return f, errors.Join(err, file.Close())
}

func hashOf(f block.HashFunc, h hash.Hash) *block.Hash {
	if h == nil {
		return nil
	}
	return &block.Hash{Func: f, Value: hex.EncodeToString(h.Sum(nil))}
}

// fillMeta fills in what is known now.
func (b *Block) fillMeta() {
	m, s := b.meta, b.sum.sum()
	m.Version = block.MetaVersion
	m.Thanos.Version = block.ThanosVersion
	m.Stats.NumSeries, m.Stats.NumChunks, m.Stats.NumSamples = s.Series, s.Chunks, s.Samples
	m.Stats.NumHistogramSamples = s.HistogramSamples
	m.Stats.NumFloatSamples = s.Samples - s.HistogramSamples
	m.Stats.NumTombstones = 0
	// A chunk at the edge of its block may reach out of it.
	m.MinTime, m.MaxTime = min(m.MinTime, s.MinTime), max(m.MaxTime, s.MaxTime+1)
	m.Thanos.SegmentFiles = nil
	for _, f := range b.sent {
		if dir, base := path.Split(f.RelPath); dir == block.ChunksDirname+"/" {
			m.Thanos.SegmentFiles = append(m.Thanos.SegmentFiles, base)
		}
	}
	m.Thanos.Files = append(append([]block.File(nil), b.sent...), block.File{RelPath: block.MetaFilename})
	m.Thanos.IndexStats.ChunkMaxSize = b.maxChunk
}

// verify reads the block back.
func (b *Block) verify() error {
	got, entryMax, err := ReadSum(b.ctx, b.bkt, b.meta, b.opts.Read)
	if err != nil {
		if _, corrupt := read.AsCorrupt(err); corrupt {
			// The job's own output is at fault, not one of its sources.
			return b.fail("read back", fmt.Errorf("%w: %s", ErrVerify, err.Error()))
		}
		return b.fail("read back", err)
	}
	if want := b.sum.sum(); got != want {
		return b.fail("read back", fmt.Errorf("%w: got %s; want %s", ErrVerify, got, want))
	}
	b.meta.Thanos.IndexStats.SeriesMaxSize = entryMax
	return nil
}

// SetExtension adds a member to the extensions in meta.json; before Publish.
func (b *Block) SetExtension(name string, value any) error {
	members := map[string]json.RawMessage{}
	if ext := b.meta.Thanos.Extensions; len(ext) > 0 {
		// Extensions that are no object cannot take a member and give way.
		if json.Unmarshal(ext, &members) != nil {
			members = map[string]json.RawMessage{}
		}
	}
	var err error
	if members[name], err = json.Marshal(value); err != nil {
		return b.fail("extension "+name, err)
	}
	if b.meta.Thanos.Extensions, err = json.Marshal(members); err != nil {
		return b.fail("extension "+name, err)
	}
	return nil
}

// Publish makes the finished block visible and returns its meta.json.
func (b *Block) Publish(ctx context.Context) (*block.Meta, error) {
	b.meta.Thanos.UploadTime = b.opts.Now().UTC()
	content, err := b.meta.Encode()
	if err != nil {
		return nil, b.fail("encode meta.json", err)
	}
	if err := b.bkt.Upload(ctx, block.ObjectName(b.meta.ULID, block.MetaFilename), bytes.NewReader(content)); err != nil {
		return nil, b.fail("upload meta.json", err)
	}
	attrs, err := b.bkt.Attributes(ctx, block.ObjectName(b.meta.ULID, block.MetaFilename))
	if err == nil && attrs.Size != int64(len(content)) {
		err = fmt.Errorf("%w: meta.json has %d bytes in the bucket and %d here", ErrVerify, attrs.Size, len(content))
	}
	if err != nil {
		return nil, b.fail("verify meta.json", err)
	}
	return b.meta, nil
}

// Discard gives the block up: what was uploaded is removed as far as possible. What
// cannot be removed is not visible, and is cleaned up later like any partial upload.
func (b *Block) Discard() {
	var errs []error
	if b.seg != nil {
		errs = append(errs, b.seg.close())
		b.seg = nil
	}
	_ = b.wait() // it has failed, or does not matter any more
	if b.index != nil {
		// The writer refuses to be closed before its time, and has closed its files then.
		_ = b.index.Close()
		b.index = nil
	}
	errs = append(errs, os.RemoveAll(b.dir))
	if len(b.sent) > 0 {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(b.ctx), discardTimeout)
		defer cancel()
		errs = append(errs, block.Delete(ctx, b.logger, b.bkt, b.meta.ULID))
	}
	if err := errors.Join(errs...); err != nil {
		b.logger.Warn("remains of a block that was given up stay", zap.Stringer("block", b.meta.ULID), zap.Error(err))
	}
}

var _ merge.Output = (*Block)(nil)
