// Package gate bounds how many things happen at once, and shows who waits.
package gate

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Factory makes gates of the same size that share their metrics. It is safe for
// concurrent use.
type Factory struct {
	max      int
	inFlight prometheus.Gauge
	total    prometheus.Counter
	waited   prometheus.Histogram
}

// NewFactory returns a factory of gates that let max through at once, any number if max is
// not positive. The metrics are <prefix>_max, _in_flight, _total and _duration_seconds, the last being
// the time spent waiting. A nil registerer works.
func NewFactory(reg prometheus.Registerer, prefix string, maxConcurrent int) *Factory {
	f := promauto.With(reg)
	f.NewGauge(prometheus.GaugeOpts{Name: prefix + "_max", Help: "How many may pass at once."}).Set(float64(maxConcurrent))
	return &Factory{
		max:      maxConcurrent,
		inFlight: f.NewGauge(prometheus.GaugeOpts{Name: prefix + "_in_flight", Help: "How many have passed and are not yet done."}),
		total:    f.NewCounter(prometheus.CounterOpts{Name: prefix + "_total", Help: "How many have passed."}),
		waited: f.NewHistogram(prometheus.HistogramOpts{
			Name:    prefix + "_duration_seconds",
			Help:    "How long was waited before passing.",
			Buckets: []float64{0.01, 0.1, 0.3, 0.6, 1, 3, 6, 9, 20, 30, 60, 90, 120, 240, 360, 720},
		}),
	}
}

// New returns an open gate.
func (f *Factory) New() *Gate {
	g := &Gate{factory: f}
	if f.max > 0 {
		g.slots = make(chan struct{}, f.max)
	}
	return g
}

// Gate lets a bounded number through at once. It is safe for concurrent use.
type Gate struct {
	factory *Factory
	slots   chan struct{} // nil lets everybody through
}

// Enter waits for a free slot and returns the function that frees it again, to be called once. When
// ctx ends first its error is returned.
func (g *Gate) Enter(ctx context.Context) (leave func(), err error) {
	start := time.Now()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if g.slots != nil {
		select {
		case g.slots <- struct{}{}:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	f := g.factory
	f.waited.Observe(time.Since(start).Seconds())
	f.total.Inc()
	f.inFlight.Inc()
	return func() {
		f.inFlight.Dec()
		if g.slots != nil {
			<-g.slots
		}
	}, nil
}
