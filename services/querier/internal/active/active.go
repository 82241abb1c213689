// Package active knows the queries that are running: what they are, how long they have run and what they hold; and ends
// those that someone wants ended, or that hold too much.
//
// Memory is counted where it is received: the encoded series of a query stay until its answer is made, so the bytes of the
// frames it received are what it holds. A query that would hold more than it may is cut with an error that names the selector which
// was being read. The sum over all queries is bounded by a byte budget, for which queries wait.
package active

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/promontory-io/promontory/libs/budget"
	"github.com/promontory-io/promontory/libs/storeapi"
)

// ErrCancelled is the cause of the context of a query that was ended by [Registry.Cancel].
var ErrCancelled = errors.New("the query was cancelled by request")

// Info is what a query is.
type Info struct {
	// Kind is the call: query, query_range, series.
	Kind string
	// Text is the expression, or the selectors.
	Text   string
	Tenant string
	// Start and End are the range asked for, equal for an instant; Step is 0 but for range queries.
	Start, End time.Time
	Step       time.Duration
}

// Query is one query that is running. It is safe for concurrent use.
type Query struct {
	Info
	// ID names it, as long as the process lives.
	ID string
	// Began is when it came.
	Began time.Time

	registry *Registry
	held     *budget.Reservation
	cancel   context.CancelCauseFunc
	running  atomic.Bool
	bytes    atomic.Int64
}

// Registry is safe for concurrent use.
type Registry struct {
	maxBytes int64
	budget   *budget.Budget
	now      func() time.Time
	metrics  *metrics

	mu      sync.Mutex // guards queries
	queries map[string]*Query
}

// New returns a registry in which no query may hold more than maxBytes, 0 for any number, nor all together more than b has; a
// nil budget has no bound. A nil clock is that of the system, a nil registerer works.
func New(maxBytes int64, b *budget.Budget, now func() time.Time, reg prometheus.Registerer) *Registry {
	if now == nil {
		now = time.Now
	}
	return &Registry{maxBytes: maxBytes, budget: b, now: now, metrics: newMetrics(reg), queries: map[string]*Query{}}
}

type metrics struct {
	cancelled, cut prometheus.Counter
	bytes          prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	return &metrics{
		cancelled: f.NewCounter(prometheus.CounterOpts{
			Name: "promontory_querier_cancelled_queries_total", Help: "Queries that were ended by request.",
		}),
		cut: f.NewCounter(prometheus.CounterOpts{
			Name: "promontory_querier_cut_queries_total", Help: "Queries that were ended because they would have held too many bytes.",
		}),
		bytes: f.NewHistogram(prometheus.HistogramOpts{
			Name: "promontory_querier_query_bytes", Help: "Bytes of series that a query received.",
			Buckets: prometheus.ExponentialBuckets(16<<10, 8, 8), // 16 KiB to 32 GiB
		}),
	}
}

// Begin adds a query. Its context ends with a cause when it is cancelled. [Query.End] must be called.
func (r *Registry) Begin(ctx context.Context, info Info) (context.Context, *Query, error) {
	// Without bytes it is admitted at once.
	held, err := r.budget.Acquire(ctx, 0, "the query")
	if err != nil {
		return nil, nil, err
	}
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails
	ctx, cancel := context.WithCancelCause(ctx)
	q := &Query{Info: info, ID: hex.EncodeToString(id[:]), Began: r.now(), registry: r, held: held, cancel: cancel}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.queries[q.ID] = q
	return ctx, q, nil
}

// Run tells that the query has waited for its turn and is being evaluated.
func (q *Query) Run() { q.running.Store(true) }

// Running reports whether it is.
func (q *Query) Running() bool { return q.running.Load() }

// Bytes is what it received so far.
func (q *Query) Bytes() int64 { return q.bytes.Load() }

// End removes the query and gives back what it held. Its data must not be in use any more.
func (q *Query) End() {
	q.registry.mu.Lock()
	delete(q.registry.queries, q.ID)
	q.registry.mu.Unlock()
	q.cancel(nil)
	q.held.Release()
	q.registry.metrics.bytes.Observe(float64(q.bytes.Load()))
}

// Spend counts bytes that were received for a selector, and waits for them if others hold too much. The error is a
// storeapi.ErrLimit that names the selector, or what ended ctx.
func (q *Query) Spend(ctx context.Context, selector string, bytes int) error {
	n := q.bytes.Add(int64(bytes))
	if limit := q.registry.maxBytes; limit > 0 && n > limit {
		q.registry.metrics.cut.Inc()
		return storeapi.Limitf("the query may receive %d bytes of series, and had more when reading %s: select less, or raise --query.max-bytes", limit, selector)
	}
	if err := q.held.Grow(ctx, int64(bytes)); err != nil {
		if errors.Is(err, storeapi.ErrLimit) {
			q.registry.metrics.cut.Inc()
		}
		return fmt.Errorf("read %s: %w", selector, err)
	}
	return nil
}

// List returns the queries of a tenant, or all without one, the oldest first.
func (r *Registry) List(tenant string) []*Query {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []*Query
	for _, q := range r.queries {
		if tenant == "" || q.Tenant == tenant {
			out = append(out, q)
		}
	}
	slices.SortFunc(out, func(a, b *Query) int { return cmp.Or(a.Began.Compare(b.Began), cmp.Compare(a.ID, b.ID)) })
	return out
}

// Cancel ends a query of a tenant, or of any without one; false if there is none with this id.
func (r *Registry) Cancel(id, tenant string) bool {
	r.mu.Lock()
	q := r.queries[id]
	r.mu.Unlock()
	if q == nil || tenant != "" && q.Tenant != tenant {
		return false
	}
	r.metrics.cancelled.Inc()
	q.cancel(ErrCancelled)
	return true
}

// Now is the registry's clock.
func (r *Registry) Now() time.Time { return r.now() }
