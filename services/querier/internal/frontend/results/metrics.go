package results

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/promontory-io/promontory/libs/cache"
)

// metrics are named as dashboards of query frontends have them.
type metrics struct {
	fetched, hits, broken prometheus.Counter
	took, size            prometheus.Observer
}

func newMetrics(name string, reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	named := prometheus.Labels{"name": name}
	return &metrics{
		fetched: f.NewCounter(prometheus.CounterOpts{
			Name: "cortex_cache_fetched_keys_total", Help: "Keys asked of the response cache.", ConstLabels: named,
		}),
		hits: f.NewCounter(prometheus.CounterOpts{
			Name: "cortex_cache_hits_total", Help: "Keys that the response cache had.", ConstLabels: named,
		}),
		broken: f.NewCounter(prometheus.CounterOpts{
			Name: "promontory_frontend_cache_broken_total", Help: "Cached values that could not be used.", ConstLabels: named,
		}),
		took: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "cortex_cache_request_duration_seconds", Help: "Time the response cache took to answer.",
			Buckets: prometheus.ExponentialBuckets(0.000016, 4, 8), ConstLabels: named,
		}, []string{"method", "status_code"}).WithLabelValues("fetch", "200"),
		size: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "cortex_cache_value_size_bytes", Help: "Size of the values put into the response cache.",
			Buckets: prometheus.ExponentialBuckets(1024, 4, 7), ConstLabels: named,
		}, []string{"method"}).WithLabelValues("store"),
	}
}

// registerMemory exposes the statistics of a cache in memory, read when somebody asks.
func registerMemory(name string, c *cache.Memory, reg prometheus.Registerer) {
	f := promauto.With(reg)
	named := prometheus.Labels{"cache": name}
	counter := func(metric, help string, value func(cache.Stats) int64) {
		f.NewCounterFunc(prometheus.CounterOpts{Name: "querier_cache_" + metric, Help: help, ConstLabels: named},
			func() float64 { return float64(value(c.Stats())) })
	}
	gauge := func(metric, help string, value func(cache.Stats) int64) {
		f.NewGaugeFunc(prometheus.GaugeOpts{Name: "querier_cache_" + metric, Help: help, ConstLabels: named},
			func() float64 { return float64(value(c.Stats())) })
	}
	counter("added_total", "Items put into the cache in memory.", func(s cache.Stats) int64 { return s.Added })
	counter("evicted_total", "Items given up to make room, or too old.", func(s cache.Stats) int64 { return s.Evicted })
	gauge("entries", "Items in the cache in memory.", func(s cache.Stats) int64 { return s.Items })
	gauge("memory_bytes", "Bytes that the cache in memory holds.", func(s cache.Stats) int64 { return s.TotalBytes })
}
