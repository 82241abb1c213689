package run

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/fetch"
	"github.com/promontory-io/promontory/services/compactor/internal/plan"
	"github.com/promontory-io/promontory/services/compactor/internal/retention"
)

// OutdatedDetails is what the deletion mark of a block says whose data is in another one.
const OutdatedDetails = "outdated block"

// Upkeep marks garbage and removes what has been marked, or cut off, long enough ago.
func (r *Runner) Upkeep(ctx context.Context) error {
	if err := r.cfg.Guard(); err != nil {
		return err
	}
	v, err := r.sync(ctx)
	if err != nil {
		return err
	}
	r.metrics.cleanupLoops.Inc()
	errs := []error{r.collectGarbage(ctx, v)}

	rep, err := r.cleaner.Marked(ctx, v.res.Marks.Deletion)
	r.metrics.cleaned.Add(float64(rep.Deleted))
	r.metrics.cleanErr.Add(float64(rep.Failed))
	errs = append(errs, err)

	var partial []ulid.ULID
	for id, why := range v.res.Partial {
		// A meta.json that cannot be used is still there: such a block is quarantined.
		if errors.Is(why, block.ErrMetaNotFound) {
			partial = append(partial, id)
		}
	}
	slices.SortFunc(partial, ulid.ULID.Compare)
	rep, err = r.cleaner.Partials(ctx, partial)
	r.metrics.partialAttempts.Add(float64(rep.PartialsAttempted))
	r.metrics.cleanErr.Add(float64(rep.Failed))
	if err = errors.Join(append(errs, err)...); err != nil {
		return fmt.Errorf("clean up: %w", err)
	}
	r.metrics.lastSuccess.WithLabelValues(laneUpkeep).Set(float64(r.cfg.Now().Unix()))
	return nil
}

// collectGarbage marks blocks for deletion that another block contains, after a look at
// whether that one is there.
func (r *Runner) collectGarbage(ctx context.Context, v *view) (err error) {
	r.metrics.gcRuns.Inc()
	timer := prometheus.NewTimer(r.metrics.gcDuration)
	defer timer.ObserveDuration()
	defer func() {
		if err != nil {
			r.metrics.gcFailures.Inc()
			err = fmt.Errorf("collect garbage: %w", err)
		}
	}()
	holders := map[ulid.ULID][]*block.Meta{}
	for id, m := range v.res.Metas {
		// What is broken vouches for nothing.
		if isQuarantine(v.res.Marks.NoCompact[id]) {
			continue
		}
		if _, failed := v.res.Failed[id]; failed {
			continue
		}
		for _, s := range m.Compaction.Sources {
			holders[s] = append(holders[s], m)
		}
	}
	var errs []error
	for _, id := range slices.SortedFunc(maps.Keys(v.res.Excluded), ulid.ULID.Compare) {
		if v.res.Excluded[id] != fetch.StateDuplicate {
			continue
		}
		if err := r.cfg.Guard(); err != nil {
			return err
		}
		holder := covering(v.res.All[id], holders)
		if holder == nil {
			continue
		}
		if err := r.checkThere(ctx, holder); err != nil {
			errs = append(errs, err)
			continue
		}
		written, err := block.MarkForDeletion(ctx, r.logger, r.bkt, id, OutdatedDetails, r.cfg.Now())
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if written {
			r.metrics.garbage.Inc()
			r.metrics.marked.WithLabelValues(block.DeletionMarkFilename, "").Inc()
		}
	}
	return errors.Join(errs...)
}

// covering returns a block of m's resolution that has all of its sources.
func covering(m *block.Meta, holders map[ulid.ULID][]*block.Meta) *block.Meta {
	sources := m.Compaction.Sources
	if len(sources) == 0 {
		sources = []ulid.ULID{m.ULID}
	}
	for _, h := range holders[sources[0]] {
		if h.ULID == m.ULID || h.Thanos.Downsample.Resolution != m.Thanos.Downsample.Resolution {
			continue
		}
		have := make(map[ulid.ULID]bool, len(h.Compaction.Sources))
		for _, s := range h.Compaction.Sources {
			have[s] = true
		}
		if !slices.ContainsFunc(sources, func(s ulid.ULID) bool { return !have[s] }) {
			return h
		}
	}
	return nil
}

// checkThere makes sure that all objects of a block are there and as large as meta.json says.
func (r *Runner) checkThere(ctx context.Context, m *block.Meta) error {
	if r.isSound(m.ULID) {
		return nil
	}
	files := m.Thanos.Files
	if len(files) == 0 {
		files = append(files, block.File{RelPath: block.IndexFilename})
		for _, s := range m.Thanos.SegmentFiles {
			files = append(files, block.File{RelPath: block.ChunksDirname + "/" + s})
		}
	}
	for _, f := range files {
		attrs, err := r.bkt.Attributes(ctx, block.ObjectName(m.ULID, f.RelPath))
		if err != nil {
			return fmt.Errorf("block %s, which replaces others: %s: %w", m.ULID, f.RelPath, err)
		}
		if f.SizeBytes > 0 && attrs.Size != f.SizeBytes {
			return fmt.Errorf("block %s, which replaces others: %w: %s has %d bytes, want %d", m.ULID, block.ErrCorrupt, f.RelPath, attrs.Size, f.SizeBytes)
		}
	}
	r.setSound(m.ULID)
	return nil
}

func (r *Runner) isSound(id ulid.ULID) bool {
	r.sizesMu.Lock()
	defer r.sizesMu.Unlock()
	return r.sound[id]
}

func (r *Runner) setSound(id ulid.ULID) {
	r.sizesMu.Lock()
	defer r.sizesMu.Unlock()
	r.sound[id] = true
}

// expired returns what retention is to mark, held blocks left out.
func (r *Runner) expired(v *view) []retention.Verdict {
	rounds, _ := plan.Simulate(v.blocks, r.options(true))
	all := retention.Expired(v.blocks, r.cfg.Retention, r.cfg.Downsampling, plan.NewAwaited(rounds), r.cfg.Now())
	return slices.DeleteFunc(all, func(x retention.Verdict) bool { return x.Held != "" })
}

// Retain marks the blocks whose retention is over.
func (r *Runner) Retain(ctx context.Context) error {
	v, err := r.sync(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, x := range r.expired(v) {
		if err := r.cfg.Guard(); err != nil {
			return err
		}
		written, err := block.MarkForDeletion(ctx, r.logger, r.bkt, x.Block.ID(), x.Details(), r.cfg.Now())
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if written {
			r.metrics.marked.WithLabelValues(block.DeletionMarkFilename, "").Inc()
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("retention: %w", err)
	}
	r.metrics.lastSuccess.WithLabelValues(laneRetention).Set(float64(r.cfg.Now().Unix()))
	return nil
}
