package fetch

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"
	"unique"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/thanos-io/objstore"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/promontory-io/promontory/libs/block"
)

// DefaultConcurrency is how many small objects are read at once by default.
const DefaultConcurrency = 32

// Config says how a Base finds and reads blocks.
type Config struct {
	// Strategy is Concurrent where it is empty.
	Strategy Strategy
	// Concurrency is how many meta.json and marker files are read at once; below 1
	// means DefaultConcurrency.
	Concurrency int
	// CacheDir is the folder below which the metas are kept over restarts, as
	// <CacheDir>/meta-syncer/<ULID>/meta.json. Empty keeps them in memory only.
	CacheDir string
	// Now is the clock given to filters; nil means time.Now.
	Now func() time.Time
}

// Base finds blocks and reads what is known of them. Several Fetchers may share
// one; their syncs take turns. Safe for concurrent use.
type Base struct {
	logger  *zap.Logger
	bkt     objstore.BucketReader
	cfg     Config
	disk    *diskCache
	metrics baseMetrics

	// turn holds a token while a sync runs. It guards known and marks, and unlike
	// a mutex it can be waited for with a context.
	turn  chan struct{}
	known map[ulid.ULID]knownMeta
	marks Marks // last good markers of blocks
}

// Close waits until the disk cache has all that was read, and stops that work when ctx is
// over: what is missing is read again after a restart. Not closing a Base does no harm.
func (b *Base) Close(ctx context.Context) { b.disk.close(ctx) }

type knownMeta struct {
	meta     *block.Meta
	modified time.Time
}

type baseMetrics struct {
	syncs      prometheus.Counter
	cacheBusts prometheus.Counter
}

// NewBase returns a Base over bkt. logger and reg may be nil.
func NewBase(logger *zap.Logger, bkt objstore.BucketReader, cfg Config, reg prometheus.Registerer) (*Base, error) {
	if logger == nil {
		logger = zap.NewNop()
	}
	if cfg.Strategy == "" {
		cfg.Strategy = Concurrent
	}
	if _, err := ParseStrategy(string(cfg.Strategy)); err != nil {
		return nil, err
	}
	if cfg.Concurrency < 1 {
		cfg.Concurrency = DefaultConcurrency
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	logger = logger.Named("fetch")
	disk, err := openDiskCache(logger, cfg.CacheDir)
	if err != nil {
		return nil, fmt.Errorf("open cache of block metadata: %w", err)
	}
	f := promauto.With(reg)
	return &Base{
		logger: logger,
		bkt:    quietReader(bkt),
		cfg:    cfg,
		disk:   disk,
		turn:   make(chan struct{}, 1),
		known:  map[ulid.ULID]knownMeta{},
		metrics: baseMetrics{
			syncs: f.NewCounter(prometheus.CounterOpts{
				Name: "thanos_blocks_meta_base_syncs_total",
				Help: "Listings of the bucket for block metadata, shared by all fetchers.",
			}),
			cacheBusts: f.NewCounter(prometheus.CounterOpts{
				Name: "thanos_blocks_meta_base_cache_busts_total",
				Help: "Cached block metadata dropped because meta.json changed in the bucket.",
			}),
		},
	}, nil
}

// quietReader keeps objects that are not there, a normal answer for markers, out of
// the bucket's failure metrics where it has them.
func quietReader(bkt objstore.BucketReader) objstore.BucketReader {
	if ib, ok := bkt.(objstore.InstrumentedBucketReader); ok {
		return ib.ReaderWithExpectedErrs(bkt.IsObjNotFoundErr)
	}
	return bkt
}

// view is what a sync found, before filters.
type view struct {
	listing *listing
	metas   map[ulid.ULID]*block.Meta
	partial map[ulid.ULID]error
	failed  PartialError
}

// acquire waits for the turn of this sync; release gives it on.
func (b *Base) acquire(ctx context.Context) error {
	select {
	case b.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (b *Base) release() { <-b.turn }

// sync lists the bucket and reads what is new. The caller holds the turn.
func (b *Base) sync(ctx context.Context) (*view, error) {
	b.metrics.syncs.Inc()
	l, err := list(ctx, b.bkt, b.cfg.Strategy)
	if err != nil {
		return nil, err
	}
	v := &view{listing: l, metas: make(map[ulid.ULID]*block.Meta, len(l.blocks)), partial: map[ulid.ULID]error{}}
	missing := b.takeKnown(v)
	fresh, err := b.readMissing(ctx, v, missing)
	gone := func(id ulid.ULID) bool {
		s, ok := l.blocks[id]
		return !ok || (s.err == nil && !s.hasMeta)
	}
	b.disk.update(fresh, gone)
	if err != nil {
		return nil, err
	}
	maps.DeleteFunc(b.known, func(id ulid.ULID, _ knownMeta) bool { return gone(id) })
	b.marks.forget(gone)
	return v, nil
}

// takeKnown fills the view with what needs no reading and returns what does.
func (b *Base) takeKnown(v *view) []ulid.ULID {
	var missing []ulid.ULID
	for id, s := range v.listing.blocks {
		known, ok := b.known[id]
		switch {
		case s.err != nil:
			v.failed.add(id, s.err)
			if ok {
				v.metas[id] = known.meta
			}
		case !s.hasMeta:
			v.partial[id] = fmt.Errorf("block %s: %w", id, block.ErrMetaNotFound)
		case ok && !changed(known.modified, s.modified):
			v.metas[id] = known.meta
		default:
			if ok {
				b.metrics.cacheBusts.Inc()
			}
			missing = append(missing, id)
		}
	}
	return missing
}

// changed reports whether two times at which one object was seen written differ.
// Providers tell it with different precision in different answers.
func changed(a, b time.Time) bool {
	if a.IsZero() || b.IsZero() {
		return false
	}
	return !a.Truncate(time.Second).Equal(b.Truncate(time.Second))
}

// readMissing reads metas into the view, and returns those that came from the bucket.
func (b *Base) readMissing(ctx context.Context, v *view, missing []ulid.ULID) ([]knownMeta, error) {
	var fresh []knownMeta
	var mu sync.Mutex // guards v, b.known and fresh
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(b.cfg.Concurrency)
	for _, id := range missing {
		modified := v.listing.blocks[id].modified
		g.Go(func() error {
			m, cached, err := b.read(gctx, id, modified)
			mu.Lock()
			defer mu.Unlock()
			b.settle(v, id, m, modified, err)
			if err == nil && !cached {
				fresh = append(fresh, knownMeta{meta: m, modified: modified})
			}
			return ctx.Err()
		})
	}
	err := g.Wait()
	return fresh, err
}

// settle enters the outcome of reading one meta.json into the view.
func (b *Base) settle(v *view, id ulid.ULID, m *block.Meta, modified time.Time, err error) {
	if err == nil {
		v.metas[id] = m
		b.known[id] = knownMeta{meta: m, modified: modified}
		return
	}
	if errors.Is(err, block.ErrMetaNotFound) {
		v.partial[id] = err
		return
	}
	if errors.Is(err, block.ErrMetaCorrupt) {
		v.partial[id] = err
	} else {
		v.failed.add(id, err)
	}
	// A meta.json that was good and now cannot be read is being written anew, or the
	// bucket has a bad moment: what was known of the block still holds.
	if known, ok := b.known[id]; ok {
		v.metas[id] = known.meta
	}
}

// read gets one meta.json from disk, else from the bucket.
func (b *Base) read(ctx context.Context, id ulid.ULID, modified time.Time) (m *block.Meta, cached bool, err error) {
	if m, ok := b.disk.load(id, modified); ok {
		return intern(m), true, nil
	}
	m, err = block.FetchMeta(ctx, b.bkt, id)
	if err != nil {
		return nil, false, err
	}
	return intern(m), false, nil
}

// intern shares the strings that nearly all blocks have in common.
func intern(m *block.Meta) *block.Meta {
	lset := make(map[string]string, len(m.Thanos.Labels))
	for k, v := range m.Thanos.Labels {
		lset[unique.Make(k).Value()] = unique.Make(v).Value()
	}
	m.Thanos.Labels = lset
	for i, s := range m.Thanos.SegmentFiles {
		m.Thanos.SegmentFiles[i] = unique.Make(s).Value()
	}
	for i := range m.Thanos.Files {
		m.Thanos.Files[i].RelPath = unique.Make(m.Thanos.Files[i].RelPath).Value()
	}
	return m
}
