package endpoints

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/promontory-io/promontory/libs/service/grpcclient"
)

// maxConcurrentChecks is how many peers are asked for Info at once.
const maxConcurrentChecks = 64

// Target is one peer as discovery names it.
type Target struct {
	// Addr is host:port, or for a group an address that may carry a DNS prefix. No two targets of a set
	// share one: the first wins.
	Addr string
	// Strict peers are asked even when they do not answer Info.
	Strict bool
	// Discovered peers were found by DNS or in a file: that they are not named any more does not
	// mean that nobody wants them. A peer that was configured and is not any more is dropped at once.
	Discovered bool
	// Group makes one peer of all addresses that Addr resolves to.
	Group bool
	// ServiceConfig is a gRPC service configuration in JSON, for groups; empty for the default.
	ServiceConfig string
	// Client is how the peer is called.
	Client grpcclient.Config
}

// Conn is a connection that can be closed.
type Conn interface {
	grpc.ClientConnInterface
	Close() error
}

// Config is what holds for all peers of a set.
type Config struct {
	// Interval is how often Info is asked.
	Interval time.Duration
	// InfoTimeout is how long a peer may take to answer Info.
	InfoTimeout time.Duration
	// UnhealthyTimeout is how long a peer that is lost is remembered as missing.
	UnhealthyTimeout time.Duration
	// ConnMetricLabels are the labels of the metric of connections: external_labels, store_type, ip_port.
	ConnMetricLabels []string
}

// DefaultConfig returns checks every five seconds that may take as long, and five minutes of memory.
func DefaultConfig() Config {
	return Config{
		Interval: 5 * time.Second, InfoTimeout: 5 * time.Second, UnhealthyTimeout: 5 * time.Minute,
		ConnMetricLabels: []string{LabelExternalLabels, LabelStoreType},
	}
}

// Deps is what a set works with.
type Deps struct {
	// Discover returns the peers there should be. It is called every round and does no I/O.
	Discover func() []Target
	// Dial returns a connection that is made when it is first used.
	Dial   func(Target) (Conn, error)
	Logger *zap.Logger
	// Registerer takes the metrics; nil works.
	Registerer prometheus.Registerer
	// Now is the clock; nil means that of the system.
	Now func() time.Time
}

// Set keeps the list of peers up to date. Endpoints and Ready may be called from
// anywhere; Run, or Update, belongs to one goroutine.
type Set struct {
	cfg     Config
	deps    Deps
	metrics *metrics

	list  atomic.Pointer[[]Endpoint]
	ready chan struct{}
	once  sync.Once

	peers  map[string]*peer // by address; used by Update only
	rounds int
	// warned are the twins of the last round, used by Update only.
	warned map[string]string
}

var _ Source = (*Set)(nil)

// NewSet returns a set without peers.
func NewSet(cfg Config, deps Deps) *Set {
	if deps.Now == nil {
		deps.Now = time.Now
	}
	deps.Logger = deps.Logger.Named("endpoints")
	s := &Set{cfg: cfg, deps: deps, peers: map[string]*peer{}, ready: make(chan struct{})}
	s.metrics = newMetrics(deps.Registerer, cfg.ConnMetricLabels, s)
	s.list.Store(&[]Endpoint{})
	return s
}

// Endpoints implements Source.
func (s *Set) Endpoints() []Endpoint { return *s.list.Load() }

// Ready is closed after the first round.
func (s *Set) Ready() <-chan struct{} { return s.ready }

// Run updates the list until ctx ends, which is no error, and closes all connections then.
func (s *Set) Run(ctx context.Context) error {
	defer s.close()
	ticker := time.NewTicker(s.cfg.Interval)
	defer ticker.Stop()
	for {
		s.Update(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func (s *Set) close() {
	for _, p := range s.peers {
		p.hangUp(s.deps.Logger)
	}
}

// Update makes one round: it compares the peers with discovery, asks all of them for Info at
// the same time, and publishes the outcome. It returns early when ctx ends.
func (s *Set) Update(ctx context.Context) {
	s.reconcile()
	var g errgroup.Group
	g.SetLimit(maxConcurrentChecks)
	for _, p := range s.peers {
		g.Go(func() error {
			p.check(ctx, s)
			return nil
		})
	}
	_ = g.Wait() // no check returns an error: peers hold theirs
	if ctx.Err() != nil {
		return // what failed now failed because we stop
	}
	s.expire()
	s.publish()
	s.rounds++
	s.once.Do(func() { close(s.ready) })
}

// reconcile takes over what discovery says.
func (s *Set) reconcile() {
	now := s.deps.Now()
	named := map[string]struct{}{}
	for _, t := range s.deps.Discover() {
		if _, twice := named[t.Addr]; twice {
			s.metrics.duplicates.Inc()
			continue
		}
		named[t.Addr] = struct{}{}
		p := s.peers[t.Addr]
		if p == nil {
			p = &peer{target: t, firstSeen: now, initial: s.rounds == 0}
			s.peers[t.Addr] = p
			s.deps.Logger.Info("new endpoint", zap.String("address", t.Addr), zap.Bool("strict", t.Strict), zap.Bool("group", t.Group))
		} else if p.target != t {
			p.hangUp(s.deps.Logger) // it is called in another way from now on
			p.target = t
		}
		p.lostSince = time.Time{}
	}
	for addr, p := range s.peers {
		if _, ok := named[addr]; ok {
			continue
		}
		if !p.target.Discovered {
			s.drop(p, "it is not configured any more")
			continue
		}
		if p.lostSince.IsZero() {
			p.lostSince = now
			s.deps.Logger.Info("discovery does not name the endpoint any more", zap.String("address", addr))
		}
	}
}

func (s *Set) drop(p *peer, reason string) {
	s.deps.Logger.Info("dropping endpoint", zap.String("address", p.target.Addr), zap.String("reason", reason), zap.Error(p.err))
	p.hangUp(s.deps.Logger)
	delete(s.peers, p.target.Addr)
}

// expire forgets what was missing for long enough.
func (s *Set) expire() {
	now := s.deps.Now()
	for _, p := range s.peers {
		if !p.lostSince.IsZero() && now.Sub(p.lostSince) >= s.cfg.UnhealthyTimeout {
			s.drop(p, "discovery has not named it for the unhealthy timeout")
			continue
		}
		if p.err == nil || p.target.Strict || p.forgotten {
			continue
		}
		if now.Sub(p.aliveAt()) >= s.cfg.UnhealthyTimeout {
			s.deps.Logger.Warn("endpoint has not answered for the unhealthy timeout: answers do not miss it any more",
				zap.String("address", p.target.Addr), zap.Error(p.err))
			p.forgotten = true
			p.hangUp(s.deps.Logger)
		}
	}
}

// publish makes the list.
func (s *Set) publish() {
	replaced := replacements(s.peers)
	list := make([]Endpoint, 0, len(s.peers))
	for _, p := range s.peers {
		if replaced[p] {
			continue
		}
		list = append(list, p.endpoint())
	}
	slices.SortFunc(list, func(a, b Endpoint) int { return cmp.Compare(a.Addr, b.Addr) })
	s.list.Store(&list)
	s.warnOfTwins(list)
}

// lostError is why a peer cannot be asked.
func lostError(p *peer) error {
	if p.lostSince.IsZero() {
		return p.err
	}
	return fmt.Errorf("discovery does not name it since %s: %w", p.lostSince.UTC().Format(time.RFC3339), p.err)
}
