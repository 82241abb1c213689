// Package fair lets a bounded number of calls run at once and divides the turns evenly among tenants.
//
// Whoever finds no free slot waits in the line of its tenant. A slot that becomes free goes to the head of the next line in turn,
// so a tenant with many calls waits for itself and not for the others'.
package fair

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// ErrTooMany is returned to a tenant with too many calls waiting. Later there may be room.
var ErrTooMany = errors.New("too many outstanding requests")

// Queue gives out slots. It is safe for concurrent use.
type Queue struct {
	slots, perTenant int
	waiting          prometheus.Gauge
	refused          prometheus.Counter

	mu      sync.Mutex // guards what follows
	running int
	lines   map[string]*line
	turns   list.List // of *line: those with somebody waiting, the next in turn first
}

// line is those of one tenant who wait, the first to come first.
type line struct {
	tenant  string
	waiters list.List // of *waiter
	turn    *list.Element
}

type waiter struct {
	admitted chan struct{} // closed when the slot is given
	element  *list.Element
}

// New returns a queue with the given number of slots, of which at most perTenant calls of a tenant may wait. No slots means no
// bound, perTenant 0 that any number may wait.
func New(slots, perTenant int, reg prometheus.Registerer) *Queue {
	f := promauto.With(reg)
	return &Queue{
		slots: slots, perTenant: perTenant, lines: map[string]*line{},
		waiting: f.NewGauge(prometheus.GaugeOpts{
			Name: "promontory_frontend_queue_waiting", Help: "Requests that wait for their turn to go to the querier.",
		}),
		refused: f.NewCounter(prometheus.CounterOpts{
			Name: "promontory_frontend_queue_refused_total", Help: "Requests refused because too many of their tenant were waiting.",
		}),
	}
}

// Enter waits for a slot. The function it returns gives the slot back and has to be called once. Errors are [ErrTooMany] or the
// end of the context.
func (q *Queue) Enter(ctx context.Context, tenant string) (leave func(), err error) {
	if q.slots <= 0 {
		return func() {}, nil
	}
	q.mu.Lock()
	if q.running < q.slots {
		q.running++
		q.mu.Unlock()
		return q.leave, nil
	}
	l := q.lines[tenant]
	if l == nil {
		l = &line{tenant: tenant}
		q.lines[tenant] = l
	}
	if q.perTenant > 0 && l.waiters.Len() >= q.perTenant {
		q.mu.Unlock()
		q.refused.Inc()
		return nil, fmt.Errorf("%w: %d of tenant %s are waiting", ErrTooMany, q.perTenant, tenant)
	}
	w := &waiter{admitted: make(chan struct{})}
	w.element = l.waiters.PushBack(w)
	if l.turn == nil {
		l.turn = q.turns.PushBack(l)
	}
	q.mu.Unlock()

	q.waiting.Inc()
	defer q.waiting.Dec()
	select {
	case <-w.admitted:
		return q.leave, nil
	case <-ctx.Done():
	}
	q.mu.Lock()
	select {
	case <-w.admitted:
		// Both happened: the slot is ours and goes on to the next.
		q.mu.Unlock()
		q.leave()
	default:
		q.remove(l, w)
		q.mu.Unlock()
	}
	return nil, context.Cause(ctx)
}

// leave hands the slot to the next in turn.
func (q *Queue) leave() {
	q.mu.Lock()
	defer q.mu.Unlock()
	first := q.turns.Front()
	if first == nil {
		q.running--
		return
	}
	l := first.Value.(*line)
	w := l.waiters.Front().Value.(*waiter)
	q.turns.MoveToBack(first)
	q.remove(l, w)
	close(w.admitted)
}

// remove takes w out of its line, and the line out of the turns when it was the last. The lock is held.
func (q *Queue) remove(l *line, w *waiter) {
	l.waiters.Remove(w.element)
	if l.waiters.Len() == 0 {
		q.turns.Remove(l.turn)
		delete(q.lines, l.tenant)
	}
}
