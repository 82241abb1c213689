package syncer

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/fetch"
	"github.com/promontory-io/promontory/services/store-gateway/internal/blockread"
	"github.com/promontory-io/promontory/services/store-gateway/internal/indexheader"
	"github.com/promontory-io/promontory/services/store-gateway/internal/rangeread"
	"github.com/promontory-io/promontory/services/store-gateway/internal/requests"
	"github.com/promontory-io/promontory/services/store-gateway/internal/store"
)

// Config is how the bucket is followed.
type Config struct {
	// Interval is from the end of a round to the next one.
	Interval time.Duration
	// Retry is the same after a round that failed, or left out blocks that may be had the
	// next time.
	Retry time.Duration
	// Concurrency is how many blocks are opened at once.
	Concurrency int
	// OnDemand leaves index headers to be made at their first use.
	OnDemand bool
	// IdleCheck is how often idle index headers are looked for; 0 is never.
	IdleCheck time.Duration
	// Dir is the folder of index headers, where those of unknown blocks are deleted.
	Dir string
	// Read is how blocks are read.
	Read blockread.Config
	// Partial are the filters that also apply to blocks whose metadata cannot be used, as
	// far as it is known.
	Partial []fetch.Filter
}

// Deps are what a Syncer works with.
type Deps struct {
	Fetcher *fetch.Fetcher
	Bucket  *rangeread.Bucket
	Opener  *indexheader.Opener
	Blocks  blockread.Deps
	Store   *store.Store
	// Requests counts what is asked of the bucket; nil counts nothing.
	Requests *requests.Counter
	// Check says in plain words what is wrong with the bucket after a round has failed.
	Check  func(context.Context) error
	Logger *zap.Logger
	// Registerer may be nil.
	Registerer prometheus.Registerer
}

// Syncer follows a bucket. Run is called once; the other methods are safe for
// concurrent use.
type Syncer struct {
	cfg     Config
	deps    Deps
	logger  *zap.Logger
	metrics *metrics
	ready   chan struct{}
	// readyOnce closes ready.
	readyOnce sync.Once

	// What follows belongs to the goroutine that syncs.
	blocks map[ulid.ULID]*blockread.Block
	aside  map[ulid.ULID]asideBlock
	// instead are the blocks served in the place of one that is set aside, where they hold all of its data.
	instead map[ulid.ULID][]ulid.ULID
	cleaned bool

	mu    sync.Mutex // guards state
	state State
}

// asideBlock is a block that is not served.
type asideBlock struct {
	store.Aside
	// passing is whether the next round may succeed without anything done about it.
	passing bool
}

// State is what the last round left.
type State struct {
	// Metas are the blocks served, by time.
	Metas []*block.Meta
	// Aside are the blocks that should be served and cannot be.
	Aside []store.Aside
	// Instead are the blocks that are served in the place of one of Aside and hold all of its data: answers lack nothing of it.
	Instead map[ulid.ULID][]ulid.ULID
	// Refreshed is when the last round ended that went through; zero before the first.
	Refreshed time.Time
	// Err is why the last round failed, nil if it did not.
	Err error
}

// New returns a Syncer. It does nothing until Run.
func New(cfg Config, deps Deps) *Syncer {
	return &Syncer{
		cfg: cfg, deps: deps, logger: deps.Logger.Named("sync"), metrics: newMetrics(deps.Registerer),
		ready: make(chan struct{}), blocks: map[ulid.ULID]*blockread.Block{}, aside: map[ulid.ULID]asideBlock{},
	}
}

// Ready is closed when the first round has gone through.
func (s *Syncer) Ready() <-chan struct{} { return s.ready }

// State returns what the last round left.
func (s *Syncer) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// Run syncs until ctx is cancelled and returns its error.
func (s *Syncer) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.loop(ctx) })
	g.Go(func() error { return s.closeIdle(ctx) })
	return g.Wait()
}

// patience is how long the first round is repeated for blocks that could not be read
// yet, before the store goes without them.
const patience = 30 * time.Second

func (s *Syncer) loop(ctx context.Context) error {
	// Reading with patience takes a while to give up: say at once what is wrong.
	if err := s.explain(ctx, nil); err != nil && ctx.Err() == nil {
		s.logger.Warn("the bucket cannot be used", zap.Error(err))
	}
	begin, first := time.Now(), true
	for {
		passing, err := s.sync(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			s.logger.Warn("the bucket cannot be looked through", zap.Error(s.explain(ctx, err)))
		} else if first && (!passing || time.Since(begin) > patience) {
			first = false
			s.makeReady()
		}
		wait := s.cfg.Interval
		if err != nil || passing {
			wait = min(wait, s.cfg.Retry)
		}
		if !sleep(ctx, wait) {
			return ctx.Err()
		}
	}
}

// checkTimeout is how long the bucket may take to say what is wrong with it.
const checkTimeout = 5 * time.Second

// explain prefers what the check says about a bucket that cannot be used at all over
// err.
func (s *Syncer) explain(ctx context.Context, err error) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	if checked := s.deps.Check(ctx); checked != nil {
		return checked
	}
	return err
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// sync makes one round. passing is whether blocks were left out that the next round may
// get.
func (s *Syncer) sync(ctx context.Context) (passing bool, err error) {
	ctx, done := s.deps.Requests.For(ctx, requests.Sync)
	defer done()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.state.Err = err
		if err == nil {
			s.state.Refreshed = time.Now()
		}
	}()
	res, err := s.deps.Fetcher.Fetch(ctx)
	var partial *fetch.PartialError
	if err != nil && (res == nil || !errors.As(err, &partial)) {
		return true, err
	}
	if partial != nil {
		s.logger.Warn("metadata of some blocks is missing", zap.Error(partial))
	}
	before, insteadBefore := s.aside, s.instead
	s.aside = map[ulid.ULID]asideBlock{}
	if err := s.open(ctx, res, res.Metas); err != nil {
		return true, err
	}
	if err := s.serveInstead(ctx, res); err != nil {
		return true, err
	}
	s.tellInstead(insteadBefore)
	s.setAsideUnread(ctx, res, before)
	gone := s.takeGone(res)
	s.publish(before)
	s.letGo(gone)
	if !s.cleaned && partial == nil {
		s.cleaned = true
		s.cleanDir(res)
	}
	for _, a := range s.aside {
		passing = passing || a.passing
	}
	return passing, nil
}

// opened is what became of a block that is new.
type opened struct {
	meta *block.Meta
	b    *blockread.Block
	err  error
}

// open opens those of metas that are new. res is the round they belong to.
func (s *Syncer) open(ctx context.Context, res *fetch.Result, metas map[ulid.ULID]*block.Meta) error {
	var mu sync.Mutex // guards results and failed
	var results []opened
	failed := false
	each := func(list []opened, f func(context.Context, *opened)) error {
		g, gctx := errgroup.WithContext(ctx)
		g.SetLimit(max(s.cfg.Concurrency, 1))
		for i := range list {
			g.Go(func() error {
				f(gctx, &list[i])
				return gctx.Err()
			})
		}
		return g.Wait()
	}
	for id, meta := range metas {
		if _, ok := s.blocks[id]; !ok {
			results = append(results, opened{meta: meta})
		}
	}
	if err := each(results, func(ctx context.Context, o *opened) {
		o.b, o.err = blockread.New(ctx, o.meta, s.cfg.Read, s.deps.Blocks)
	}); err != nil {
		return err
	}
	failed = slices.ContainsFunc(results, func(o opened) bool { return o.err != nil })
	early := time.AfterFunc(s.earlyAfter(res), func() {
		mu.Lock()
		defer mu.Unlock()
		if !failed {
			s.early(results)
		}
	})
	err := each(results, func(ctx context.Context, o *opened) {
		err := s.load(ctx, o.b, o.err)
		mu.Lock()
		defer mu.Unlock()
		o.err = err
		failed = failed || err != nil
	})
	early.Stop()
	if err != nil {
		return err
	}
	mu.Lock() // an early publication ends before the final one
	defer mu.Unlock()
	s.settle(results)
	return nil
}

// settle takes blocks among those served, or sets them aside.
func (s *Syncer) settle(results []opened) {
	for _, r := range results {
		if r.err == nil {
			s.blocks[r.meta.ULID] = r.b
			s.metrics.lastLoaded.SetToCurrentTime()
			continue
		}
		s.aside[r.meta.ULID] = asideBlock{passing: !blockread.Broken(r.err), Aside: store.Aside{
			ID: r.meta.ULID.String(), Known: true, External: r.meta.ExternalLabels(),
			Resolution: r.meta.Thanos.Downsample.Resolution, MinTime: r.meta.MinTime, MaxTime: r.meta.MaxTime,
			Reason: r.err,
		}}
	}
}

// load makes sure that the header of a block can be had, unless that waits for its first use. err is what went wrong before.
func (s *Syncer) load(ctx context.Context, b *blockread.Block, err error) error {
	begin := time.Now()
	s.metrics.loads.Inc()
	if err == nil && !s.cfg.OnDemand {
		ctx, done := s.deps.Requests.For(ctx, requests.IndexHeader)
		err = b.Load(ctx)
		done()
	}
	if err != nil {
		s.metrics.loadFailures.Inc()
		return err
	}
	s.metrics.loadTime.Observe(time.Since(begin).Seconds())
	return nil
}

// patienceForHeaders is how long the first round waits for index headers before the store serves blocks whose headers are still
// being made. A request that needs one of them makes it.
const patienceForHeaders = 500 * time.Millisecond

// earlyAfter is when a round may be shown before it has ended: only the first, and only if all metadata could be read.
func (s *Syncer) earlyAfter(res *fetch.Result) time.Duration {
	if s.deps.Store.Ready() || len(res.Failed) > 0 {
		return math.MaxInt64
	}
	for _, err := range res.Partial {
		if errors.Is(err, block.ErrMetaCorrupt) {
			return math.MaxInt64
		}
	}
	return patienceForHeaders
}

// early serves blocks whose headers may not be there yet.
func (s *Syncer) early(results []opened) {
	blocks := make([]*blockread.Block, len(results))
	metas := make([]*block.Meta, len(results))
	for i, r := range results {
		blocks[i], metas[i] = r.b, r.meta
	}
	slices.SortFunc(blocks, byTime)
	s.deps.Store.Update(blocks, nil)
	s.mu.Lock()
	s.state.Metas = metas
	s.mu.Unlock()
	s.makeReady()
}

func (s *Syncer) makeReady() {
	s.readyOnce.Do(func() {
		s.deps.Store.MakeReady()
		close(s.ready)
	})
}

func byTime(a, b *blockread.Block) int {
	return cmp.Or(cmp.Compare(a.Meta.MinTime, b.Meta.MinTime), a.Meta.ULID.Compare(b.Meta.ULID))
}

// takeGone removes the blocks that are not in the bucket any more from those served.
func (s *Syncer) takeGone(res *fetch.Result) (gone []*blockread.Block) {
	for id, b := range s.blocks {
		if _, ok := res.Metas[id]; !ok {
			gone = append(gone, b)
			delete(s.blocks, id)
		}
	}
	return gone
}

// publish shows the new set to the store and to who asks for the state.
func (s *Syncer) publish(before map[ulid.ULID]asideBlock) {
	blocks := slices.SortedFunc(maps.Values(s.blocks), byTime)
	var aside, missing []store.Aside
	for _, id := range slices.SortedFunc(maps.Keys(s.aside), ulid.ULID.Compare) {
		a := s.aside[id]
		aside = append(aside, a.Aside)
		if s.instead[id] == nil {
			missing = append(missing, a.Aside)
		}
		if old, ok := before[id]; !ok || old.Reason.Error() != a.Reason.Error() {
			s.logger.Warn("block is set aside", zap.String("block", a.ID), zap.Error(a.Reason))
		}
	}
	for id := range before {
		if _, ok := s.aside[id]; !ok {
			s.logger.Info("block is no longer set aside", zap.Stringer("block", id))
		}
	}
	s.deps.Store.Update(blocks, missing)
	s.metrics.loaded.Set(float64(len(blocks)))
	s.metrics.aside.Set(float64(len(aside)))
	metas := make([]*block.Meta, len(blocks))
	for i, b := range blocks {
		metas[i] = b.Meta
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.Metas, s.state.Aside, s.state.Instead = metas, aside, maps.Clone(s.instead)
}

// letGo frees blocks that are not served any more. Requests that still read one find
// its header open until they end.
func (s *Syncer) letGo(gone []*blockread.Block) {
	for _, b := range gone {
		s.metrics.drops.Inc()
		b.Retire()
		if err := s.deps.Opener.Remove(b.ID()); err != nil {
			s.metrics.dropFailures.Inc()
			s.logger.Warn("remove index header", zap.String("block", b.ID()), zap.Error(err))
		}
	}
}

// closeIdle closes index headers that nobody has used for long.
func (s *Syncer) closeIdle(ctx context.Context) error {
	if s.cfg.IdleCheck <= 0 {
		<-ctx.Done()
		return nil
	}
	for sleep(ctx, s.cfg.IdleCheck) {
		for _, b := range s.deps.Store.Blocks() {
			b.CloseIdle()
		}
	}
	return nil
}

// Close frees all blocks. Run must have returned.
func (s *Syncer) Close() {
	for _, b := range s.blocks {
		b.Retire()
	}
}
