package run

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/thanos-io/objstore"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/fetch"
	"github.com/promontory-io/promontory/services/compactor/internal/clean"
	"github.com/promontory-io/promontory/services/compactor/internal/job"
	"github.com/promontory-io/promontory/services/compactor/internal/plan"
	"github.com/promontory-io/promontory/services/compactor/internal/retention"
)

// The lanes.
const (
	laneCompact    = "compaction"
	laneDownsample = "downsampling"
	laneUpkeep     = "upkeep"
	laneRetention  = "retention"
)

// Config is how the compactor works.
type Config struct {
	// Vertical allows blocks that overlap to be merged.
	Vertical bool
	// Downsampling makes 5m and 1h blocks.
	Downsampling bool
	// MaxIndexBytes and Ranges are those of package plan.
	MaxIndexBytes int64
	Ranges        []int64
	// CompactConcurrency and DownsampleConcurrency are how many jobs of a kind run at once.
	CompactConcurrency, DownsampleConcurrency int
	// DeleteDelay is how long a marked block stays.
	DeleteDelay time.Duration
	Retention   retention.Rules
	// WaitInterval is between iterations, CleanupInterval between clean-ups,
	// ProgressInterval between calculations of what is left. 0 switches the last two off.
	WaitInterval, CleanupInterval, ProgressInterval time.Duration
	// Attempts is how often a one-shot run tries a job that fails for no lasting reason.
	Attempts int
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Guard is asked before anything is changed; nil allows all.
	Guard func() error
}

// Deps are what a Runner works with.
type Deps struct {
	Logger *zap.Logger
	Bucket objstore.Bucket
	// Fetcher shows the blocks that this compactor is responsible for, see Filters.
	Fetcher  *fetch.Fetcher
	Executor *job.Executor
	// Registerer may be nil.
	Registerer prometheus.Registerer
}

// Runner is the compactor. Safe for concurrent use.
type Runner struct {
	cfg     Config
	logger  *zap.Logger
	bkt     objstore.Bucket
	fetcher *fetch.Fetcher
	exec    *job.Executor
	cleaner *clean.Cleaner
	metrics *metrics
	state   *state

	sizesMu sync.Mutex // guards what follows
	// sizes are of blocks whose meta.json does not list its files.
	sizes map[ulid.ULID][2]int64
	// sound are blocks whose objects were found to be there.
	sound map[ulid.ULID]bool
	// all are the metas as they are in the bucket, replica labels included.
	all map[ulid.ULID]*block.Meta
}

// New returns a Runner.
func New(cfg Config, d Deps) *Runner {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Guard == nil {
		cfg.Guard = func() error { return nil }
	}
	if cfg.Attempts < 1 {
		cfg.Attempts = 3
	}
	return &Runner{
		cfg: cfg, logger: d.Logger.Named("run"), bkt: d.Bucket, fetcher: d.Fetcher, exec: d.Executor,
		cleaner: clean.New(d.Logger, d.Bucket, cfg.DeleteDelay, cfg.Now, cfg.Guard),
		metrics: newMetrics(d.Registerer), state: newState(),
		sizes: map[ulid.ULID][2]int64{}, sound: map[ulid.ULID]bool{},
	}
}

// Snapshot shows what is going on.
func (r *Runner) Snapshot() Snapshot { return r.state.snapshot() }

// view is the bucket as a lane found it.
type view struct {
	res    *fetch.Result
	blocks []*plan.Block
}

// sync looks at the bucket. Blocks that could not be read now do not keep the others: a
// partial view is a view.
func (r *Runner) sync(ctx context.Context) (*view, error) {
	res, err := r.fetcher.Fetch(ctx)
	var partial *fetch.PartialError
	switch {
	case err == nil:
	case res != nil && errors.As(err, &partial):
		r.logger.Warn("view of the bucket is incomplete", zap.Error(err))
		r.metrics.retries.Inc()
	default:
		r.metrics.retries.Inc()
		r.state.synced0(err)
		return nil, fmt.Errorf("look at the bucket: %w", err)
	}
	v := &view{res: res}
	now := r.cfg.Now()
	var metas []*block.Meta
	var marked []Aside
	for id, m := range res.Metas {
		b := plan.NewBlock(m, res.Marks)
		if mark, ok := res.Marks.NoCompact[id]; ok {
			marked = append(marked, Aside{Block: id.String(), Reason: mark.Details, Marked: true})
		}
		if r.state.isWaiting(id, now) {
			b.NoCompact, b.NoDownsample = true, true
		}
		// A block that could not be read this time is left out of all that changes something.
		if _, failed := res.Failed[id]; failed {
			b.NoCompact, b.NoDownsample = true, true
		}
		if b.IndexBytes == 0 {
			r.askSizes(ctx, b)
		}
		v.blocks = append(v.blocks, b)
		metas = append(metas, m)
	}
	r.remember(res)
	r.state.seen(now, metas, v.blocks, marked)
	r.quarantineUnreadable(ctx, res)
	r.metrics.quarantined.Set(float64(countQuarantined(res.Marks.NoCompact)))
	return v, nil
}

func (s *state) synced0(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *state) seen(now time.Time, metas []*block.Meta, blocks []*plan.Block, marked []Aside) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.synced, s.err, s.metas, s.blocks, s.marked = now, nil, metas, blocks, marked
}

// remember keeps the metas and forgets what was known of blocks that have gone.
func (r *Runner) remember(res *fetch.Result) {
	r.sizesMu.Lock()
	defer r.sizesMu.Unlock()
	r.all = res.All
	gone := func(id ulid.ULID) bool {
		_, whole := res.All[id]
		_, partial := res.Partial[id]
		return !whole && !partial
	}
	maps.DeleteFunc(r.sizes, func(id ulid.ULID, _ [2]int64) bool { return gone(id) })
	maps.DeleteFunc(r.sound, func(id ulid.ULID, _ bool) bool { return gone(id) })
}

// askSizes asks the bucket for the size of an index that meta.json does not tell. What
// cannot be found out stays unknown.
func (r *Runner) askSizes(ctx context.Context, b *plan.Block) {
	r.sizesMu.Lock()
	known, ok := r.sizes[b.ID()]
	r.sizesMu.Unlock()
	if !ok {
		attrs, err := r.bkt.Attributes(ctx, block.ObjectName(b.ID(), block.IndexFilename))
		if err != nil {
			return
		}
		// Chunks are several times the index; the estimate serves the time left only.
		known = [2]int64{attrs.Size, attrs.Size + int64(float64(b.Meta.Stats.NumSamples)*1.5)}
		r.sizesMu.Lock()
		r.sizes[b.ID()] = known
		r.sizesMu.Unlock()
	}
	b.IndexBytes, b.SizeBytes = known[0], known[1]
}

// options are those of planning. Jobs that rest are left out unless all is set.
func (r *Runner) options(all bool) plan.Options {
	now := r.cfg.Now()
	o := plan.Options{
		Ranges: r.cfg.Ranges, Vertical: r.cfg.Vertical, Downsampling: r.cfg.Downsampling,
		MaxIndexBytes: r.cfg.MaxIndexBytes, Now: now,
	}
	if !all {
		o.Skip = func(key string) bool { return r.state.isResting(key, now) }
	}
	return o
}

// Plan plays through what is to be done, until nothing is left.
func (r *Runner) Plan(ctx context.Context) ([]plan.Plan, error) {
	v, err := r.sync(ctx)
	if err != nil {
		return nil, err
	}
	rounds, _ := plan.Simulate(v.blocks, r.options(true))
	return rounds, nil
}

// Filters returns the filters of a compactor's fetcher, in their order, behind those that
// choose its share of the bucket.
//
// Blocks marked for deletion are out at once: their data must not be merged into new blocks,
// and they must not vouch for others.
func Filters(share []fetch.Filter, replicaLabels []string) []fetch.Filter {
	return append(append([]fetch.Filter(nil), share...),
		fetch.IgnoreDeletionMark(0),
		fetch.RemoveReplicaLabels(replicaLabels...),
		fetch.Deduplicate(),
		fetch.GatherNoCompactMarks(),
		fetch.GatherNoDownsampleMarks(),
	)
}
