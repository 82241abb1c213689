// Package remote holds what caches in other processes have in common: the queue behind Set, the circuit breaker that
// leaves a server in trouble alone, and their metrics.
package remote

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/promontory-io/promontory/libs/cache"
)

// BreakerConfig says when a server is left alone, and for how long.
type BreakerConfig struct {
	// Enabled switches it on.
	Enabled bool `yaml:"enabled"`
	// HalfOpenMaxRequests is how many requests are let through to see whether the trouble is over; all must succeed.
	HalfOpenMaxRequests uint32 `yaml:"half_open_max_requests"`
	// OpenDuration is how long nothing is let through.
	OpenDuration cache.Duration `yaml:"open_duration"`
	// MinRequests are needed within a window before any conclusion is drawn.
	MinRequests uint32 `yaml:"min_requests"`
	// ConsecutiveFailures is how many failures in a row are trouble.
	ConsecutiveFailures uint32 `yaml:"consecutive_failures"`
	// FailurePercent is the share of failures that is trouble, 0.05 being one in twenty.
	FailurePercent float64 `yaml:"failure_percent"`
}

// DefaultBreakerConfig returns a breaker that is off.
func DefaultBreakerConfig() BreakerConfig {
	return BreakerConfig{
		HalfOpenMaxRequests: 10, OpenDuration: cache.Duration(5 * time.Second),
		MinRequests: 50, ConsecutiveFailures: 5, FailurePercent: 0.05,
	}
}

// ReadBreakerConfig is for reads: there is no key for it, since it only spares callers the wait for a server that has
// not answered five times in a row.
func ReadBreakerConfig() BreakerConfig {
	return BreakerConfig{
		Enabled: true, HalfOpenMaxRequests: 1, OpenDuration: cache.Duration(time.Second),
		MinRequests: 5, ConsecutiveFailures: 5, FailurePercent: 1,
	}
}

// Validate returns all that is wrong with the settings; what is off is not looked at.
func (c BreakerConfig) Validate() error {
	if !c.Enabled {
		return nil
	}
	var errs []error
	if c.HalfOpenMaxRequests == 0 {
		errs = append(errs, errors.New("set_async_circuit_breaker_config.half_open_max_requests must be more than 0"))
	}
	if c.OpenDuration <= 0 {
		errs = append(errs, errors.New("set_async_circuit_breaker_config.open_duration must be more than 0"))
	}
	if c.ConsecutiveFailures == 0 {
		errs = append(errs, errors.New("set_async_circuit_breaker_config.consecutive_failures must be more than 0"))
	}
	if !(c.FailurePercent > 0 && c.FailurePercent <= 1) {
		errs = append(errs, fmt.Errorf("set_async_circuit_breaker_config.failure_percent %v is not above 0 and at most 1", c.FailurePercent))
	}
	return errors.Join(errs...)
}

// window is how long successes and failures count.
const window = 10 * time.Second

// Breaker decides whether requests are sent. A nil Breaker lets all through. It is safe for concurrent use.
type Breaker struct {
	cfg BreakerConfig

	mu       sync.Mutex // guards what follows
	round    uint64     // requests of former rounds do not count any more
	since    time.Time  // start of the window
	openTill time.Time  // zero: closed
	probing  uint32     // let through after openTill
	ok       uint32     // of those, succeeded

	requests, failures, row uint32
}

// NewBreaker returns a closed breaker, nil if the configuration says that there is none.
func NewBreaker(cfg BreakerConfig) *Breaker {
	if !cfg.Enabled {
		return nil
	}
	return &Breaker{cfg: cfg, since: time.Now()}
}

// Allow reports whether a request may be sent; if so, done must be called with its outcome.
func (b *Breaker) Allow() (done func(success bool), ok bool) {
	if b == nil {
		return func(bool) {}, true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if !b.openTill.IsZero() {
		if now.Before(b.openTill) || b.probing >= b.cfg.HalfOpenMaxRequests {
			return nil, false
		}
		b.probing++
	} else if now.Sub(b.since) >= window {
		b.reset(now)
	}
	round := b.round
	return func(success bool) { b.done(round, success) }, true
}

// Open reports whether requests are held back at this moment.
func (b *Breaker) Open() bool {
	if b == nil {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.openTill.IsZero()
}

func (b *Breaker) reset(now time.Time) {
	b.round++
	b.since, b.openTill = now, time.Time{}
	b.probing, b.ok, b.requests, b.failures, b.row = 0, 0, 0, 0, 0
}

func (b *Breaker) done(round uint64, success bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if round != b.round {
		return
	}
	now := time.Now()
	if !b.openTill.IsZero() {
		if !success {
			b.open(now)
		} else if b.ok++; b.ok >= b.cfg.HalfOpenMaxRequests {
			b.reset(now)
		}
		return
	}
	b.requests++
	if success {
		b.row = 0
		return
	}
	b.failures++
	b.row++
	if b.requests >= b.cfg.MinRequests &&
		(b.row >= b.cfg.ConsecutiveFailures || float64(b.failures) >= b.cfg.FailurePercent*float64(b.requests)) {
		b.open(now)
	}
}

func (b *Breaker) open(now time.Time) {
	b.reset(now)
	b.openTill = now.Add(time.Duration(b.cfg.OpenDuration))
}
