package budget

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// reservedShare of the limit is for small requests.
	reservedShare = 8
	// smallShare of the limit is the most that a small request holds.
	smallShare = 16
	// waitingShare of the limit is the most that large requests have of what is kept for small ones, while they wait.
	waitingShare = 32
	// DefaultMaxWait is how long a request waits before it is refused, if nothing else is said.
	DefaultMaxWait = 30 * time.Second
)

// Budget is a number of bytes that requests share. It is safe for concurrent use. It starts no goroutine and needs no closing.
type Budget struct {
	limit   int64
	maxWait time.Duration
	metrics *metrics

	mu        sync.Mutex // guards all below, and the fields of the reservations
	used      int64
	smallUsed int64 // part of used, held by small requests
	stuck     int64 // part of used, held by requests that wait to grow
	// smallGrowing and growing are those who hold something already.
	smallGrowing, growing queue
	smalls, larges        queue
	round                 int // see wedged
}

// Option changes how a budget behaves.
type Option func(*Budget)

// WithMaxWait bounds how long anybody waits; DefaultMaxWait otherwise. The context's deadline bounds it too: waiting ends when an
// eighth of the time is left, for a refusal with numbers says more than a deadline that has passed.
func WithMaxWait(d time.Duration) Option { return func(b *Budget) { b.maxWait = d } }

// New returns a budget of limit bytes, at least 1. The metrics are promontory_budget_*; reg may be nil.
func New(limit int64, reg prometheus.Registerer, opts ...Option) *Budget {
	b := &Budget{limit: max(limit, 1), maxWait: DefaultMaxWait}
	for _, o := range opts {
		o(b)
	}
	b.metrics = newMetrics(reg, b)
	return b
}

// Limit is the size of the whole budget in bytes; 0 for a nil budget, which has none.
func (b *Budget) Limit() int64 {
	if b == nil {
		return 0
	}
	return b.limit
}

// Largest is the most that one request can hold, in bytes.
func (b *Budget) Largest() int64 {
	if b == nil {
		return 0
	}
	return b.limit - b.limit/reservedShare
}

// IsSmall says whether a request that holds so many bytes goes with the small ones.
func (b *Budget) IsSmall(bytes int64) bool { return b == nil || b.isSmall(bytes) }

// Used is how many bytes are held now.
func (b *Budget) Used() int64 {
	if b == nil {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}

// Waiting is how many requests wait now.
func (b *Budget) Waiting() int {
	if b == nil {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.waiters()
}

// waiters is how many wait. b.mu is held.
func (b *Budget) waiters() int { return b.smallGrowing.n + b.growing.n + b.smalls.n + b.larges.n }

// Acquire reserves bytes and waits for them if it must: in its turn, at most the maximal wait. who is named in a refusal. The
// error is a *Refusal, or wraps what ended ctx. Release the reservation when all its bytes are gone.
//
// A request without bytes is admitted at once and may grow.
func (b *Budget) Acquire(ctx context.Context, bytes int64, who string) (*Reservation, error) {
	r := &Reservation{b: b, who: who}
	if err := r.grow(ctx, bytes); err != nil {
		return nil, err
	}
	return r, nil
}

// TryAcquire is Acquire that does not wait: where it would, it returns a *Refusal.
func (b *Budget) TryAcquire(bytes int64, who string) (*Reservation, error) {
	r := &Reservation{b: b, who: who}
	if err := r.TryGrow(bytes); err != nil {
		return nil, err
	}
	return r, nil
}

// Reservation is what one request holds. It is safe for concurrent use.
type Reservation struct {
	b   *Budget
	who string

	held    int64 // guarded by b.mu, as is the rest
	waiting int   // calls to Grow that wait
	large   bool  // whatever it holds
	round   int   // of the budget, in which it was last counted
}

// MarkLarge says that the request will take long or want much more, however little it holds now: from now on it takes nothing of what is
// kept for small ones. more is what it will ask for next. Where large requests hold all they can have, so many of them may wait as hold
// a quarter of what is kept for small ones; beyond that the request is refused with a *Refusal, and stays what it was.
func (r *Reservation) MarkLarge(more int64) error {
	if r.b == nil {
		return nil
	}
	r.b.mu.Lock()
	defer r.b.mu.Unlock()
	if r.large {
		return nil
	}
	if r.b.small(r, r.held) {
		if r.b.besidesSmall(r) > r.b.Largest()+r.b.limit/waitingShare {
			return r.b.refuse(r, max(more, 0), Busy, 0)
		}
		r.b.smallUsed -= r.held
	}
	r.large = true
	r.b.grant()
	return nil
}

// Who is whom refusals name.
func (r *Reservation) Who() string { return r.who }

// Held is how many bytes are reserved now.
func (r *Reservation) Held() int64 {
	if r.b == nil {
		return 0
	}
	r.b.mu.Lock()
	defer r.b.mu.Unlock()
	return r.held
}

// Grow reserves further bytes and waits for them if it must. The error is a *Refusal, or wraps what ended ctx; what was
// reserved before stays so.
func (r *Reservation) Grow(ctx context.Context, bytes int64) error { return r.grow(ctx, bytes) }

// TryGrow is Grow that does not wait: where somebody waits, or the bytes are not there, it returns a *Refusal.
func (r *Reservation) TryGrow(bytes int64) error {
	if r.b == nil || bytes <= 0 {
		return nil
	}
	b := r.b
	b.mu.Lock()
	defer b.mu.Unlock()
	if r.held+bytes > b.Largest() {
		return b.refuse(r, bytes, TooLarge, 0)
	}
	if b.busy(r, bytes) || !b.fits(r, bytes) {
		return b.refuse(r, bytes, Busy, 0)
	}
	b.add(r, bytes)
	b.metrics.admitted.Inc()
	return nil
}

// GrowUpTo reserves as many further bytes as there are without waiting, between least and most, and returns how many; 0 if
// there are not least. While others wait it gives a request nothing: it should do with what it has.
func (r *Reservation) GrowUpTo(least, most int64) int64 {
	if most <= 0 {
		return 0
	}
	if r.b == nil {
		return most
	}
	b := r.b
	b.mu.Lock()
	defer b.mu.Unlock()
	n := min(most, b.limit-b.used, b.Largest()-r.held)
	if !b.small(r, r.held+n) {
		n = min(n, b.Largest()-b.besidesSmall(r))
	}
	if n <= 0 || n < least || b.waiters() > 0 {
		return 0
	}
	b.add(r, n)
	return n
}

// Shrink gives bytes back, at most what is held.
func (r *Reservation) Shrink(bytes int64) {
	if r.b == nil || bytes <= 0 {
		return
	}
	r.b.mu.Lock()
	defer r.b.mu.Unlock()
	r.b.add(r, -min(bytes, r.held))
	r.b.grant()
}

// Release gives everything back; to be called when calls to Grow have returned. Further calls do nothing.
func (r *Reservation) Release() {
	if r == nil || r.b == nil {
		return
	}
	r.b.mu.Lock()
	defer r.b.mu.Unlock()
	r.b.add(r, -r.held)
	r.b.grant()
}

func (r *Reservation) grow(ctx context.Context, bytes int64) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if r.b == nil || bytes <= 0 {
		return nil
	}
	b := r.b
	w, err := b.enqueue(r, bytes)
	if w == nil {
		return err
	}
	begin := time.Now()
	timer := time.NewTimer(b.patience(ctx))
	defer timer.Stop()
	select {
	case <-w.done:
		b.metrics.waited.Observe(time.Since(begin).Seconds())
		return w.err
	case <-ctx.Done():
		if b.leave(w) {
			b.metrics.cancelled.Inc()
			return fmt.Errorf("wait for %d bytes of memory (%d of %d are in use): %w", bytes, b.Used(), b.limit, context.Cause(ctx))
		}
	case <-timer.C:
		if b.leave(w) {
			b.mu.Lock()
			defer b.mu.Unlock()
			return b.refuse(r, bytes, Waited, time.Since(begin))
		}
	}
	return w.err // it was granted in the meantime
}

// patience is how long somebody with such a context waits.
func (b *Budget) patience(ctx context.Context) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return b.maxWait
	}
	return min(b.maxWait, time.Until(deadline)/8*7)
}
