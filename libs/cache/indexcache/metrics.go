package indexcache

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/promontory-io/promontory/libs/cache"
)

// defaultTenant labels what is done for nobody in particular; its series exist from the start.
const defaultTenant = "default-tenant"

// metrics are those that all kinds of index caches have.
type metrics struct {
	requests, hits *prometheus.CounterVec
	duration, size *prometheus.HistogramVec

	tenants sync.Map // tenant -> *tenantMetrics: looking up labels costs more than looking up the cache
}

// tenantMetrics are the metrics of one tenant, by kind.
type tenantMetrics struct {
	requests, hits [items]prometheus.Counter
	duration, size [items]prometheus.Observer
}

func newMetrics(reg prometheus.Registerer) *metrics {
	factory := promauto.With(reg)
	labels := []string{"item_type", "tenant"}
	m := &metrics{
		requests: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "thanos_store_index_cache_requests_total",
			Help: "Items asked for from the index cache.",
		}, labels),
		hits: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "thanos_store_index_cache_hits_total",
			Help: "Items asked for from the index cache that it had.",
		}, labels),
		duration: factory.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "thanos_store_index_cache_fetch_duration_seconds",
			Help:    "Time to ask the index cache for a batch of items.",
			Buckets: []float64{0.01, 0.1, 0.3, 0.6, 1, 3, 6, 9, 20, 30, 60, 90, 120},
		}, labels),
		size: factory.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "thanos_store_index_cache_stored_data_size_bytes",
			Help:    "Size of items given to the index cache.",
			Buckets: prometheus.ExponentialBuckets(32, 8, 9), // 32 B to 512 MiB
		}, labels),
	}
	m.of(defaultTenant)
	return m
}

func (m *metrics) of(tenant string) *tenantMetrics {
	if tenant == "" {
		tenant = defaultTenant
	}
	if known, ok := m.tenants.Load(tenant); ok {
		return known.(*tenantMetrics)
	}
	tm := &tenantMetrics{}
	for _, item := range Items() {
		tm.requests[item] = m.requests.WithLabelValues(item.String(), tenant)
		tm.hits[item] = m.hits.WithLabelValues(item.String(), tenant)
		tm.duration[item] = m.duration.WithLabelValues(item.String(), tenant)
		tm.size[item] = m.size.WithLabelValues(item.String(), tenant)
	}
	known, _ := m.tenants.LoadOrStore(tenant, tm)
	return known.(*tenantMetrics)
}

// fetched counts a batch.
func (m *metrics) fetched(tenant string, item Item, start time.Time, asked, had int) {
	tm := m.of(tenant)
	tm.requests[item].Add(float64(asked))
	tm.hits[item].Add(float64(had))
	tm.duration[item].Observe(time.Since(start).Seconds())
}

func (m *metrics) stored(tenant string, item Item, size int) {
	m.of(tenant).size[item].Observe(float64(size))
}

// registerMemoryMetrics exposes the statistics that a cache in memory has besides, read when somebody asks.
func registerMemoryMetrics(reg prometheus.Registerer, cfg MemoryConfig, stats func(Item) cache.Stats) {
	factory := promauto.With(reg)
	factory.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "thanos_store_index_cache_max_size_bytes",
		Help: "Most bytes that the index cache holds.",
	}, func() float64 { return float64(cfg.MaxSize) })
	factory.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "thanos_store_index_cache_max_item_size_bytes",
		Help: "Size above which an item is not stored.",
	}, func() float64 { return float64(cfg.MaxItemSize) })

	for _, item := range Items() {
		label := prometheus.Labels{"item_type": item.String()}
		gauge := func(name, help string, value func(cache.Stats) int64) {
			factory.NewGaugeFunc(prometheus.GaugeOpts{Name: "thanos_store_index_cache_" + name, Help: help, ConstLabels: label},
				func() float64 { return float64(value(stats(item))) })
		}
		counter := func(name, help string, value func(cache.Stats) int64) {
			factory.NewCounterFunc(prometheus.CounterOpts{Name: "thanos_store_index_cache_" + name, Help: help, ConstLabels: label},
				func() float64 { return float64(value(stats(item))) })
		}
		gauge("items", "Items in the index cache.", func(s cache.Stats) int64 { return s.Items })
		gauge("items_size_bytes", "Bytes of the items in the index cache.", func(s cache.Stats) int64 { return s.ValueBytes })
		gauge("total_size_bytes", "Bytes of the items in the index cache with their keys and all overhead.", func(s cache.Stats) int64 { return s.TotalBytes })
		counter("items_added_total", "Items stored in the index cache.", func(s cache.Stats) int64 { return s.Added })
		counter("items_evicted_total", "Items given up to make room.", func(s cache.Stats) int64 { return s.Evicted })
		counter("items_overflowed_total", "Items that were too large to be stored.", func(s cache.Stats) int64 { return s.Overflowed })
	}
}
