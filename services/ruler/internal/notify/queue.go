// Package notify brings alerts to Alertmanagers: a bounded queue, and a sender that gives every
// batch to every Alertmanager.
//
// Nothing is tried twice here: an alert that is firing or was resolved lately is queued again by its
// rule, so that it arrives once an Alertmanager is back.
package notify

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
	"go.uber.org/zap"
)

// What the queue holds and how much of it is sent at once.
const (
	DefaultCapacity = 10000
	DefaultBatch    = 100
)

// Alert is an alert as Alertmanager gets it. Labels and annotations are not changed after it was queued.
type Alert struct {
	Labels      labels.Labels `json:"labels"`
	Annotations labels.Labels `json:"annotations"`
	StartsAt    time.Time     `json:"startsAt,omitzero"`
	// EndsAt is when it was resolved, or until when it counts as firing without another word.
	EndsAt       time.Time `json:"endsAt,omitzero"`
	GeneratorURL string    `json:"generatorURL,omitempty"`
}

// QueueConfig makes a Queue.
type QueueConfig struct {
	Capacity, Batch int
	// Drop are labels that alerts lose, External those they gain afterwards where they lack them, and
	// Relabel is what is done to the result.
	Drop     []string
	External labels.Labels
	Relabel  []*relabel.Config
}

// Queue holds alerts until they are sent. When it is full the oldest go. It is safe for concurrent use.
type Queue struct {
	cfg     QueueConfig
	logger  *zap.Logger
	metrics queueMetrics
	more    chan struct{}

	mu    sync.Mutex
	queue []*Alert // guarded by mu
}

type queueMetrics struct{ dropped, pushed, popped prometheus.Counter }

// NewQueue returns an empty queue.
func NewQueue(cfg QueueConfig, logger *zap.Logger, reg prometheus.Registerer) *Queue {
	q := &Queue{cfg: cfg, logger: logger, more: make(chan struct{}, 1)}
	f := promauto.With(reg)
	q.metrics = queueMetrics{
		dropped: f.NewCounter(prometheus.CounterOpts{Name: "thanos_alert_queue_alerts_dropped_total", Help: "Alerts that were dropped because the queue was full."}),
		pushed:  f.NewCounter(prometheus.CounterOpts{Name: "thanos_alert_queue_alerts_pushed_total", Help: "Alerts that were queued."}),
		popped:  f.NewCounter(prometheus.CounterOpts{Name: "thanos_alert_queue_alerts_popped_total", Help: "Alerts that were taken from the queue."}),
	}
	f.NewGaugeFunc(prometheus.GaugeOpts{Name: "thanos_alert_queue_capacity", Help: "How many alerts the queue holds."},
		func() float64 { return float64(cfg.Capacity) })
	f.NewGaugeFunc(prometheus.GaugeOpts{Name: "thanos_alert_queue_length", Help: "Alerts in the queue."},
		func() float64 { return float64(q.Len()) })
	return q
}

// Len is how many alerts wait.
func (q *Queue) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.queue)
}

// Push queues alerts with their labels brought into the form for Alertmanager. It never waits.
func (q *Queue) Push(alerts ...*Alert) {
	var ready []*Alert
	for _, a := range alerts {
		if lset := q.relabel(a.Labels); !lset.IsEmpty() {
			b := *a
			b.Labels = lset
			ready = append(ready, &b)
		}
	}
	if len(ready) == 0 {
		return
	}
	q.mu.Lock()
	q.metrics.pushed.Add(float64(len(ready)))
	q.queue = append(q.queue, ready...)
	over := len(q.queue) - q.cfg.Capacity
	if over > 0 {
		clear(q.queue[:over])
		q.queue = q.queue[over:]
	}
	q.mu.Unlock()
	if over > 0 {
		q.metrics.dropped.Add(float64(over))
		q.logger.Warn("queue of alerts is full, the oldest were dropped", zap.Int("dropped", over), zap.Int("capacity", q.cfg.Capacity))
	}
	q.wake()
}

func (q *Queue) wake() {
	select {
	case q.more <- struct{}{}:
	default:
	}
}

// relabel returns the labels that Alertmanager sees; none if the alert is not for it.
func (q *Queue) relabel(lset labels.Labels) labels.Labels {
	b := labels.NewBuilder(lset)
	b.Del(q.cfg.Drop...)
	q.cfg.External.Range(func(l labels.Label) {
		if !contains(q.cfg.Drop, l.Name) && b.Get(l.Name) == "" {
			b.Set(l.Name, l.Value)
		}
	})
	if len(q.cfg.Relabel) > 0 && !relabel.ProcessBuilder(b, q.cfg.Relabel...) {
		return labels.EmptyLabels()
	}
	return b.Labels()
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

// Pop waits for alerts and takes a batch of them; none when ctx ended.
func (q *Queue) Pop(ctx context.Context) []*Alert {
	for {
		if batch := q.take(); len(batch) > 0 {
			return batch
		}
		select {
		case <-q.more:
		case <-ctx.Done():
			return nil
		}
	}
}

func (q *Queue) take() []*Alert {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := min(len(q.queue), q.cfg.Batch)
	batch := make([]*Alert, n)
	copy(batch, q.queue)
	clear(q.queue[:n])
	q.queue = q.queue[n:]
	q.metrics.popped.Add(float64(n))
	return batch
}
