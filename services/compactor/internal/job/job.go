package job

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/tsdb/tombstones"
	"github.com/thanos-io/objstore"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/dedup"
	"github.com/promontory-io/promontory/services/compactor/internal/merge"
	"github.com/promontory-io/promontory/services/compactor/internal/plan"
	"github.com/promontory-io/promontory/services/compactor/internal/read"
	"github.com/promontory-io/promontory/services/compactor/internal/write"
)

const (
	// SourceDetails is what the deletion mark of a merged block says.
	SourceDetails = "source of compacted block"
	// DefaultReadBytes bounds what one job holds of its sources.
	DefaultReadBytes int64 = 48 << 20

	tombstonesFile   = "tombstones"
	maxTombstoneSize = 1 << 30
)

// Config is how jobs are carried out.
type Config struct {
	// Dir is the scratch folder.
	Dir string
	// Dedup merges what overlaps.
	Dedup dedup.Func
	// Hash adds checksums of files to meta.json.
	Hash block.HashFunc
	// ReadBytes bounds the buffers over all sources of a job; DefaultReadBytes where it is 0.
	ReadBytes int64
	// SegmentBytes is the size of chunk segments, see package write.
	SegmentBytes int64
	// Attempts and Backoff are those of requests, see package read; its defaults where 0.
	Attempts int
	Backoff  time.Duration
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// NewID makes ULIDs; nil means random ones of Now.
	NewID func() ulid.ULID
	// Guard is asked before anything becomes visible or is marked. An error stops the job.
	Guard func() error
}

// Executor carries out jobs. Safe for concurrent use.
type Executor struct {
	logger *zap.Logger
	bkt    objstore.Bucket
	cfg    Config
}

// New returns an Executor over bkt.
func New(logger *zap.Logger, bkt objstore.Bucket, cfg Config) *Executor {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.NewID == nil {
		now := cfg.Now
		cfg.NewID = func() ulid.ULID { return ulid.MustNew(ulid.Timestamp(now()), rand.Reader) }
	}
	if cfg.Guard == nil {
		cfg.Guard = func() error { return nil }
	}
	if cfg.ReadBytes == 0 {
		cfg.ReadBytes = DefaultReadBytes
	}
	return &Executor{logger: logger.Named("job"), bkt: bkt, cfg: cfg}
}

// Result is what became of a job.
type Result struct {
	// Made are the blocks that are visible now.
	Made []*block.Meta
	// Marked are the sources that were marked for deletion.
	Marked     []ulid.ULID
	Stats      merge.Stats
	LocalBytes int64
	Took       time.Duration
}

// Run carries out j. After an error nothing is visible that is not whole, and Result
// tells what is. The error wraps *read.CorruptError where a source is to blame.
func (e *Executor) Run(ctx context.Context, j *plan.Job) (Result, error) {
	begin := time.Now()
	res, err := e.run(ctx, j, nil)
	res.Took = time.Since(begin)
	if err != nil {
		return res, fmt.Errorf("%s of group %s: %w", j.Kind, j.Group, err)
	}
	return res, nil
}

func (e *Executor) run(ctx context.Context, j *plan.Job, loss *merge.Loss) (res Result, err error) {
	inputs, err := e.open(ctx, j, loss != nil)
	defer func() {
		for _, in := range inputs {
			in.Source.Close()
		}
	}()
	if err != nil {
		return res, err
	}
	source := block.SourceCompactor
	if loss != nil {
		source = block.SourceCompactorRepair
	}
	outs, err := e.outputs(ctx, j, source)
	settled := make([]bool, len(outs))
	defer func() {
		for i, o := range outs {
			if !settled[i] {
				o.Discard()
			}
		}
	}()
	if err != nil {
		return res, err
	}
	byRes := make(map[int64]merge.Output, len(outs))
	for i, t := range j.Targets {
		byRes[t] = outs[i]
	}
	res.Stats, err = merge.Run(ctx, inputs, byRes, merge.Options{Resolution: j.Resolution, Dedup: e.cfg.Dedup, Salvage: loss})
	if err != nil {
		return res, err
	}
	if loss != nil {
		if err := noteLoss(outs, loss); err != nil {
			return res, err
		}
	}
	// Blocks without content are not made; what has nothing to say has no place in the bucket.
	for _, o := range outs {
		if o.Empty() {
			continue
		}
		if err := o.Finish(); err != nil {
			return res, err
		}
	}
	// The coarsest first: once the merged block is visible nobody should find that it is
	// not downsampled yet and do it again.
	for i, o := range slices.Backward(outs) {
		if o.Empty() {
			continue
		}
		if err := e.cfg.Guard(); err != nil {
			return res, err
		}
		m, err := o.Publish(ctx)
		if err != nil {
			return res, err
		}
		settled[i] = true
		res.LocalBytes += o.LocalBytes()
		res.Made = append(res.Made, m)
	}
	if !j.KeepsResolution() {
		return res, nil
	}
	details := SourceDetails
	if loss != nil {
		details = fmt.Sprintf("what could be read was saved into another block; lost: %d index gaps, %d chunks of %d series", loss.Entries, loss.Chunks, loss.Series)
	}
	return res, e.markSources(ctx, j, &res, details)
}

// markSources marks what has been merged. Where nothing came out, only sources that claim
// to be empty are marked: the others hold something that this job did not see.
func (e *Executor) markSources(ctx context.Context, j *plan.Job, res *Result, details string) error {
	for _, b := range j.Sources {
		if len(res.Made) == 0 && b.Meta.Stats.NumSamples > 0 {
			continue
		}
		if err := e.cfg.Guard(); err != nil {
			return err
		}
		written, err := block.MarkForDeletion(ctx, e.logger, e.bkt, b.ID(), details, e.cfg.Now())
		if err != nil {
			return err
		}
		if written {
			res.Marked = append(res.Marked, b.ID())
		}
	}
	return nil
}

func (e *Executor) readOptions(n int) read.Options {
	o := read.OptionsFor(n, e.cfg.ReadBytes)
	if e.cfg.Attempts > 0 {
		o.Attempts = e.cfg.Attempts
	}
	if e.cfg.Backoff > 0 {
		o.Backoff = e.cfg.Backoff
	}
	return o
}

// open opens all sources. Those that could be opened are returned also with an error.
func (e *Executor) open(ctx context.Context, j *plan.Job, damaged bool) ([]merge.Input, error) {
	opts := e.readOptions(len(j.Sources))
	var out []merge.Input
	for _, b := range j.Sources {
		openSource := read.Open
		if damaged {
			openSource = read.OpenDamaged
		}
		src, err := openSource(ctx, e.bkt, b.Meta, opts)
		if err != nil {
			return out, err
		}
		in := merge.Input{Source: src, MinTime: b.Meta.MinTime, MaxTime: b.Meta.MaxTime}
		out = append(out, in)
		if b.Meta.Stats.NumTombstones > 0 {
			if out[len(out)-1].Tombstones, err = e.tombstones(ctx, b.ID()); err != nil {
				return out, err
			}
		}
	}
	return out, nil
}

// tombstones reads the deletions that a block was uploaded with, nil if there are none.
func (e *Executor) tombstones(ctx context.Context, id ulid.ULID) (_ tombstones.Reader, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("block %s: read tombstones: %w", id, err)
		}
	}()
	rc, err := e.bkt.Get(ctx, block.ObjectName(id, tombstonesFile))
	if err != nil {
		if e.bkt.IsObjNotFoundErr(err) {
			return nil, nil
		}
		return nil, err
	}
	content, err := io.ReadAll(io.LimitReader(rc, maxTombstoneSize))
	if err = errors.Join(err, rc.Close()); err != nil {
		return nil, err
	}
	// The parser wants a file.
	dir, err := os.MkdirTemp(e.cfg.Dir, "tombstones-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := os.WriteFile(filepath.Join(dir, tombstonesFile), content, 0o644); err != nil {
		return nil, err
	}
	r, _, err := tombstones.ReadTombstones(dir)
	if err != nil {
		return nil, &read.CorruptError{Block: id, Object: tombstonesFile, Offset: -1, Err: err}
	}
	return r, nil
}

// outputs begins a block for each target.
func (e *Executor) outputs(ctx context.Context, j *plan.Job, source block.Source) ([]*write.Block, error) {
	if err := os.MkdirAll(e.cfg.Dir, 0o755); err != nil {
		return nil, err
	}
	var out []*write.Block
	base := plan.ResultMeta(j, e.cfg.NewID())
	for i, target := range j.Targets {
		m := &block.Meta{BlockMeta: base}
		if i > 0 {
			m.ULID = e.cfg.NewID()
		}
		m.Thanos = block.Thanos{
			Version: block.ThanosVersion, Labels: j.Labels, Source: source,
			Downsample: block.Downsample{Resolution: target}, Extensions: extensions(j.Sources),
		}
		if len(j.Sources) == 1 {
			m.Thanos.Rewrites = j.Sources[0].Meta.Thanos.Rewrites
		}
		b, err := write.New(ctx, e.logger, e.bkt, m, write.Options{
			Dir: e.cfg.Dir, SegmentBytes: e.cfg.SegmentBytes, Hash: e.cfg.Hash, Now: e.cfg.Now, Read: e.readOptions(4),
		})
		if err != nil {
			return out, err
		}
		out = append(out, b)
	}
	return out, nil
}

// extensions keeps the members that all sources have, with the first one's value.
func extensions(sources []*plan.Block) json.RawMessage {
	first := sources[0].Meta.Thanos.Extensions
	if len(sources) == 1 || len(first) == 0 {
		return first
	}
	var kept map[string]json.RawMessage
	if json.Unmarshal(first, &kept) != nil {
		return nil // no object: there are no members that others could share
	}
	for _, b := range sources[1:] {
		var other map[string]json.RawMessage
		if json.Unmarshal(b.Meta.Thanos.Extensions, &other) != nil {
			return nil
		}
		for name := range kept {
			if _, ok := other[name]; !ok {
				delete(kept, name)
			}
		}
	}
	if len(kept) == 0 {
		return nil
	}
	out, err := json.Marshal(kept)
	if err != nil {
		return nil // raw members that were parsed just now can be written
	}
	return out
}

// LossExtension is the member of a block's extensions that tells what was lost when the
// block was saved from a broken one.
const LossExtension = "promontory_loss"

func noteLoss(outs []*write.Block, loss *merge.Loss) error {
	for _, o := range outs {
		if err := o.SetExtension(LossExtension, loss); err != nil {
			return err
		}
	}
	return nil
}

// Salvage writes what can be read of a broken block into a new one, which replaces it.
// The loss is recorded in the new block's extensions. Where nothing can be read the
// error says so and nothing is changed.
func (e *Executor) Salvage(ctx context.Context, b *plan.Block) (Result, *merge.Loss, error) {
	begin := time.Now()
	loss := &merge.Loss{}
	j := &plan.Job{
		Kind: plan.Rewrite, Group: b.Meta.GroupKey(), Labels: b.Meta.Thanos.Labels, Resolution: b.Meta.Thanos.Downsample.Resolution,
		Sources: []*plan.Block{b}, Targets: []int64{b.Meta.Thanos.Downsample.Resolution}, MinTime: b.Meta.MinTime, MaxTime: b.Meta.MaxTime,
	}
	res, err := e.run(ctx, j, loss)
	res.Took = time.Since(begin)
	if err != nil {
		return res, loss, fmt.Errorf("salvage block %s: %w", b.ID(), err)
	}
	if len(res.Made) == 0 && !slices.Contains(res.Marked, b.ID()) {
		return res, loss, fmt.Errorf("salvage block %s: %w: nothing in it can be read", b.ID(), block.ErrCorrupt)
	}
	return res, loss, nil
}

// Sum adds up a block's content, checking all of it.
func (e *Executor) Sum(ctx context.Context, m *block.Meta) (write.Sum, error) {
	s, _, err := write.ReadSum(ctx, e.bkt, m, e.readOptions(4))
	return s, err
}

// Probe reads a block alone and decodes all of it. The error tells whether the block is to
// blame: it wraps block.ErrCorrupt then.
func (e *Executor) Probe(ctx context.Context, b *plan.Block) error {
	j := &plan.Job{Kind: plan.Downsample, Sources: []*plan.Block{b}, Resolution: b.Meta.Thanos.Downsample.Resolution}
	inputs, err := e.open(ctx, j, false)
	defer func() {
		for _, in := range inputs {
			in.Source.Close()
		}
	}()
	if err != nil {
		return err
	}
	return merge.Decode(ctx, inputs, merge.Options{Resolution: j.Resolution, Dedup: e.cfg.Dedup})
}
