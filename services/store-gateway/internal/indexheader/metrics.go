package indexheader

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Metrics are about headers being made, opened and closed.
type Metrics struct {
	download, load, lazyLoad                                 prometheus.Histogram
	lazyLoads, lazyLoadFailed, lazyUnloads, lazyUnloadFailed prometheus.Counter
}

// NewMetrics registers the metrics with reg, which may be nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	f := promauto.With(reg)
	const prefix = "thanos_bucket_store_indexheader_"
	seconds := func(name, help string) prometheus.Histogram {
		return f.NewHistogram(prometheus.HistogramOpts{
			Name: prefix + name, Help: help, Buckets: []float64{0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 15, 30, 60, 120, 300},
		})
	}
	count := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: prefix + name, Help: help})
	}
	return &Metrics{
		download:         seconds("download_duration_seconds", "How long it took to make index headers from the bucket."),
		load:             seconds("load_duration_seconds", "How long it took to open index headers."),
		lazyLoad:         seconds("lazy_load_duration_seconds", "How long it took to open index headers at their first use."),
		lazyLoads:        count("lazy_load_total", "Index headers opened at their first use."),
		lazyLoadFailed:   count("lazy_load_failed_total", "Index headers that could not be opened at their first use."),
		lazyUnloads:      count("lazy_unload_total", "Idle index headers closed."),
		lazyUnloadFailed: count("lazy_unload_failed_total", "Idle index headers that could not be closed."),
	}
}

func (m *Metrics) lazyLoaded(took time.Duration, err error) {
	m.lazyLoads.Inc()
	if err != nil {
		m.lazyLoadFailed.Inc()
		return
	}
	m.lazyLoad.Observe(took.Seconds())
}

func (m *Metrics) lazyUnloaded(err error) {
	m.lazyUnloads.Inc()
	if err != nil {
		m.lazyUnloadFailed.Inc()
	}
}
