package results

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/promontory-io/promontory/libs/cache"
	"github.com/promontory-io/promontory/libs/cache/remote"
)

// metrics are named as dashboards of query frontends have them.
type metrics struct {
	fetched, hits, broken prometheus.Counter
	took, size            prometheus.Observer
	// gets and misses are fetched and what is not in hits, for those who read numbers.
	gets, misses atomic.Int64
}

// asked counts keys that were asked for, and those of them under which there was something.
func (m *metrics) asked(keys, hits int) {
	m.fetched.Add(float64(keys))
	m.hits.Add(float64(hits))
	m.gets.Add(int64(keys))
	m.misses.Add(int64(keys - hits))
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
func registerMemory(name string, c *cache.Memory, m *metrics, reg prometheus.Registerer) {
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
	counter("added_new_total", "Items put into the cache in memory under keys that it did not hold.", func(s cache.Stats) int64 { return s.Added - s.Replaced })
	counter("evicted_total", "Items given up to make room, or too old.", func(s cache.Stats) int64 { return s.Evicted })
	counter("gets_total", "Keys asked of the cache in memory.", func(cache.Stats) int64 { return m.gets.Load() })
	counter("misses_total", "Keys that the cache in memory did not have.", func(cache.Stats) int64 { return m.misses.Load() })
	counter("stale_gets_total", "Keys whose item in the cache in memory was too old.", func(s cache.Stats) int64 { return s.Expired })
	gauge("entries", "Items in the cache in memory.", func(s cache.Stats) int64 { return s.Items })
	gauge("memory_bytes", "Bytes that the cache in memory holds.", func(s cache.Stats) int64 { return s.TotalBytes })
}

// registerServers exposes how many memcached servers there are.
func registerServers(name string, servers func() int, reg prometheus.Registerer) {
	promauto.With(reg).NewGaugeFunc(prometheus.GaugeOpts{
		Name: "cortex_memcache_client_servers", Help: "Memcached servers that are known.", ConstLabels: prometheus.Labels{"name": name},
	}, func() float64 { return float64(servers()) })
}

// observeMemcached and observeRedis expose how long each request to the servers took.
func observeMemcached(name string, reg prometheus.Registerer) remote.Observer {
	return observe("cortex_memcache_request_duration_seconds", "Time that requests to memcached took.", name, "Memcache.GetMulti", "Memcache.Put", reg)
}

func observeRedis(name string, reg prometheus.Registerer) remote.Observer {
	return observe("cortex_rediscache_request_duration_seconds", "Time that requests to Redis took.", name, "RedisCache.MGet", "RedisCache.MSet", reg)
}

func observe(metric, help, name, get, set string, reg prometheus.Registerer) remote.Observer {
	took := promauto.With(reg).NewHistogramVec(prometheus.HistogramOpts{
		Name: metric, Help: help, Buckets: prometheus.ExponentialBuckets(0.000016, 4, 8), ConstLabels: prometheus.Labels{"name": name},
	}, []string{"method", "status_code"})
	methods := map[string]string{remote.OpGet: get, remote.OpSet: set}
	for _, method := range methods {
		took.WithLabelValues(method, "200")
		took.WithLabelValues(method, "500")
	}
	return func(op string, d time.Duration, err error) {
		code := "200"
		if err != nil {
			code = "500"
		}
		took.WithLabelValues(methods[op], code).Observe(d.Seconds())
	}
}
