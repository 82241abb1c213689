// Package limits holds tenants to what they may write: in one request, at once, and how many active series
// they may have.
//
// The configuration is read again whenever its file changes; a broken one leaves what held before.
// Active series are counted by asking the nodes of the cluster themselves, or, where the configuration
// names one, a Prometheus that watches them; while the count is not known nobody is held up by it.
package limits

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/limits"
)

// Kinds of errors: what a request has too much of.
var (
	// ErrRequest is a limit of the request; a smaller one may pass.
	ErrRequest = errors.New("limit of the request")
	// ErrHeadSeries is the limit of active series; the same request may pass later.
	ErrHeadSeries = errors.New("limit of active series")
)

const countInterval = 15 * time.Second

// CountFunc returns the number of active series of each tenant, summed over nodes.
type CountFunc func(ctx context.Context, cfg *limits.Config) (map[string]uint64, error)

// Options are what a limiter is made with.
type Options struct {
	// Path is the file of the configuration, "" where there is none or it was given inline.
	Path string
	// Load returns the document; nil for none.
	Load func() ([]byte, error)
	// Interval is how often the file is looked at.
	Interval time.Duration
	// Count counts active series; nil where that is somebody else's to do.
	Count      CountFunc
	Logger     *zap.Logger
	Registerer prometheus.Registerer
}

// Limiter decides who may write. It is safe for concurrent use.
type Limiter struct {
	opts    Options
	metrics *metrics
	cfg     atomic.Pointer[limits.Config]
	counts  atomic.Pointer[map[string]uint64]
	raw     []byte // of the file when it was last read; Run's own

	mu      sync.Mutex
	running int64         // guarded by mu
	freed   chan struct{} // guarded by mu; closed when one has left
}

type metrics struct {
	reloads, reloadErrs prometheus.Counter
	limits              *prometheus.GaugeVec
	hits                *prometheus.SummaryVec
	headLimit           *prometheus.GaugeVec
	headLimited         *prometheus.CounterVec
	failedCounts        prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	return &metrics{
		reloads: f.NewCounter(prometheus.CounterOpts{
			Name: "thanos_receive_limits_config_reload_total", Help: "Readings of the limits configuration.",
		}),
		reloadErrs: f.NewCounter(prometheus.CounterOpts{
			Name: "thanos_receive_limits_config_reload_err_total", Help: "Readings of the limits configuration that failed.",
		}),
		limits: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "thanos_receive_write_limits", Help: "The configured limits of requests.",
		}, []string{"tenant", "limit"}),
		hits: f.NewSummaryVec(prometheus.SummaryOpts{
			Name: "thanos_receive_write_limits_hit", Help: "By how much requests that were refused exceeded a limit.",
			Objectives: map[float64]float64{0.5: 0.1, 0.95: 0.1, 0.99: 0.001},
		}, []string{"tenant", "limit"}),
		headLimit: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "thanos_receive_head_series_limit", Help: "The configured limits of active series.",
		}, []string{"tenant"}),
		headLimited: f.NewCounterVec(prometheus.CounterOpts{
			Name: "thanos_receive_head_series_limited_requests_total", Help: "Requests that were refused because of the limit of active series.",
		}, []string{"tenant"}),
		failedCounts: f.NewCounter(prometheus.CounterOpts{
			Name: "thanos_receive_metamonitoring_failed_queries_total", Help: "Failures to count active series.",
		}),
	}
}

// New returns a limiter. A document that cannot be used is an error.
func New(opts Options) (*Limiter, error) {
	l := &Limiter{opts: opts, metrics: newMetrics(opts.Registerer), freed: make(chan struct{})}
	l.cfg.Store(&limits.Config{})
	l.counts.Store(&map[string]uint64{})
	l.show(&limits.Config{})
	if opts.Load == nil {
		return l, nil
	}
	if err := l.reload(); err != nil {
		return nil, err
	}
	if opts.Path != "" {
		l.raw, _ = os.ReadFile(opts.Path)
	}
	return l, nil
}

func (l *Limiter) source() string {
	if l.opts.Path != "" {
		return l.opts.Path
	}
	return "--receive.limits-config"
}

func (l *Limiter) reload() error {
	l.metrics.reloads.Inc()
	data, err := l.opts.Load()
	var c *limits.Config
	if err == nil {
		c, err = limits.Parse(l.source(), data)
	}
	if err != nil {
		l.metrics.reloadErrs.Inc()
		return fmt.Errorf("limits: %w", err)
	}
	l.show(c)
	l.cfg.Store(c)
	return nil
}

// show puts the limits into metrics.
func (l *Limiter) show(c *limits.Config) {
	l.metrics.limits.Reset()
	l.metrics.headLimit.Reset()
	set := func(tenant string, e limits.Effective) {
		l.metrics.limits.WithLabelValues(tenant, limitBody).Set(float64(e.SizeBytes))
		l.metrics.limits.WithLabelValues(tenant, limitSeries).Set(float64(e.Series))
		l.metrics.limits.WithLabelValues(tenant, limitSamples).Set(float64(e.Samples))
	}
	set("", c.For(""))
	l.metrics.headLimit.WithLabelValues("").Set(float64(c.For("").HeadSeries))
	for name := range c.Write.Tenants {
		set(name, c.For(name))
		l.metrics.headLimit.WithLabelValues(name).Set(float64(c.For(name).HeadSeries))
	}
}

// Run reads the file again when it changes and keeps the counts of active series, until ctx is done.
func (l *Limiter) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	if l.opts.Path != "" && l.opts.Interval > 0 {
		wg.Go(func() { l.watch(ctx) })
	}
	if l.opts.Count != nil {
		wg.Go(func() { l.keepCounting(ctx) })
	}
	wg.Wait()
	<-ctx.Done()
	return nil
}

func (l *Limiter) watch(ctx context.Context) {
	tick := time.NewTicker(l.opts.Interval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		raw, err := os.ReadFile(l.opts.Path)
		if err == nil && bytes.Equal(raw, l.raw) {
			continue
		}
		l.raw = raw
		if err := l.reload(); err != nil {
			l.opts.Logger.Error("limits stay as they were", zap.Error(err))
			continue
		}
		l.opts.Logger.Info("limits were read again")
	}
}

func (l *Limiter) keepCounting(ctx context.Context) {
	tick := time.NewTicker(countInterval)
	defer tick.Stop()
	for {
		if c := l.cfg.Load(); c.HeadLimits() {
			counts, err := l.opts.Count(ctx, c)
			if err != nil && ctx.Err() == nil {
				l.metrics.failedCounts.Inc()
				l.opts.Logger.Warn("count active series: requests pass", zap.Error(err))
				counts = nil
			}
			l.counts.Store(&counts)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// Enter waits until one more request may be handled. leave is to be called once when it is done.
func (l *Limiter) Enter(ctx context.Context) (leave func(), err error) {
	for {
		l.mu.Lock()
		limit := l.cfg.Load().Write.Global.MaxConcurrency
		if limit <= 0 || l.running < limit {
			l.running++
			l.mu.Unlock()
			return l.leave, nil
		}
		freed := l.freed
		l.mu.Unlock()
		select {
		case <-freed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (l *Limiter) leave() {
	l.mu.Lock()
	l.running--
	close(l.freed)
	l.freed = make(chan struct{})
	l.mu.Unlock()
}

// Names of limits in metrics.
const (
	limitBody    = "body_size"
	limitSeries  = "series"
	limitSamples = "samples"
)

// Size returns [ErrRequest] for a body of too many bytes.
func (l *Limiter) Size(tenant string, bytes int64) error {
	return l.check(tenant, limitBody, bytes, l.cfg.Load().For(tenant).SizeBytes)
}

// Content returns [ErrRequest] for too many series or samples.
func (l *Limiter) Content(tenant string, series, samples int64) error {
	e := l.cfg.Load().For(tenant)
	if err := l.check(tenant, limitSeries, series, e.Series); err != nil {
		return err
	}
	return l.check(tenant, limitSamples, samples, e.Samples)
}

func (l *Limiter) check(tenant, what string, got, limit int64) error {
	if limit <= 0 || got <= limit {
		return nil
	}
	l.metrics.hits.WithLabelValues(tenant, what).Observe(float64(got - limit))
	return fmt.Errorf("%w: %s is %d, tenant %s may have %d", ErrRequest, what, got, tenant, limit)
}

// HeadSeries returns [ErrHeadSeries] for a tenant that has reached its limit.
func (l *Limiter) HeadSeries(tenant string) error {
	limit := l.cfg.Load().For(tenant).HeadSeries
	if limit == 0 {
		return nil
	}
	if n := (*l.counts.Load())[tenant]; n >= limit {
		l.metrics.headLimited.WithLabelValues(tenant).Inc()
		return fmt.Errorf("%w: tenant %s has %d, it may have %d", ErrHeadSeries, tenant, n, limit)
	}
	return nil
}
