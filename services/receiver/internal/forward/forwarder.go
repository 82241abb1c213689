package forward

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/hashring"
	"github.com/promontory-io/promontory/services/receiver/internal/quorum"
	"github.com/promontory-io/promontory/services/receiver/internal/remotewrite"
	"github.com/promontory-io/promontory/services/receiver/internal/verdict"
)

// Errors of Write that are not about series.
var (
	// ErrNoHashring says that no hashring was loaded yet. Try again.
	ErrNoHashring = errors.New("no hashring is loaded yet")
	// ErrBadReplica says that a request claims to be a copy there is no place for.
	ErrBadReplica = errors.New("bad replica number")
)

// Config is how writes are forwarded.
type Config struct {
	// Local is our own address in the rings, "" where nothing is kept here.
	Local string
	// Replicas is how many nodes each series goes to.
	Replicas int
	// Timeout is how long a node may take, MaxBackoff how long it is left alone at most after it failed.
	Timeout, MaxBackoff time.Duration
	// PendingBytes is how much may wait for one node.
	PendingBytes int64
}

// DefaultConfig returns what holds unless said otherwise.
func DefaultConfig() Config {
	return Config{Replicas: 1, Timeout: 5 * time.Second, MaxBackoff: 5 * time.Second, PendingBytes: 64 << 20}
}

// Local keeps what belongs to this process.
type Local interface {
	// Append writes the series that pick names and returns those that failed, with places in pick.
	Append(ctx context.Context, tenant string, series []remotewrite.Series, pick []uint32) ([]verdict.Failure, error)
	// Describe keeps metadata.
	Describe(tenant string, ms []remotewrite.Metadata)
}

// Deps are what a forwarder works with.
type Deps struct {
	// Dial connects to a node.
	Dial func(addr string) (Conn, error)
	// Local is nil where nothing is kept here.
	Local      Local
	Logger     *zap.Logger
	Registerer prometheus.Registerer
}

// Forwarder spreads writes over the nodes. It is safe for concurrent use.
type Forwarder struct {
	cfg     Config
	deps    Deps
	metrics *metrics
	rings   atomic.Pointer[hashring.Rings]
	seen    *described
	flights sync.WaitGroup

	mu    sync.Mutex
	peers map[string]*peer // guarded by mu
}

// New returns a forwarder without rings.
func New(cfg Config, deps Deps) *Forwarder {
	f := &Forwarder{cfg: cfg, deps: deps, metrics: newMetrics(deps.Registerer), seen: newDescribed(), peers: map[string]*peer{}}
	f.metrics.factor.Set(float64(cfg.Replicas))
	return f
}

// SetRings replaces the rings. Connections to nodes that are in none of them are closed once what is under way
// has had its time.
func (f *Forwarder) SetRings(r *hashring.Rings) {
	f.rings.Store(r)
	keep := map[string]bool{}
	for _, n := range r.Nodes() {
		keep[n.Address] = true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for addr, p := range f.peers {
		if keep[addr] {
			continue
		}
		delete(f.peers, addr)
		f.flights.Go(func() {
			deadline := time.NewTimer(f.cfg.Timeout)
			defer deadline.Stop()
			<-deadline.C
			_ = p.conn.Close()
		})
	}
}

// Rings are the current ones, nil before the first.
func (f *Forwarder) Rings() *hashring.Rings { return f.rings.Load() }

// peer returns the node at addr, and connects where it is new.
func (f *Forwarder) peer(addr string) (*peer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if p := f.peers[addr]; p != nil {
		return p, nil
	}
	conn, err := f.deps.Dial(addr)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", addr, err)
	}
	p := &peer{addr: addr, conn: conn, cfg: &f.cfg}
	f.peers[addr] = p
	return p, nil
}

// Conns calls g with a connection to each node of the rings but ourselves.
func (f *Forwarder) Conns(g func(addr string, conn Conn)) {
	r := f.Rings()
	if r == nil {
		return
	}
	for _, n := range r.Nodes() {
		if n.Address == f.cfg.Local {
			continue
		}
		if p, err := f.peer(n.Address); err == nil {
			g(n.Address, p.conn)
		}
	}
}

// Close waits for what is under way and closes all connections.
func (f *Forwarder) Close() error {
	f.flights.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	var errs []error
	for addr, p := range f.peers {
		errs = append(errs, p.conn.Close())
		delete(f.peers, addr)
	}
	return errors.Join(errs...)
}

// Write brings all series of parts to their owners and returns those that failed, with places counted through
// all parts. A part's Pick is not looked at, and label bytes that are not in order are replaced.
//
// replica 0 writes all replicas; any other number only that one, for a request that is a copy
// already. release is called once, when nobody uses the series any more, which may be after Write has
// returned.
//
// Besides the errors of this package and [hashring.ErrNoRing], those of Local come out when all was for
// this process.
func (f *Forwarder) Write(ctx context.Context, parts []TenantSeries, replica int64, release func()) ([]verdict.Failure, error) {
	rings := f.rings.Load()
	if rings == nil {
		release()
		return nil, ErrNoHashring
	}
	if replica < 0 || replica > int64(f.cfg.Replicas) {
		release()
		return nil, fmt.Errorf("%w: %d, there are %d replicas", ErrBadReplica, replica, f.cfg.Replicas)
	}
	p := &plan{f: f, parts: parts, replica: int(replica)}
	if err := p.build(rings); err != nil {
		release()
		return nil, err
	}
	if p.allLocal() {
		defer release()
		return p.writeLocal(ctx)
	}
	return p.run(ctx, release)
}

// described remembers which metadata was forwarded of late, so that what senders repeat is not.
type described struct {
	mu sync.Mutex
	m  map[string]map[string]describedAt // by tenant and family; guarded by mu
}

type describedAt struct {
	meta remotewrite.Metadata
	at   time.Time
}

const (
	repeatMetadata = 5 * time.Minute
	maxDescribed   = 100_000 // families of a tenant
)

func newDescribed() *described { return &described{m: map[string]map[string]describedAt{}} }

// fresh returns what nodes should be told.
func (d *described) fresh(tenant string, ms []remotewrite.Metadata) (out []remotewrite.Metadata) {
	if len(ms) == 0 {
		return nil
	}
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	known := d.m[tenant]
	if known == nil || len(known) > maxDescribed {
		known = map[string]describedAt{}
		d.m[tenant] = known
	}
	for _, m := range ms {
		if k, ok := known[m.Family]; ok && k.meta == m && now.Sub(k.at) < repeatMetadata {
			continue
		}
		known[m.Family] = describedAt{m, now}
		out = append(out, m)
	}
	return out
}

// keyOf hashes a series, and sorts its labels where they are not.
func keyOf(scratch []byte, tenant int, s *remotewrite.Series) (key uint64, buf []byte, err error) {
	buf, sorted, err := remotewrite.AppendKey(scratch[:tenant], s.Labels)
	if err != nil {
		return 0, buf, err
	}
	if sorted != nil {
		s.Labels = sorted
	}
	return xxhash.Sum64(buf), buf, nil
}

// neededOf is how many replicas of a write have to be had.
func (p *plan) neededOf() (replicas, needed int) {
	if p.replica > 0 {
		return 1, 1
	}
	return p.f.cfg.Replicas, quorum.Needed(p.f.cfg.Replicas)
}

// maxSeries bounds a write: places are 32 bits wide.
const maxSeries = math.MaxInt32
