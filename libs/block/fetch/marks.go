package fetch

import (
	"context"
	"errors"
	"maps"
	"sync"

	"github.com/oklog/ulid/v2"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/promontory-io/promontory/libs/block"
)

// Marks are the markers of blocks.
type Marks struct {
	Deletion     map[ulid.ULID]*block.DeletionMark
	NoCompact    map[ulid.ULID]*block.NoCompactMark
	NoDownsample map[ulid.ULID]*block.NoDownsampleMark
}

// newMarks returns Marks that can be added to.
func newMarks() Marks {
	return Marks{
		Deletion:     map[ulid.ULID]*block.DeletionMark{},
		NoCompact:    map[ulid.ULID]*block.NoCompactMark{},
		NoDownsample: map[ulid.ULID]*block.NoDownsampleMark{},
	}
}

func (m Marks) forget(gone func(ulid.ULID) bool) {
	maps.DeleteFunc(m.Deletion, func(id ulid.ULID, _ *block.DeletionMark) bool { return gone(id) })
	maps.DeleteFunc(m.NoCompact, func(id ulid.ULID, _ *block.NoCompactMark) bool { return gone(id) })
	maps.DeleteFunc(m.NoDownsample, func(id ulid.ULID, _ *block.NoDownsampleMark) bool { return gone(id) })
}

// markReader reads markers into one Marks from many goroutines.
type markReader struct {
	base *Base
	view *view

	mu  sync.Mutex // guards got and view.failed
	got Marks
}

// readMarks reads the markers of the kinds wanted of blocks, always anew: a mark may
// be taken off and set again, and its time decides over data. Where the listing shows
// markers only those are read. A marker that cannot be read keeps its last good
// state and is entered into the view's failures. The caller holds the turn.
func (b *Base) readMarks(ctx context.Context, v *view, metas map[ulid.ULID]*block.Meta, kinds MarkKind) (Marks, error) {
	r := &markReader{base: b, view: v, got: newMarks()}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(max(b.cfg.Concurrency, listWorkers))
	for id := range metas {
		want := kinds
		if s := v.listing.blocks[id]; v.listing.showsMarks && s != nil {
			want &= s.marks
		}
		if want == 0 {
			continue
		}
		g.Go(func() error {
			r.block(gctx, id, want)
			return ctx.Err()
		})
	}
	if err := g.Wait(); err != nil {
		return Marks{}, err
	}
	b.remember(r.got, metas, kinds)
	return r.got, nil
}

// remember keeps what this sync read of metas as the last good state. Other fetchers
// on the same Base may look at other blocks, so the rest stays.
func (b *Base) remember(got Marks, metas map[ulid.ULID]*block.Meta, kinds MarkKind) {
	if b.marks.Deletion == nil {
		b.marks = newMarks()
	}
	for id := range metas {
		if kinds&DeletionMarks != 0 {
			replace(b.marks.Deletion, got.Deletion, id)
		}
		if kinds&NoCompactMarks != 0 {
			replace(b.marks.NoCompact, got.NoCompact, id)
		}
		if kinds&NoDownsampleMarks != 0 {
			replace(b.marks.NoDownsample, got.NoDownsample, id)
		}
	}
}

// replace makes to[id] what from[id] is, absence included.
func replace[M any](to, from map[ulid.ULID]*M, id ulid.ULID) {
	if m, ok := from[id]; ok {
		to[id] = m
	} else {
		delete(to, id)
	}
}

func (r *markReader) block(ctx context.Context, id ulid.ULID, want MarkKind) {
	last := r.base.marks
	if want&DeletionMarks != 0 {
		m, err := block.ReadDeletionMark(ctx, r.base.bkt, id)
		if known, ok := last.Deletion[id]; ok && errors.Is(err, block.ErrMarkNotFound) {
			m, err = r.takenOff(ctx, id, known, err)
		}
		settleMark(r, id, m, err, last.Deletion, r.got.Deletion)
	}
	if want&NoCompactMarks != 0 {
		m, err := block.ReadNoCompactMark(ctx, r.base.bkt, id)
		settleMark(r, id, m, err, last.NoCompact, r.got.NoCompact)
	}
	if want&NoDownsampleMarks != 0 {
		m, err := block.ReadNoDownsampleMark(ctx, r.base.bkt, id)
		settleMark(r, id, m, err, last.NoDownsample, r.got.NoDownsample)
	}
}

// takenOff tells apart why a deletion mark that was there is no more: it was taken off, or all of
// the block has gone since it was listed, the mark last. Without its mark a block of which nothing is
// left would pass for one that has to be there.
func (r *markReader) takenOff(ctx context.Context, id ulid.ULID, known *block.DeletionMark, notFound error) (*block.DeletionMark, error) {
	whole, err := block.Exists(ctx, r.base.bkt, id)
	switch {
	case err != nil:
		return nil, err
	case whole:
		return nil, notFound
	}
	return known, nil
}

func settleMark[M any](r *markReader, id ulid.ULID, m *M, err error, last, got map[ulid.ULID]*M) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err == nil:
		got[id] = m
	case errors.Is(err, block.ErrMarkNotFound):
	case errors.Is(err, block.ErrMarkCorrupt):
		r.base.logger.Warn("unusable marker ignored", zap.Stringer("block", id), zap.Error(err))
	default:
		if known, ok := last[id]; ok {
			got[id] = known
		}
		r.view.failed.add(id, err)
	}
}
