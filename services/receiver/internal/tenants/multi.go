package tenants

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/ship"
	"github.com/promontory-io/promontory/libs/objstore"
	"github.com/promontory-io/promontory/libs/tenancy"
	"github.com/promontory-io/promontory/services/receiver/internal/remotewrite"
	"github.com/promontory-io/promontory/services/receiver/internal/verdict"
)

// How often upkeep looks, and how many tenants it uploads for at once.
const (
	cutInterval    = 15 * time.Second
	uploadInterval = 30 * time.Second
	pruneInterval  = 5 * time.Minute
	reopenInterval = 5 * time.Second
	uploadsAtOnce  = 4
)

// Deps are what the tenants work with.
type Deps struct {
	// Bucket takes the blocks; nil keeps them here.
	Bucket objstore.Bucket
	// RingLabels are those that a tenant's hashring adds; nil adds none.
	RingLabels func(tenant string) labels.Labels
	Logger     *zap.Logger
	Registerer prometheus.Registerer
}

// Multi is all tenants. It is safe for concurrent use.
type Multi struct {
	opts    Options
	deps    Deps
	metrics *metrics
	openers sync.WaitGroup
	slots   chan struct{} // bounds how many databases are opened at once

	mu      sync.RWMutex
	tenants map[string]*Tenant // guarded by mu
	closed  bool               // guarded by mu
	ctx     context.Context    //nolint:containedctx // of the openers; ends with the process, not with a request
	cancel  context.CancelFunc
}

// New returns the tenants of a folder; none is open before Start.
func New(opts Options, deps Deps) *Multi {
	if deps.RingLabels == nil {
		deps.RingLabels = func(string) labels.Labels { return labels.EmptyLabels() }
	}
	m := &Multi{opts: opts, deps: deps, tenants: map[string]*Tenant{}, slots: make(chan struct{}, max(2, runtime.GOMAXPROCS(0)))}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.metrics = newMetrics(deps.Registerer, m)
	return m
}

// Start begins to open all tenants there are, those written last first, and returns at once.
func (m *Multi) Start() error {
	if err := os.MkdirAll(m.opts.Dir, 0o777); err != nil {
		return err
	}
	entries, err := os.ReadDir(m.opts.Dir)
	if err != nil {
		return fmt.Errorf("list tenants: %w", err)
	}
	type found struct {
		name string
		last time.Time
	}
	var all []found
	for _, e := range entries {
		if !e.IsDir() || checkName(e.Name()) != nil {
			continue
		}
		f := found{name: e.Name()}
		if st, err := os.Stat(filepath.Join(m.opts.Dir, e.Name(), "wal")); err == nil {
			f.last = st.ModTime()
		}
		all = append(all, f)
	}
	slices.SortFunc(all, func(a, b found) int { return cmp.Or(b.last.Compare(a.last), cmp.Compare(a.name, b.name)) })
	for _, f := range all {
		if _, err := m.tenant(f.name); err != nil {
			return err
		}
	}
	return nil
}

// checkName returns a [tenancy.ErrInvalid] for a tenant that cannot have a folder: the name becomes that of
// one, and nothing in it may lead out of ours.
func checkName(name string) error {
	if err := tenancy.Validate(name); err != nil {
		return err
	}
	// What file systems keep for themselves would not be found again at the next start.
	if name == "lost+found" || len(name) > 255 || strings.ContainsRune(name, 0) {
		return fmt.Errorf("%w: %q cannot be the name of a folder", tenancy.ErrInvalid, name)
	}
	return nil
}

// Create makes a tenant before its first write.
func (m *Multi) Create(tenant string) error {
	_, err := m.tenant(tenant)
	return err
}

// tenant returns a tenant, and begins to open it where it is new.
func (m *Multi) tenant(name string) (*Tenant, error) {
	if t := m.Tenant(name); t != nil {
		return t, nil
	}
	if err := checkName(name); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if t := m.tenants[name]; t != nil {
		return t, nil
	}
	if m.closed {
		return nil, fmt.Errorf("%w: the process is stopping", ErrUnavailable)
	}
	t, err := m.newTenant(name)
	if err != nil {
		return nil, err
	}
	m.tenants[name] = t
	t.begin(time.Now())
	m.openers.Go(func() {
		m.slots <- struct{}{}
		defer func() { <-m.slots }()
		m.metrics.updatesAttempted.Inc()
		t.openDB(m.ctx)
		m.metrics.updatesCompleted.Inc()
	})
	return t, nil
}

func (m *Multi) newTenant(name string) (*Tenant, error) {
	t := &Tenant{
		name: name, dir: filepath.Join(m.opts.Dir, name), opts: &m.opts,
		external: func() labels.Labels { return m.external(name) },
		logger:   m.deps.Logger.Named("tenant").With(zap.String("tenant", name)),
		reg:      newRegisterer(m.deps.Registerer, name),
		metrics:  m.metrics, meta: newMetadata(), cache: newSeriesCache(),
	}
	if m.deps.Bucket == nil {
		return t, nil
	}
	reg := newRegisterer(m.deps.Registerer, name)
	s, err := ship.New(t.logger, m.deps.Bucket, ship.Config{
		Dir: t.dir, Labels: t.external, Source: block.SourceReceive, HashFunc: m.opts.HashFunc,
		UploadConcurrency: m.opts.UploadConcurrency, AllowOutOfOrder: m.opts.UploadOutOfOrder,
		SkipCorrupted: m.opts.SkipCorrupted,
	}, reg.orNil())
	if err != nil {
		return nil, fmt.Errorf("shipper of tenant %s: %w", name, err)
	}
	t.shipper, t.shipReg = s, reg
	return t, nil
}

// external are a tenant's external labels: its own label over those of the process over the ring's.
func (m *Multi) external(tenant string) labels.Labels {
	b := labels.NewBuilder(m.deps.RingLabels(tenant))
	m.opts.Labels.Range(func(l labels.Label) { b.Set(l.Name, l.Value) })
	return b.Set(m.opts.TenantLabel, tenant).Labels()
}

// Tenant returns a tenant, nil where there is none of that name.
func (m *Multi) Tenant(name string) *Tenant {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.tenants[name]
}

// Tenants are all tenants, sorted by name.
func (m *Multi) Tenants() []*Tenant {
	m.mu.RLock()
	out := make([]*Tenant, 0, len(m.tenants))
	for _, t := range m.tenants {
		out = append(out, t)
	}
	m.mu.RUnlock()
	slices.SortFunc(out, func(a, b *Tenant) int { return cmp.Compare(a.name, b.name) })
	return out
}

func (m *Multi) replaying() (n int) {
	for _, t := range m.Tenants() {
		t.mu.RLock()
		if t.state == opening {
			n++
		}
		t.mu.RUnlock()
	}
	return n
}

// Append writes series of a tenant, see [Tenant.Append]. A new tenant is created. Besides
// [ErrUnavailable] the error may be [tenancy.ErrInvalid].
func (m *Multi) Append(ctx context.Context, tenant string, series []remotewrite.Series, pick []uint32) ([]verdict.Failure, error) {
	t, err := m.tenant(tenant)
	if err != nil {
		return nil, err
	}
	return t.Append(ctx, series, pick)
}

// Run keeps the tenants in order until ctx is done: heads are cut, blocks uploaded, idle tenants removed,
// broken databases opened again.
func (m *Multi) Run(ctx context.Context) error {
	var g errgroup.Group
	g.Go(func() error { every(ctx, cutInterval, m.cutAll); return nil })
	g.Go(func() error { every(ctx, reopenInterval, m.reopenAll); return nil })
	g.Go(func() error { every(ctx, pruneInterval, m.pruneAll); return nil })
	if m.deps.Bucket != nil {
		g.Go(func() error { every(ctx, uploadInterval, m.uploadAll); return nil })
	}
	return g.Wait()
}

// cutAll takes one tenant after the other: many cuts at once would take the processor from writes.
func (m *Multi) cutAll(ctx context.Context) {
	for _, t := range m.Tenants() {
		if ctx.Err() != nil {
			return
		}
		m.report(stepCut, t, t.cut(ctx))
	}
}

func (m *Multi) uploadAll(ctx context.Context) {
	var g errgroup.Group
	g.SetLimit(uploadsAtOnce)
	for _, t := range m.Tenants() {
		g.Go(func() error {
			if ctx.Err() == nil {
				m.report(stepUpload, t, t.upload(ctx))
			}
			return nil
		})
	}
	_ = g.Wait()
}

func (m *Multi) pruneAll(ctx context.Context) {
	for _, t := range m.Tenants() {
		if ctx.Err() != nil || !t.expired() {
			continue
		}
		if err := t.prune(ctx); err != nil {
			m.report(stepPrune, t, err)
			t.mu.Lock()
			t.state, t.why = broken, err // to be opened again, and tried again
			t.mu.Unlock()
			continue
		}
		t.shipReg.unregisterAll()
		m.mu.Lock()
		delete(m.tenants, t.name)
		m.mu.Unlock()
	}
}

func (m *Multi) reopenAll(ctx context.Context) {
	for _, t := range m.Tenants() {
		t.mu.RLock()
		again := t.state == broken
		t.mu.RUnlock()
		if again && ctx.Err() == nil {
			t.reopen(m.ctx)
		}
	}
}

// Flush turns the heads of all tenants into blocks, one tenant after the other, and uploads them: what they hold belongs to
// other nodes from now on. Failures are reported, and made good by the usual upkeep.
func (m *Multi) Flush(ctx context.Context) {
	for _, t := range m.Tenants() {
		if ctx.Err() != nil {
			return
		}
		m.report(stepFlush, t, t.flushNow(ctx))
	}
}

func (m *Multi) report(step string, t *Tenant, err error) {
	if err == nil || errors.Is(err, context.Canceled) {
		return
	}
	m.metrics.upkeepFailures.WithLabelValues(step).Inc()
	t.logger.Warn("upkeep of a tenant", zap.String("step", step), zap.Error(err))
}

// Stop refuses writes, flushes and uploads what there is, and closes all databases. It is called once,
// when Run has returned.
func (m *Multi) Stop(ctx context.Context) error {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	var g errgroup.Group
	g.SetLimit(max(2, runtime.GOMAXPROCS(0)))
	var mu sync.Mutex
	var errs []error
	for _, t := range m.Tenants() {
		g.Go(func() error {
			if err := t.close(ctx); err != nil {
				mu.Lock()
				errs = append(errs, fmt.Errorf("close tenant %s: %w", t.name, err))
				mu.Unlock()
			}
			return nil
		})
	}
	_ = g.Wait()
	m.cancel()
	m.openers.Wait()
	return errors.Join(errs...)
}
