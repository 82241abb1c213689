package bucket

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/tombstones"

	"github.com/promontory-io/promontory/libs/block"
	aggregate "github.com/promontory-io/promontory/libs/chunks"
	"github.com/promontory-io/promontory/libs/downsample"
)

// tombstonesFilename is the object of deletions that a block was uploaded with.
const tombstonesFilename = "tombstones"

// downsample makes blocks of coarser resolutions, targets in ascending order, in one pass, and uploads them, the coarsest
// first: whoever finds a finer one shall not make the coarser one again. It returns those that were uploaded, also with an
// error, and how many samples have no aggregates. A target of which nothing is left is not there.
func (r remaker) downsample(ctx context.Context, targets []int64) (made map[int64]*block.Meta, skipped int, err error) {
	if err := r.clearMade(); err != nil {
		return nil, 0, err
	}
	metas := map[int64]*block.Meta{}
	for _, t := range targets {
		next := successor(r.m, ulid.MustNewDefault(r.now()), block.SourceCompactor)
		next.Compaction.Sources = slices.Clone(r.m.Sources())
		next.Thanos.Downsample.Resolution = t
		metas[t] = next
	}
	err = r.withOld(ctx, func(old *localBlock) (err error) {
		w := coarser{remaker: r, old: old}
		defer func() { err = errors.Join(err, w.Close()) }()
		if err := w.open(ctx, targets, metas); err != nil {
			return err
		}
		err = eachSeries(ctx, old.index, w.series)
		skipped = w.down.Skipped()
		return err
	})
	if err != nil {
		return nil, skipped, err
	}
	made = map[int64]*block.Meta{}
	for _, t := range slices.Backward(targets) {
		if err := r.mustBeSound(ctx, metas[t]); err != nil {
			return made, skipped, err
		}
		sent, err := r.upload(ctx, metas[t])
		if err != nil {
			return made, skipped, err
		}
		if sent != nil {
			made[t] = sent
		}
	}
	return made, skipped, nil
}

// clearMade removes what a run that was killed has left, but for what it had fetched.
func (r remaker) clearMade() error {
	if err := os.MkdirAll(r.dir, 0o755); err != nil {
		return fmt.Errorf("--data-dir: %w", err)
	}
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		return fmt.Errorf("--data-dir: %w", err)
	}
	for _, entry := range entries {
		if entry.Name() == r.m.ULID.String() {
			continue
		}
		if err := os.RemoveAll(filepath.Join(r.dir, entry.Name())); err != nil {
			return fmt.Errorf("--data-dir: %w", err)
		}
	}
	return nil
}

// mustBeSound reads the index of a block that was made, before anybody else can.
func (r remaker) mustBeSound(ctx context.Context, next *block.Meta) error {
	if next.Stats.NumSeries == 0 {
		return nil
	}
	objects := map[string]int64{}
	root := r.made(next)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		objects[filepath.ToSlash(rel)] = info.Size()
		return err
	})
	if err != nil {
		return err
	}
	h := checkIndex(ctx, filepath.Join(root, block.IndexFilename), next, objects)
	if problem := h.problem(); problem != "" {
		return fmt.Errorf("the %s block that was made is not uploaded: %s", resolutionName(next.Thanos.Downsample.Resolution), problem)
	}
	return ctx.Err()
}

// coarser writes downsampled blocks, series by series.
type coarser struct {
	remaker

	old *localBlock
	// writers are by resolution; those not wanted are missing.
	writers map[int64]*blockWriter
	gone    tombstones.Reader
	down    downsample.Downsampler
	in      []aggregate.AggrChunk
}

func (w *coarser) open(ctx context.Context, targets []int64, metas map[int64]*block.Meta) error {
	w.writers = map[int64]*blockWriter{}
	for _, t := range targets {
		made, err := newBlockWriter(ctx, w.made(metas[t]), w.old.index.Symbols(), &metas[t].Stats)
		if err != nil {
			return err
		}
		w.writers[t] = made
	}
	if w.m.Stats.NumTombstones == 0 {
		return nil
	}
	name := block.ObjectName(w.m.ULID, tombstonesFilename)
	err := download(ctx, w.bkt, name, filepath.Join(w.old.dir, tombstonesFilename))
	if err != nil && !w.bkt.IsObjNotFoundErr(err) {
		return fmt.Errorf("read %s: %w", name, err)
	}
	if err == nil {
		w.gone, _, err = tombstones.ReadTombstones(w.old.dir)
		if err != nil {
			return fmt.Errorf("%w: %s: %w", block.ErrCorrupt, name, err)
		}
	}
	return nil
}

func (w *coarser) Close() error {
	var errs []error
	for _, made := range w.writers {
		errs = append(errs, made.Close())
	}
	if w.gone != nil {
		errs = append(errs, w.gone.Close())
	}
	return errors.Join(errs...)
}

// series downsamples one series.
func (w *coarser) series(s indexed) error {
	err := w.read(s)
	if err == nil && len(w.in) > 0 {
		err = w.further(s)
	}
	if err != nil {
		return fmt.Errorf("series %s: %w", s.lset, err)
	}
	return nil
}

// read fills in. Chunks outside of the block's time are a fault of old writers; they are in the block they belong to too.
func (w *coarser) read(s indexed) error {
	w.in = w.in[:0]
	last := int64(math.MinInt64)
	for _, c := range s.chunks {
		if c.MaxTime < w.m.MinTime || c.MinTime >= w.m.MaxTime {
			continue
		}
		if c.MinTime <= last {
			return fmt.Errorf("%w: chunks overlap at %s, which bucket verify --repair may mend", block.ErrCorrupt, utc(c.MinTime))
		}
		last = c.MaxTime
		data, err := w.old.chunk(c)
		if err != nil {
			return fmt.Errorf("%w: chunk from %s to %s: %w", block.ErrCorrupt, utc(c.MinTime), utc(c.MaxTime), err)
		}
		in := aggregate.AggrChunk{MinTime: c.MinTime, MaxTime: c.MaxTime}
		if aggregates, ok := data.(*downsample.Chunk); !ok {
			in.Raw = aggregate.Chunk{Encoding: data.Encoding(), Data: data.Bytes()}
		} else if parts, err := aggregates.Aggr(); err != nil {
			return fmt.Errorf("chunk from %s to %s: %w", utc(c.MinTime), utc(c.MaxTime), err)
		} else {
			in.Aggr = &parts
		}
		w.in = append(w.in, in)
	}
	return nil
}

// further writes what in becomes.
func (w *coarser) further(s indexed) error {
	from, fine := w.m.Thanos.Downsample.Resolution, w.in
	if from == block.ResolutionRaw {
		it := downsample.NewIterator(w.in, []aggregate.Aggr{aggregate.Raw})
		if w.gone != nil {
			gone, err := w.gone.Get(s.ref)
			if err != nil {
				return fmt.Errorf("%s: %w", tombstonesFilename, err)
			}
			it = &tsdb.DeletedIterator{Iter: it, Intervals: gone}
		}
		var err error
		if fine, err = w.down.Raw(it, block.Resolution5m); err != nil {
			return err
		}
		if err := w.put(block.Resolution5m, s, fine); err != nil {
			return err
		}
	}
	if w.writers[block.Resolution1h] == nil || len(fine) == 0 {
		return nil
	}
	hour, err := w.down.Aggregated(fine, block.Resolution5m, block.Resolution1h)
	if err != nil {
		return err
	}
	return w.put(block.Resolution1h, s, hour)
}

// put adds a series to the block of a resolution, if that is wanted.
func (w *coarser) put(resolution int64, s indexed, in []aggregate.AggrChunk) error {
	made := w.writers[resolution]
	if made == nil {
		return nil
	}
	out := make([]chunks.Meta, len(in))
	for i := range in {
		c, err := downsample.NewChunk(&in[i])
		if err != nil {
			return err
		}
		out[i] = chunks.Meta{MinTime: in[i].MinTime, MaxTime: in[i].MaxTime, Chunk: c}
	}
	return made.add(s.lset, out)
}
