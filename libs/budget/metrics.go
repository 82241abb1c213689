package budget

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	admitted, cancelled prometheus.Counter
	refused             map[Reason]prometheus.Counter
	waited              prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer, b *Budget) *metrics {
	f := promauto.With(reg)
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "promontory_budget_limit_bytes", Help: "How many bytes all requests together may hold.",
	}, func() float64 { return float64(b.limit) })
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "promontory_budget_used_bytes", Help: "How many bytes requests hold.",
	}, func() float64 { return float64(b.Used()) })
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "promontory_budget_waiting", Help: "How many requests wait for bytes.",
	}, func() float64 { return float64(b.Waiting()) })
	m := &metrics{
		admitted: f.NewCounter(prometheus.CounterOpts{
			Name: "promontory_budget_admitted_total", Help: "How often bytes were granted to requests that asked for a fixed number.",
		}),
		cancelled: f.NewCounter(prometheus.CounterOpts{
			Name: "promontory_budget_cancelled_total", Help: "How many requests ended while they waited for bytes.",
		}),
		refused: map[Reason]prometheus.Counter{},
		waited: f.NewHistogram(prometheus.HistogramOpts{
			Name:    "promontory_budget_wait_duration_seconds",
			Help:    "How long those had to wait for bytes who did not get them at once.",
			Buckets: []float64{0.01, 0.1, 0.3, 1, 3, 10, 30, 100},
		}),
	}
	refused := f.NewCounterVec(prometheus.CounterOpts{
		Name: "promontory_budget_refused_total", Help: "How often bytes were refused, by reason.",
	}, []string{"reason"})
	for _, r := range []Reason{TooLarge, Busy, Waited, Deadlock} {
		m.refused[r] = refused.WithLabelValues(string(r))
	}
	return m
}
