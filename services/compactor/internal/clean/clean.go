// Package clean removes from the bucket what nobody needs any more: blocks that have been
// marked for deletion for long enough, and what uploads that were cut off have left.
//
// Until the delay is over a mark can be taken off again and the block lives on. Both
// kinds of removal keep to the order of package block, so that one that is cut off is
// found and resumed.
package clean

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/thanos-io/objstore"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/promontory-io/promontory/libs/block"
)

const (
	// PartialAge is how long a block without meta.json is left alone: its upload may
	// still be under way.
	PartialAge = 48 * time.Hour

	workers = 32
)

// Due returns the blocks whose mark is older than delay, oldest mark first. Pure.
func Due(marks map[ulid.ULID]*block.DeletionMark, delay time.Duration, now time.Time) []ulid.ULID {
	var out []ulid.ULID
	for id, m := range marks {
		if now.Sub(m.Time()) > delay {
			out = append(out, id)
		}
	}
	slices.SortFunc(out, func(a, b ulid.ULID) int {
		if d := marks[a].Time().Compare(marks[b].Time()); d != 0 {
			return d
		}
		return a.Compare(b)
	})
	return out
}

// Cleaner deletes. Safe for concurrent use.
type Cleaner struct {
	logger *zap.Logger
	bkt    objstore.Bucket
	delay  time.Duration
	now    func() time.Time
	guard  func() error
}

// New returns a Cleaner that honours marks after delay. guard is asked before each deletion.
func New(logger *zap.Logger, bkt objstore.Bucket, delay time.Duration, now func() time.Time, guard func() error) *Cleaner {
	return &Cleaner{logger: logger.Named("clean"), bkt: bkt, delay: delay, now: now, guard: guard}
}

// Report counts what was done.
type Report struct {
	Deleted, Failed   int
	PartialsAttempted int
	PartialsDeleted   int
}

// Marked deletes the blocks that are due by marks, which somebody has listed. Each mark is read
// once more before its block goes: an operator may have taken it off since, or set it anew. A
// block that cannot be deleted does not keep the others; all errors are returned.
func (c *Cleaner) Marked(ctx context.Context, marks map[ulid.ULID]*block.DeletionMark) (Report, error) {
	due := Due(marks, c.delay, c.now())
	errs := make([]error, len(due))
	spared := make([]bool, len(due))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(workers)
	for i, id := range due {
		g.Go(func() error {
			if err := c.guard(); err != nil {
				errs[i] = err
				return nil //nolint:nilerr // told with the others
			}
			if spared[i], errs[i] = c.spared(gctx, id); errs[i] == nil && !spared[i] {
				errs[i] = block.Delete(gctx, c.logger, c.bkt, id)
			}
			return ctx.Err()
		})
	}
	_ = g.Wait() // only says that ctx is over, which the errors of the rest say too
	var r Report
	for i, err := range errs {
		if err != nil {
			r.Failed++
			continue
		}
		if spared[i] {
			c.logger.Info("block is not marked for deletion any more, or not for long enough; keeping it", zap.Stringer("block", due[i]))
			continue
		}
		r.Deleted++
		c.logger.Info("block deleted", zap.Stringer("block", due[i]))
	}
	return r, errors.Join(errors.Join(errs...), ctx.Err())
}

// spared reports whether the mark that made a block due is no longer there to be acted upon.
func (c *Cleaner) spared(ctx context.Context, id ulid.ULID) (bool, error) {
	mark, err := block.ReadDeletionMark(ctx, c.bkt, id)
	switch {
	case err == nil:
		return c.now().Sub(mark.Time()) <= c.delay, nil
	case errors.Is(err, block.ErrMarkNotFound), errors.Is(err, block.ErrMarkCorrupt), errors.Is(err, block.ErrMarkVersion):
		return true, nil
	}
	return false, fmt.Errorf("delete block %s: %w", id, err)
}

// Partials deals with blocks that have no meta.json: those whose deletion was cut off are
// deleted further, those that have not changed for PartialAge are deleted, others are
// left alone.
func (c *Cleaner) Partials(ctx context.Context, partial []ulid.ULID) (Report, error) {
	var r Report
	var errs []error
	for _, id := range partial {
		if err := ctx.Err(); err != nil {
			return r, errors.Join(append(errs, err)...)
		}
		gone, err := c.abandoned(ctx, id)
		if err == nil && !gone {
			continue
		}
		if err == nil {
			r.PartialsAttempted++
			if err = c.guard(); err == nil {
				err = block.Delete(ctx, c.logger, c.bkt, id)
			}
		}
		if err != nil {
			r.Failed++
			errs = append(errs, fmt.Errorf("partial block %s: %w", id, err))
			continue
		}
		r.PartialsDeleted++
		c.logger.Info("remains of a block deleted", zap.Stringer("block", id))
	}
	return r, errors.Join(errs...)
}

// abandoned reports whether nobody works on the partial block any more.
func (c *Cleaner) abandoned(ctx context.Context, id ulid.ULID) (bool, error) {
	mark, err := block.ReadDeletionMark(ctx, c.bkt, id)
	switch {
	case err == nil:
		return c.now().Sub(mark.Time()) > c.delay, nil
	case errors.Is(err, block.ErrMarkNotFound), errors.Is(err, block.ErrMarkCorrupt), errors.Is(err, block.ErrMarkVersion):
	default:
		return false, err
	}
	// It may have become whole since it was listed.
	if whole, err := block.Exists(ctx, c.bkt, id); err != nil || whole {
		return false, err
	}
	newest, err := c.newest(ctx, id)
	if err != nil {
		return false, err
	}
	if newest.IsZero() {
		newest = ulid.Time(id.Time())
	}
	return c.now().Sub(newest) > PartialAge, nil
}

// newest returns when the youngest object of a block was written, zero if that is unknown.
func (c *Cleaner) newest(ctx context.Context, id ulid.ULID) (time.Time, error) {
	var newest time.Time
	var names []string
	prefix := id.String() + objstore.DirDelim
	err := c.bkt.Iter(ctx, prefix, func(name string) error {
		names = append(names, name)
		return nil
	}, objstore.WithRecursiveIter())
	if err != nil {
		return newest, err
	}
	for _, name := range names {
		attrs, err := c.bkt.Attributes(ctx, name)
		if c.bkt.IsObjNotFoundErr(err) {
			continue
		}
		if err != nil {
			return newest, err
		}
		if attrs.LastModified.After(newest) {
			newest = attrs.LastModified
		}
	}
	return newest, nil
}
