package syncer

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics tell how the blocks of the store come and go.
type metrics struct {
	loads, loadFailures, drops, dropFailures prometheus.Counter
	loaded, lastLoaded, aside                prometheus.Gauge
	loadTime                                 prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	const prefix = "thanos_bucket_store_"
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: prefix + name, Help: help})
	}
	return &metrics{
		loads:        counter("block_loads_total", "Blocks tried to be opened."),
		loadFailures: counter("block_load_failures_total", "Blocks that could not be opened and were set aside."),
		drops:        counter("block_drops_total", "Blocks let go because they are not in the bucket any more."),
		dropFailures: counter("block_drop_failures_total", "Blocks let go whose local files could not be deleted."),
		loaded:       f.NewGauge(prometheus.GaugeOpts{Name: prefix + "blocks_loaded", Help: "Blocks that are served."}),
		lastLoaded: f.NewGauge(prometheus.GaugeOpts{
			Name: prefix + "blocks_last_loaded_timestamp_seconds", Help: "When a block was last opened, Unix seconds.",
		}),
		aside: f.NewGauge(prometheus.GaugeOpts{
			Name: "promontory_store_gateway_blocks_set_aside", Help: "Blocks that should be served and cannot be.",
		}),
		loadTime: f.NewHistogram(prometheus.HistogramOpts{
			Name: prefix + "block_load_duration_seconds", Help: "Time to open a block.",
			Buckets: []float64{0.01, 0.05, 0.1, 0.5, 1, 5, 15, 30, 60, 300},
		}),
	}
}
