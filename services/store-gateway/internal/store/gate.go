package store

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// gate bounds how many requests are answered at once.
type gate struct {
	slots    chan struct{} // nil lets everybody through
	inFlight prometheus.Gauge
	total    prometheus.Counter
	waited   prometheus.Histogram
}

func newGate(size int, reg prometheus.Registerer) *gate {
	f := promauto.With(reg)
	const prefix = "thanos_bucket_store_series_gate_queries_"
	f.NewGauge(prometheus.GaugeOpts{Name: prefix + "max", Help: "How many Series requests are answered at once."}).Set(float64(size))
	g := &gate{
		inFlight: f.NewGauge(prometheus.GaugeOpts{Name: prefix + "in_flight", Help: "Series requests being answered."}),
		total:    f.NewCounter(prometheus.CounterOpts{Name: prefix + "total", Help: "Series requests let in."}),
		waited: f.NewHistogram(prometheus.HistogramOpts{
			Name: prefix + "duration_seconds", Help: "How long Series requests waited to be let in.",
			Buckets: []float64{0.01, 0.1, 0.3, 0.6, 1, 3, 6, 9, 20, 30, 60, 90, 120, 240, 360, 720},
		}),
	}
	if size > 0 {
		g.slots = make(chan struct{}, size)
	}
	return g
}

// enter waits for a place; leave gives it up.
func (g *gate) enter(ctx context.Context) (leave func(), err error) {
	begin := time.Now()
	if g.slots != nil {
		select {
		case g.slots <- struct{}{}:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	g.waited.Observe(time.Since(begin).Seconds())
	g.total.Inc()
	g.inFlight.Inc()
	return func() {
		g.inFlight.Dec()
		if g.slots != nil {
			<-g.slots
		}
	}, nil
}
