package objstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// HedgingConfig is the value of the key hedging_config: a read that takes longer than most is sent once more, and the
// first answer wins.
type HedgingConfig struct {
	// Enabled switches it on.
	Enabled bool `yaml:"enabled"`
	// UpTo is how many requests at most are sent for one, the first included.
	UpTo uint `yaml:"up_to"`
	// Quantile of the latencies of late, in (0, 1): who takes longer is hedged.
	Quantile float64 `yaml:"quantile"`
}

// DefaultHedgingConfig returns the settings that apply where the document has none: off, 3 requests, quantile 0.9.
func DefaultHedgingConfig() HedgingConfig { return HedgingConfig{UpTo: 3, Quantile: 0.9} }

// Validate returns all that is wrong with the settings. What is switched off is not looked at.
func (c HedgingConfig) Validate() error {
	if !c.Enabled {
		return nil
	}
	var errs []error
	if c.UpTo < 1 {
		errs = append(errs, errors.New("up_to must be at least 1"))
	}
	if !(c.Quantile > 0 && c.Quantile < 1) {
		errs = append(errs, fmt.Errorf("quantile %v is not between 0 and 1", c.Quantile))
	}
	if len(errs) == 0 {
		return nil
	}
	return oneLine(errors.Join(errs...))
}

// hedging makes transports that hedge. All transports of one share what is known of latencies.
type hedging struct {
	cfg       HedgingConfig
	latencies latencies
	extra     prometheus.Counter
}

func newHedging(cfg HedgingConfig, reg prometheus.Registerer) *hedging {
	extra := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "promontory_objstore_hedged_requests_total",
		Help: "Requests to the object store that were sent once more because the first took long.",
	})
	if reg != nil {
		// Several buckets of a process share the counter.
		var registered prometheus.AlreadyRegisteredError
		if errors.As(reg.Register(extra), &registered) {
			if other, ok := registered.ExistingCollector.(prometheus.Counter); ok {
				extra = other
			}
		}
	}
	return &hedging{cfg: cfg, extra: extra}
}

func (h *hedging) wrap(next http.RoundTripper) http.RoundTripper {
	return &hedgedTransport{hedging: h, next: next}
}

type hedgedTransport struct {
	*hedging
	next http.RoundTripper
}

// attempt is what came of one sending.
type attempt struct {
	res    *http.Response
	err    error
	took   time.Duration
	number int
	cancel context.CancelFunc
}

// discard ends an attempt that nobody waits for.
func (a attempt) discard() {
	a.cancel()
	if a.res != nil {
		_ = a.res.Body.Close()
	}
}

// RoundTrip sends reads up to UpTo times, a quantile's latency apart, and returns the first answer. Requests that change
// something or have a body are sent once.
func (t *hedgedTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	delay, known := t.latencies.quantile(t.cfg.Quantile)
	if (req.Method != http.MethodGet && req.Method != http.MethodHead) || (req.Body != nil && req.Body != http.NoBody) {
		return t.next.RoundTrip(req)
	}
	if !known || t.cfg.UpTo < 2 {
		start := time.Now()
		res, err := t.next.RoundTrip(req)
		if err == nil {
			t.latencies.add(time.Since(start))
		}
		return res, err
	}
	return t.race(req, delay)
}

// race runs the attempts. Losers are cancelled and cleaned up behind the caller's back; the channel has room for all, so
// that none of them blocks.
func (t *hedgedTransport) race(req *http.Request, delay time.Duration) (*http.Response, error) {
	attempts := make(chan attempt, t.cfg.UpTo)
	var cancels []context.CancelFunc
	send := func() {
		ctx, cancel := context.WithCancel(req.Context())
		number := len(cancels)
		cancels = append(cancels, cancel)
		go func() {
			start := time.Now()
			res, err := t.next.RoundTrip(req.Clone(ctx)) //nolint:bodyclose // the winner's is the caller's, others are closed by discard
			attempts <- attempt{res: res, err: err, took: time.Since(start), number: number, cancel: cancel}
		}()
	}
	send()
	timer := time.NewTimer(delay)
	defer timer.Stop()

	var errs []error
	for {
		select {
		case <-timer.C:
			if uint(len(cancels)) < t.cfg.UpTo {
				t.extra.Inc()
				send()
				timer.Reset(delay)
			}
		case a := <-attempts:
			if a.err != nil {
				a.cancel()
				errs = append(errs, a.err)
				if len(errs) < len(cancels) {
					continue // another one may still win
				}
				return nil, errs[0]
			}
			t.latencies.add(a.took)
			a.res.Body = &cancellingBody{ReadCloser: a.res.Body, cancel: a.cancel}
			abandon(attempts, cancels, len(errs)+1, a.number)
			return a.res, nil
		}
	}
}

// abandon cancels all attempts but the winner. Those that have not answered yet do so promptly, being cancelled.
func abandon(attempts <-chan attempt, cancels []context.CancelFunc, answered, winner int) {
	for number, cancel := range cancels {
		if number != winner {
			cancel()
		}
	}
	if open := len(cancels) - answered; open > 0 {
		go func() {
			for range open {
				(<-attempts).discard()
			}
		}()
	}
}

// cancellingBody frees the context of the winning attempt with its body.
type cancellingBody struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (b *cancellingBody) Close() error {
	defer b.cancel()
	return b.ReadCloser.Close()
}

const (
	latenciesKept = 512
	// latenciesNeeded is how many are needed for a quantile to mean anything.
	latenciesNeeded = 32
)

// latencies knows the latest latencies and keeps one quantile of them. The zero value is ready; it is safe for
// concurrent use.
type latencies struct {
	mu     sync.Mutex // guards what follows
	ring   []time.Duration
	next   int
	fresh  int // added since value was computed
	value  time.Duration
	sorted []time.Duration
}

func (l *latencies) add(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fresh++
	if len(l.ring) < latenciesKept {
		l.ring = append(l.ring, d)
		return
	}
	l.ring[l.next] = d
	l.next = (l.next + 1) % latenciesKept
}

// quantile returns the q-quantile as of the last few additions, and whether enough is known.
func (l *latencies) quantile(q float64) (time.Duration, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.ring) < latenciesNeeded {
		return 0, false
	}
	if l.value == 0 || l.fresh >= latenciesNeeded {
		l.sorted = append(l.sorted[:0], l.ring...)
		slices.Sort(l.sorted)
		l.value = l.sorted[int(q*float64(len(l.sorted)-1))]
		l.fresh = 0
	}
	return l.value, true
}
