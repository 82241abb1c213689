package store

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/budget"
	"github.com/promontory-io/promontory/libs/gate"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/services/store-gateway/internal/blockread"
	"github.com/promontory-io/promontory/services/store-gateway/internal/blockset"
)

// Config is how requests are answered.
type Config struct {
	// Component is how the store calls itself in Info.
	Component string
	// MinTime and MaxTime bound what is served, Unix milliseconds; nil is no bound. They are
	// asked for each request because they may move with the clock.
	MinTime, MaxTime func() int64
	// Concurrency is how many large Series requests are answered at once; 0 is any number. Small ones, and look-ups of few series,
	// have a lane of this width each, so that they need not wait for large ones.
	Concurrency int
	// RequestBytes is how many bytes of chunks one request holds, about, where memory is not short.
	RequestBytes int64
	// SlowClient is how long a client may not read what it asked for while other requests wait; 0 is as long as it likes.
	SlowClient time.Duration
	// MaxSeries, MaxChunks and MaxBytes are what one request may touch; 0 is no limit.
	MaxSeries, MaxChunks, MaxBytes uint64
}

// Block is a block with what choosing needs.
type Block = blockread.Block

// Store answers over a set of blocks that changes as a whole. It is safe for
// concurrent use.
type Store struct {
	cfg     Config
	logger  *zap.Logger
	metrics *metrics
	lanes   [numLanes]*gate.Gate
	widths  [numLanes]int // of the lanes; 0 is any number
	budget  *budget.Budget
	turns   turns
	view    atomic.Pointer[view]
	// ready is whether the bucket has been looked through once.
	ready atomic.Bool
}

var _ storeapi.Store = (*Store)(nil)

// view is what is known of the bucket at one time. It is never changed.
type view struct {
	blocks []*Block
	sets   []*blockset.Set[*Block]
	aside  []Aside
}

// New returns a store without blocks that is not ready. mem bounds what all requests hold; nil does not. reg may be nil.
func New(cfg Config, mem *budget.Budget, logger *zap.Logger, reg prometheus.Registerer) *Store {
	s := &Store{cfg: cfg, logger: logger, budget: mem, turns: turns{all: map[*turn]struct{}{}}, metrics: newMetrics(reg)}
	s.widths = [numLanes]int{
		largeLookUps: largeLookUpsAtOnce, smallLookUps: cfg.Concurrency, largeAnswers: cfg.Concurrency, smallAnswers: cfg.Concurrency,
	}
	for l, width := range s.widths {
		var shown prometheus.Registerer // metrics are for the gate that there always was
		if lane(l) == largeAnswers {
			shown = reg
		}
		s.lanes[l] = gate.NewFactory(shown, "thanos_bucket_store_series_gate_queries", width).New()
	}
	s.view.Store(&view{})
	return s
}

// Update replaces the blocks that are served and those that are not although they
// should be.
func (s *Store) Update(blocks []*Block, aside []Aside) {
	sets := blockset.Group(blocks,
		func(b *Block) labels.Labels { return b.External },
		func(b *Block) blockset.Span {
			return blockset.Span{
				ID: b.ID(), MinTime: b.Meta.MinTime, MaxTime: b.Meta.MaxTime,
				Resolution: b.Meta.Thanos.Downsample.Resolution,
			}
		})
	s.view.Store(&view{blocks: slices.Clone(blocks), sets: sets, aside: slices.Clone(aside)})
}

// Blocks are the blocks that are served. The slice must not be changed.
func (s *Store) Blocks() []*Block { return s.view.Load().blocks }

// Ready reports whether the bucket has been looked through once.
func (s *Store) Ready() bool { return s.ready.Load() }

// MakeReady says that the bucket has been looked through. Until then requests are
// refused.
func (s *Store) MakeReady() { s.ready.Store(true) }

// current returns the view for a request.
func (s *Store) current() (*view, error) {
	if !s.Ready() {
		return nil, storeapi.Unavailablef("not ready: the first look through the bucket has not ended")
	}
	return s.view.Load(), nil
}

// clip bounds a range of time by what is served; false when nothing is left.
func (s *Store) clip(mint, maxt int64) (int64, int64, bool) {
	lo, hi := s.bounds()
	mint, maxt = max(mint, lo), min(maxt, hi)
	return mint, maxt, mint <= maxt
}

func (s *Store) bounds() (lo, hi int64) {
	lo, hi = math.MinInt64, math.MaxInt64
	if s.cfg.MinTime != nil {
		lo = s.cfg.MinTime()
	}
	if s.cfg.MaxTime != nil {
		hi = s.cfg.MaxTime()
	}
	return lo, hi
}

// part is what one set of blocks is asked.
type part struct {
	set      *blockset.Set[*Block]
	matchers []*labels.Matcher // without the external ones
}

// parts are the sets whose external labels the matchers accept.
func (v *view) parts(ms []*labels.Matcher) (out []part) {
	for _, set := range v.sets {
		if rest, ok := storeapi.MatchExternal(set.External, ms); ok {
			out = append(out, part{set: set, matchers: rest})
		}
	}
	return out
}

// errNoMatchers is what a request gets that would read whole blocks.
func errNoMatchers(ms []*labels.Matcher) error {
	return storeapi.Invalidf("no matchers are left of %s besides those on external labels", storeapi.FormatMatchers(ms))
}

// failure turns what ended a request into an error of a kind: its own one, or that of
// a source that failed.
func failure(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	if kindOf(err) {
		return err
	}
	return &aborted{err: err}
}

// aborted gives an error the kind ErrAborted and leaves its text alone.
type aborted struct{ err error }

func (e *aborted) Error() string   { return e.err.Error() }
func (e *aborted) Unwrap() []error { return []error{storeapi.ErrAborted, e.err} }
