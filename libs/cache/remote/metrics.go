package remote

import (
	"context"
	"errors"
	"net"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Operations, reasons of failures and reasons of what was not even tried: the label values of metrics.
const (
	OpGet = "getmulti"
	OpSet = "set"

	SkipTooLarge  = "max-item-size"
	SkipQueueFull = "async-buffer-full"
	SkipBreaker   = "circuit-breaker"
	SkipNoServer  = "no-server"
	SkipBadKey    = "malformed-key"

	failTimeout = "timeout"
	failNetwork = "network-error"
	failOther   = "other"
)

// Metrics counts what is asked of a cache in another process.
type Metrics struct {
	factory           promauto.Factory
	operations        *prometheus.CounterVec
	failures, skipped *prometheus.CounterVec
	duration, size    *prometheus.HistogramVec
	observer          Observer
}

// Observer is told of every operation when it has ended, for who has metrics of another name: [OpGet] or [OpSet], how long it
// took, and why it failed, nil if it did not. It is called by many goroutines at once.
type Observer func(op string, took time.Duration, err error)

// Tell has an observer told as well; nil is none. It is called before the first operation.
func (m *Metrics) Tell(o Observer) *Metrics {
	m.observer = o
	return m
}

// NewMetrics registers metrics with names that begin with the prefix. The registry may be nil; two caches of a process
// need registries with different labels.
func NewMetrics(reg prometheus.Registerer, prefix string) *Metrics {
	factory := promauto.With(reg)
	m := &Metrics{
		factory: factory,
		operations: factory.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "operations_total",
			Help: "Operations of the cache client.",
		}, []string{"operation"}),
		failures: factory.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "operation_failures_total",
			Help: "Operations of the cache client that failed.",
		}, []string{"operation", "reason"}),
		skipped: factory.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "operation_skipped_total",
			Help: "Items that the cache client did not try to get or set.",
		}, []string{"operation", "reason"}),
		duration: factory.NewHistogramVec(prometheus.HistogramOpts{
			Name:    prefix + "operation_duration_seconds",
			Help:    "Duration of operations of the cache client.",
			Buckets: []float64{0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 3, 6, 10},
		}, []string{"operation"}),
		size: factory.NewHistogramVec(prometheus.HistogramOpts{
			Name:    prefix + "operation_data_size_bytes",
			Help:    "Bytes of the values that an operation of the cache client moved.",
			Buckets: []float64{1 << 10, 8 << 10, 32 << 10, 128 << 10, 512 << 10, 1 << 20, 4 << 20, 16 << 20},
		}, []string{"operation"}),
	}
	for _, op := range []string{OpGet, OpSet} {
		m.operations.WithLabelValues(op)
		m.duration.WithLabelValues(op)
		m.size.WithLabelValues(op)
		for _, reason := range []string{failTimeout, failNetwork, failOther} {
			m.failures.WithLabelValues(op, reason)
		}
		for _, reason := range []string{SkipBreaker, SkipNoServer, SkipBadKey} {
			m.skipped.WithLabelValues(op, reason)
		}
	}
	m.skipped.WithLabelValues(OpSet, SkipTooLarge)
	m.skipped.WithLabelValues(OpSet, SkipQueueFull)
	return m
}

// Done counts an operation and what it moved.
func (m *Metrics) Done(op string, start time.Time, bytes int, err error) {
	took := time.Since(start)
	m.operations.WithLabelValues(op).Inc()
	m.duration.WithLabelValues(op).Observe(took.Seconds())
	if m.observer != nil {
		m.observer(op, took, err)
	}
	if err != nil {
		m.failures.WithLabelValues(op, reason(err)).Inc()
		return
	}
	m.size.WithLabelValues(op).Observe(float64(bytes))
}

// Skipped counts items for which nothing was tried.
func (m *Metrics) Skipped(op, reason string, items int) {
	m.skipped.WithLabelValues(op, reason).Add(float64(items))
}

// watch exposes what waits in a queue.
func (m *Metrics) watch(q *Queue) {
	m.factory.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "promontory_cache_queue_items",
		Help: "Items that wait to be stored in the cache.",
	}, func() float64 { return float64(len(q.items)) })
	m.factory.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "promontory_cache_queue_bytes",
		Help: "Bytes of the items that wait to be stored in the cache, or are being stored.",
	}, func() float64 { return float64(q.bytes.Load()) })
}

func reason(err error) string {
	var netErr net.Error
	var opErr *net.OpError
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &netErr) && netErr.Timeout():
		return failTimeout
	case errors.As(err, &opErr), errors.Is(err, net.ErrClosed):
		return failNetwork
	}
	return failOther
}
