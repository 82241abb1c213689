// Package health learns from each call how quick a store is and whether asking it is worth while.
//
// For every address a [Tracker] keeps the recent times to the first message, and a circuit breaker. The breaker opens
// after several calls in a row that were too slow or could not be made; while it is open the store is not asked, and counts as
// missing, so that a store which hangs costs each query nothing instead of its whole time. After a while, doubled each time, one
// call is let through: if it goes well the breaker closes.
//
// Central idea: decisions take the time as a value and change small structs under one lock; there is no goroutine
// and no timer.
package health

import (
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Config is when breakers open.
type Config struct {
	// Failures is how many calls in a row must fail until a store is not asked any more; 0 never opens a breaker.
	Failures int
	// FirstPause is how long it is not asked at first; each trial that fails doubles that.
	FirstPause time.Duration
	// MaxPause bounds the pause.
	MaxPause time.Duration
}

// DefaultConfig returns five failures, and pauses from one second to half a minute.
func DefaultConfig() Config {
	return Config{Failures: 5, FirstPause: time.Second, MaxPause: 30 * time.Second}
}

// forgetAfter is how long a store that nobody asks is remembered.
const forgetAfter = time.Hour

// Breaker states.
const (
	// Closed: the store is asked.
	Closed = "closed"
	// Open: it is not asked.
	Open = "open"
	// Trying: one call is under way that decides.
	Trying = "half-open"
)

// Tracker is safe for concurrent use.
type Tracker struct {
	cfg     Config
	now     func() time.Time
	metrics *metrics

	mu     sync.Mutex // guards stores and all they hold
	stores map[string]*store
}

// New returns a tracker that knows nothing yet. A nil clock is that of the system, a nil registerer works.
func New(cfg Config, now func() time.Time, reg prometheus.Registerer) *Tracker {
	if now == nil {
		now = time.Now
	}
	t := &Tracker{cfg: cfg, now: now, stores: map[string]*store{}}
	t.metrics = newMetrics(reg, t.open)
	return t
}

type metrics struct {
	opened, refused prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, open func() float64) *metrics {
	f := promauto.With(reg)
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "promontory_querier_breakers_open",
		Help: "Stores that are not asked at present because their last calls failed.",
	}, open)
	return &metrics{
		opened: f.NewCounter(prometheus.CounterOpts{
			Name: "promontory_querier_breaker_openings_total", Help: "How often a store ceased to be asked.",
		}),
		refused: f.NewCounter(prometheus.CounterOpts{
			Name: "promontory_querier_breaker_refusals_total", Help: "Calls that were not made because the store's breaker was open.",
		}),
	}
}

// store is what is known of one address.
type store struct {
	latency   latency
	failures  int    // in a row
	lastErr   string // of the last failure
	pause     time.Duration
	openUntil time.Time // zero while closed
	trying    bool
	used      time.Time
}

// OpenError is why a store was not asked.
type OpenError struct {
	Failures int
	Until    time.Time
	Last     string
}

// Error implements error.
func (e *OpenError) Error() string {
	return fmt.Sprintf("not asked until %s since the last %d calls failed: %s", e.Until.UTC().Format(time.RFC3339), e.Failures, e.Last)
}

// Admit reports whether a call to addr may be made; else it returns an *OpenError. After nil, exactly one of the [Call]'s
// methods must follow.
func (t *Tracker) Admit(addr string) (*Call, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	s := t.get(addr, now)
	if s.openUntil.IsZero() {
		return &Call{t: t, addr: addr}, nil
	}
	if now.Before(s.openUntil) || s.trying {
		t.metrics.refused.Inc()
		return nil, &OpenError{Failures: s.failures, Until: s.openUntil, Last: s.lastErr}
	}
	s.trying = true
	return &Call{t: t, addr: addr, trial: true}, nil
}

// get returns what is known of addr. It is called with mu held.
func (t *Tracker) get(addr string, now time.Time) *store {
	s := t.stores[addr]
	if s == nil {
		for a, old := range t.stores {
			if now.Sub(old.used) > forgetAfter {
				delete(t.stores, a)
			}
		}
		s = &store{}
		t.stores[addr] = s
	}
	s.used = now
	return s
}

// Call is one call that was admitted. Its outcome is told once; what is told later is dropped. A nil one, of a store
// that is asked although its breaker is open, drops everything.
type Call struct {
	t     *Tracker
	addr  string
	trial bool
	once  sync.Once
}

// Succeeded tells that the store answered; first is the time to its first message.
func (c *Call) Succeeded(first time.Duration) {
	c.end(func(s *store) {
		s.failures, s.openUntil, s.pause, s.lastErr = 0, time.Time{}, 0, ""
		s.latency.add(first)
	})
}

// Failed tells that the store did not answer in time, or could not be reached.
func (c *Call) Failed(err error) {
	c.end(func(s *store) {
		s.failures++
		s.lastErr = err.Error()
		if c.t.cfg.Failures <= 0 || s.failures < c.t.cfg.Failures || !s.openUntil.IsZero() && !c.trial {
			return
		}
		if s.openUntil.IsZero() {
			c.t.metrics.opened.Inc()
		}
		s.pause = min(max(2*s.pause, c.t.cfg.FirstPause), c.t.cfg.MaxPause)
		s.openUntil = s.used.Add(s.pause)
	})
}

// Dropped tells that the call says nothing about the store: the caller left, or the request was refused as such.
func (c *Call) Dropped() { c.end(func(*store) {}) }

func (c *Call) end(change func(*store)) {
	if c == nil {
		return
	}
	c.once.Do(func() {
		c.t.mu.Lock()
		defer c.t.mu.Unlock()
		s := c.t.get(c.addr, c.t.now())
		if c.trial {
			s.trying = false
		}
		change(s)
	})
}

// Status is what is known of a store.
type Status struct {
	// Breaker is Closed, Open or Trying.
	Breaker string
	// Failures in a row.
	Failures int
	// LastError is of the last failure, empty after a success.
	LastError string
	// OpenUntil is when the store is tried again, zero while it is asked.
	OpenUntil time.Time
	// Calls is how many recent good calls Median and P95, the times to their first messages, are of.
	Calls       int
	Median, P95 time.Duration
}

// Status returns what is known of addr; nothing is a closed breaker without calls.
func (t *Tracker) Status(addr string) Status {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.stores[addr]
	if s == nil {
		return Status{Breaker: Closed}
	}
	out := Status{
		Breaker: Closed, Failures: s.failures, LastError: s.lastErr, OpenUntil: s.openUntil,
		Calls: s.latency.n, Median: s.latency.quantile(0.5), P95: s.latency.quantile(0.95),
	}
	switch {
	case s.trying:
		out.Breaker = Trying
	case !s.openUntil.IsZero():
		out.Breaker = Open
	}
	return out
}

// Latency returns the time within which the first message of addr comes in 19 of 20 calls, and whether enough
// calls are known to say so.
func (t *Tracker) Latency(addr string) (time.Duration, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.stores[addr]
	if s == nil || s.latency.n < minCalls {
		return 0, false
	}
	return s.latency.quantile(0.95), true
}

func (t *Tracker) open() float64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0.0
	for _, s := range t.stores {
		if !s.openUntil.IsZero() {
			n++
		}
	}
	return n
}
