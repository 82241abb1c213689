package discovery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
)

const (
	defaultLookupTimeout = 10 * time.Second
	defaultConcurrency   = 16
	defaultForgetAfter   = time.Hour
	// maxMissing bounds what is remembered of one name, however fast its addresses change.
	maxMissing = 256
)

// Address is one address of a peer.
type Address struct {
	// Addr is host:port, with scheme and path if the configured address had them.
	Addr string
	// From is the address as it was configured.
	From string
	// Dynamic tells that Addr was found in DNS.
	Dynamic bool
	// StaleSince is when lookups of From began to fail, in which case Addr is from the last good
	// answer; zero if the last lookup was good.
	StaleSince time.Time
}

// Missing is an address that was known and is not any more, or a configured name that has none at all.
type Missing struct {
	// Addr is the address that is gone; empty if From never had one.
	Addr string
	// From is the address as it was configured.
	From string
	// Since is when it was first not there.
	Since time.Time
	// Reason says why, in words.
	Reason string
}

// Name is what is known of one configured address.
type Name struct {
	From    string
	Dynamic bool
	// Addresses are in use; those of the last good answer while lookups fail.
	Addresses []string
	// LastSuccess is the time of the last answer, even an empty one; zero if there never was any.
	LastSuccess time.Time
	// Err is why the last lookup failed; nil if it was answered.
	Err error
	// FailingSince is the time of the first of the lookups that have failed without one that was good in
	// between; zero if the last was good.
	FailingSince time.Time
	// EmptySince is since when the name has no addresses; zero if it has some.
	EmptySince time.Time
}

// Options make a [Provider]. The zero value works: Go's resolver, no metrics, no log.
type Options struct {
	Resolver   Resolver
	Logger     *zap.Logger
	Registerer prometheus.Registerer
	// MetricPrefix goes before the metric names, as in "thanos_query_endpoints_".
	MetricPrefix string
	// Timeout bounds the lookup of one configured address; 0 means 10 s.
	Timeout time.Duration
	// Concurrency is how many addresses are looked up at once; 0 means 16.
	Concurrency int
	// ForgetAfter is how long one address of several is reported as missing once it has left its name's answer, since
	// names with changing addresses are normal; 0 means 1 h. A name without any address is missing as long as it is configured.
	ForgetAfter time.Duration
	// Now is the clock; nil means the system's.
	Now func() time.Time
}

// Provider resolves configured addresses and remembers the answers. It is safe for concurrent use.
type Provider struct {
	opts    Options
	log     *zap.Logger
	metrics *providerMetrics

	// resolving keeps Resolve calls apart, so that state never goes back in time.
	resolving sync.Mutex

	mu sync.RWMutex // guards what follows
	// order holds the configured addresses in the order given; each has its state.
	order []string
	names map[string]*nameState
}

type nameState struct {
	Name
	missing []Missing
}

type providerMetrics struct {
	results  *prometheus.GaugeVec
	lookups  prometheus.Counter
	failures prometheus.Counter
}

func newProviderMetrics(reg prometheus.Registerer, prefix string) *providerMetrics {
	f := promauto.With(reg)
	return &providerMetrics{
		results: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: prefix + "dns_provider_results",
			Help: "The number of addresses in use for each configured address.",
		}, []string{"addr"}),
		lookups: f.NewCounter(prometheus.CounterOpts{
			Name: prefix + "dns_lookups_total",
			Help: "The number of DNS lookups of configured addresses.",
		}),
		failures: f.NewCounter(prometheus.CounterOpts{
			Name: prefix + "dns_failures_total",
			Help: "The number of DNS lookups of configured addresses that failed.",
		}),
	}
}

// NewProvider returns a provider that knows no address yet.
func NewProvider(opts Options) *Provider {
	if opts.Resolver == nil {
		// The zero type always has a resolver.
		opts.Resolver, _ = NewResolver("")
	}
	if opts.Timeout <= 0 {
		opts.Timeout = defaultLookupTimeout
	}
	if opts.Concurrency <= 0 {
		opts.Concurrency = defaultConcurrency
	}
	if opts.ForgetAfter <= 0 {
		opts.ForgetAfter = defaultForgetAfter
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	log := opts.Logger
	if log == nil {
		log = zap.NewNop()
	}
	return &Provider{
		opts:    opts,
		log:     log.Named("discovery"),
		metrics: newProviderMetrics(opts.Registerer, opts.MetricPrefix),
		names:   map[string]*nameState{},
	}
}

// answer is what one lookup brought.
type answer struct {
	from    string
	dynamic bool
	addrs   []string
	err     error
}

// Resolve makes addrs the configured addresses and looks all of them up. Addresses that are not among them any more are
// forgotten. The error joins the lookups that failed, each of which has kept its last good answer; it is for
// the log, since [Provider.Names] tells the same. When ctx ends, the answers not yet there are left as they were.
func (p *Provider) Resolve(ctx context.Context, addrs []string) error {
	p.resolving.Lock()
	defer p.resolving.Unlock()

	order := uniqueInOrder(addrs)
	answers := make([]answer, len(order))
	var g errgroup.Group
	g.SetLimit(p.opts.Concurrency)
	for i, from := range order {
		g.Go(func() error {
			answers[i] = p.lookup(ctx, from)
			return nil
		})
	}
	_ = g.Wait() // no lookup returns an error here: answers hold them
	p.apply(ctx.Err() != nil, order, answers)

	if ctx.Err() != nil {
		return fmt.Errorf("resolve addresses: %w", context.Cause(ctx))
	}
	var errs []error
	for _, a := range answers {
		if a.err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", a.from, a.err))
		}
	}
	return errors.Join(errs...)
}

func (p *Provider) lookup(ctx context.Context, from string) answer {
	q, err := parseAddress(from)
	if err != nil {
		return answer{from: from, err: err}
	}
	a := answer{from: from, dynamic: q.lookup != LookupNone}
	if a.dynamic {
		p.metrics.lookups.Inc()
	}
	lookupCtx, cancel := context.WithTimeout(ctx, p.opts.Timeout)
	defer cancel()
	a.addrs, a.err = resolve(lookupCtx, p.opts.Resolver, q)
	if a.err != nil && ctx.Err() == nil {
		p.metrics.failures.Inc()
	}
	return a
}

func uniqueInOrder(addrs []string) []string {
	seen := make(map[string]struct{}, len(addrs))
	out := make([]string, 0, len(addrs))
	for _, a := range addrs {
		if _, ok := seen[a]; !ok {
			seen[a] = struct{}{}
			out = append(out, a)
		}
	}
	return out
}

// apply takes the answers into the state. If the round was cancelled, failures say nothing about DNS and are ignored.
func (p *Provider) apply(cancelled bool, order []string, answers []answer) {
	now := p.opts.Now()
	p.mu.Lock()
	defer p.mu.Unlock()

	next := make(map[string]*nameState, len(order))
	for _, a := range answers {
		s := p.names[a.from]
		if s == nil {
			s = &nameState{Name: Name{From: a.from, Dynamic: a.dynamic, EmptySince: now}}
		}
		if a.err == nil || !cancelled {
			before := s.Name
			s.take(a, now, p.opts.ForgetAfter)
			p.logChange(before, s.Name)
		}
		next[a.from] = s
		p.metrics.results.WithLabelValues(a.from).Set(float64(len(s.Addresses)))
	}
	for from := range p.names {
		if next[from] == nil {
			p.metrics.results.DeleteLabelValues(from)
		}
	}
	p.order, p.names = order, next
}

// logChange reports the first failure and the recovery, the loss of all addresses and their return; rounds that bring
// the same again are no news.
func (p *Provider) logChange(before, now Name) {
	switch {
	case now.Err != nil && before.FailingSince.IsZero():
		p.log.Warn("lookup failed, keeping the last good answer",
			zap.String("address", now.From), zap.Strings("kept", now.Addresses), zap.Error(now.Err))
	case now.Err == nil && !before.FailingSince.IsZero():
		p.log.Info("lookup works again", zap.String("address", now.From), zap.Strings("addresses", now.Addresses),
			zap.Time("failed_since", before.FailingSince))
	}
	switch {
	case len(before.Addresses) > 0 && len(now.Addresses) == 0:
		p.log.Warn("name has no addresses any more", zap.String("address", now.From), zap.Strings("lost", before.Addresses))
	case now.Err == nil && len(now.Addresses) == 0 && before.LastSuccess.IsZero():
		p.log.Warn("name has no addresses", zap.String("address", now.From))
	case len(before.Addresses) == 0 && len(now.Addresses) > 0 && !before.LastSuccess.IsZero():
		p.log.Info("name has addresses again", zap.String("address", now.From), zap.Strings("addresses", now.Addresses),
			zap.Time("empty_since", before.EmptySince))
	}
}

// take is the transition of one name's state by one answer.
func (s *nameState) take(a answer, now time.Time, forgetAfter time.Duration) {
	addrs := a.addrs
	s.Err = a.err
	if a.err != nil {
		if s.FailingSince.IsZero() {
			s.FailingSince = now
		}
		// What was found is new, what was known may still be true.
		addrs = slices.Concat(a.addrs, s.Addresses)
		slices.Sort(addrs)
		addrs = slices.Compact(addrs)
	} else {
		s.FailingSince = time.Time{}
		s.LastSuccess = now
	}
	s.updateMissing(addrs, now, forgetAfter)
	s.Addresses = addrs
	switch {
	case len(addrs) > 0:
		s.EmptySince = time.Time{}
	case s.EmptySince.IsZero():
		s.EmptySince = now
	}
}

func (s *nameState) updateMissing(addrs []string, now time.Time, forgetAfter time.Duration) {
	kept := s.missing[:0:0]
	for _, m := range s.missing {
		back := slices.Contains(addrs, m.Addr)
		// While the name has no address at all, the last ones known are all there is to say: keep them.
		tooOld := len(addrs) > 0 && now.Sub(m.Since) >= forgetAfter
		if !back && !tooOld {
			kept = append(kept, m)
		}
	}
	reason := "no longer in the answer"
	if len(addrs) == 0 {
		reason = "the name has no addresses any more"
	}
	for _, addr := range s.Addresses {
		if !slices.Contains(addrs, addr) {
			kept = append(kept, Missing{Addr: addr, From: s.From, Since: now, Reason: reason})
		}
	}
	if over := len(kept) - maxMissing; over > 0 {
		kept = kept[over:]
	}
	s.missing = kept
}

// Addresses returns the addresses in use, in the order of the configured ones and sorted within each. The same
// address may come from two of them. The slice is the caller's.
func (p *Provider) Addresses() []Address {
	p.mu.RLock()
	defer p.mu.RUnlock()
	var out []Address
	for _, from := range p.order {
		s := p.names[from]
		for _, addr := range s.Addresses {
			out = append(out, Address{Addr: addr, From: from, Dynamic: s.Dynamic, StaleSince: s.FailingSince})
		}
	}
	return out
}

// Missing returns what was known before and is gone, and the configured names that have no address at all.
func (p *Provider) Missing() []Missing {
	p.mu.RLock()
	defer p.mu.RUnlock()
	var out []Missing
	for _, from := range p.order {
		s := p.names[from]
		out = append(out, s.missing...)
		if len(s.Addresses) > 0 || len(s.missing) > 0 {
			continue
		}
		reason := "the name has no addresses"
		if s.Err != nil {
			reason = s.Err.Error()
		}
		out = append(out, Missing{From: from, Since: s.EmptySince, Reason: reason})
	}
	return out
}

// Names returns what is known of each configured address.
func (p *Provider) Names() []Name {
	p.mu.RLock()
	defer p.mu.RUnlock()
	out := make([]Name, 0, len(p.order))
	for _, from := range p.order {
		n := p.names[from].Name
		n.Addresses = slices.Clone(n.Addresses)
		out = append(out, n)
	}
	return out
}

// Run resolves what addrs returns at once, then every interval and whenever wake is signalled, until ctx ends, which is
// no error. resolved is called after each round; it and wake may be nil. Failures are in the log and in [Provider.Names].
func (p *Provider) Run(ctx context.Context, interval time.Duration, addrs func() []string, wake <-chan struct{}, resolved func()) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		if err := p.Resolve(ctx, addrs()); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			p.log.Debug("some addresses could not be resolved", zap.Error(err))
		}
		if resolved != nil {
			resolved()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		case <-wake:
		}
	}
}
