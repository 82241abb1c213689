package fetch

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/block"
)

// Fetcher shows a bucket's blocks as its filters leave them. Safe for concurrent use.
type Fetcher struct {
	base    *Base
	filters []Filter
	metrics *metrics

	// prepared holds the last rule of each filter that prepares one. Guarded by the base's turn.
	prepared []Decision
}

// Result is one sync's view of the bucket. It belongs to the caller, but the metas and
// marks it points to are shared and must not be changed.
type Result struct {
	// Metas are the blocks that all filters let pass.
	Metas map[ulid.ULID]*block.Meta
	// Excluded are blocks that a filter left out, and why.
	Excluded map[ulid.ULID]State
	// All are the metas before any filter: for who needs to know of excluded blocks.
	All map[ulid.ULID]*block.Meta
	// Partial are blocks without a usable meta.json; the errors wrap
	// block.ErrMetaNotFound or block.ErrMetaCorrupt. One that was usable before stays in Metas too.
	Partial map[ulid.ULID]error
	// Failed are blocks that could not be read this time, also named in the PartialError.
	// They are in Metas where they were known before.
	Failed map[ulid.ULID]error
	// Marks are the markers that the filters asked for.
	Marks Marks
	// Counts is how many blocks are in each state, zeroes left out.
	Counts map[State]int
}

// NewFetcher puts filters, in their order, over b. reg may be nil; two Fetchers with
// metrics need registries, or prefixes, of their own.
func (b *Base) NewFetcher(reg prometheus.Registerer, filters ...Filter) *Fetcher {
	return &Fetcher{base: b, filters: filters, metrics: newMetrics(reg), prepared: make([]Decision, len(filters))}
}

// Fetch syncs with the bucket.
//
// It returns a result and no error; a result and a *PartialError where some blocks
// could not be read; or no result and the error that ended it (the listing failed, the
// context is over), after which the result of the sync before is the best there is.
func (f *Fetcher) Fetch(ctx context.Context) (*Result, error) {
	begin := time.Now()
	f.metrics.syncs.Inc()
	res, err := f.fetch(ctx)
	f.metrics.duration.Observe(time.Since(begin).Seconds())
	if err != nil {
		f.metrics.failures.Inc()
	}
	if res != nil {
		f.base.logger.Debug("block metadata synced", zap.Duration("took", time.Since(begin)),
			zap.Int("loaded", len(res.Metas)), zap.Int("excluded", len(res.Excluded)),
			zap.Int("partial", len(res.Partial)), zap.Int("failed", len(res.Failed)))
	}
	return res, err
}

func (f *Fetcher) fetch(ctx context.Context) (*Result, error) {
	if err := f.base.acquire(ctx); err != nil {
		return nil, err
	}
	defer f.base.release()

	v, err := f.base.sync(ctx)
	if err != nil {
		return nil, err
	}
	res := &Result{
		Metas:    maps.Clone(v.metas),
		All:      v.metas,
		Excluded: map[ulid.ULID]State{},
		Partial:  v.partial,
		Marks:    newMarks(),
		Counts:   map[State]int{},
	}
	modified := map[Modification]int{}
	if err := f.apply(ctx, v, res, modified); err != nil {
		return nil, err
	}
	res.Failed = v.failed.Blocks
	count(res)
	f.metrics.show(res.Counts, modified)
	if v.failed.empty() {
		return res, nil
	}
	return res, &v.failed
}

// apply runs the filters over res.
func (f *Fetcher) apply(ctx context.Context, v *view, res *Result, modified map[Modification]int) error {
	now := f.base.cfg.Now()
	var have MarkKind
	for i, flt := range f.filters {
		if want := flt.Needs &^ have; want != 0 {
			if err := f.addMarks(ctx, v, res, want); err != nil {
				return err
			}
			have |= want
		}
		decide, err := f.decision(ctx, i)
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			v.failed.Others = append(v.failed.Others, fmt.Errorf("filter %s: %w", flt.Name, err))
		}
		if decide == nil {
			continue
		}
		out := decide(Input{Metas: res.Metas, Marks: res.Marks, Now: now})
		res.take(out)
		for m, n := range out.Modified {
			modified[m] += n
		}
	}
	return nil
}

func (f *Fetcher) addMarks(ctx context.Context, v *view, res *Result, kinds MarkKind) error {
	marks, err := f.base.readMarks(ctx, v, res.Metas, kinds)
	if err != nil {
		return err
	}
	maps.Copy(res.Marks.Deletion, marks.Deletion)
	maps.Copy(res.Marks.NoCompact, marks.NoCompact)
	maps.Copy(res.Marks.NoDownsample, marks.NoDownsample)
	return nil
}

func (f *Fetcher) decision(ctx context.Context, i int) (Decision, error) {
	flt := f.filters[i]
	if flt.Prepare == nil {
		return flt.Decide, nil
	}
	d, err := flt.Prepare(ctx)
	if err != nil {
		return f.prepared[i], err
	}
	f.prepared[i] = d
	return d, nil
}

// take applies a filter's output.
func (r *Result) take(out Output) {
	for id, s := range out.Excluded {
		if _, ok := r.Metas[id]; ok {
			delete(r.Metas, id)
			r.Excluded[id] = s
		}
	}
	for id, m := range out.Replaced {
		if _, ok := r.Metas[id]; ok {
			r.Metas[id] = m
		}
	}
	for s, n := range out.Gathered {
		r.Counts[s] += n
	}
}

func count(r *Result) {
	for _, s := range r.Excluded {
		r.Counts[s]++
	}
	for _, err := range r.Partial {
		if errors.Is(err, block.ErrMetaCorrupt) {
			r.Counts[StateCorruptedMeta]++
		} else {
			r.Counts[StateNoMeta]++
		}
	}
	if n := len(r.Failed); n > 0 {
		r.Counts[StateFailed] += n
	}
	if n := len(r.Metas); n > 0 {
		r.Counts[StateLoaded] += n
	}
}
