package backend

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/promontory-io/promontory/libs/cache"
)

// registerMemory exposes the statistics of a cache in memory, read when somebody asks.
func registerMemory(reg prometheus.Registerer, cfg cache.MemoryConfig, c *cache.Memory) {
	factory := promauto.With(reg)
	gauge := func(name, help string, value func() int64) {
		factory.NewGaugeFunc(prometheus.GaugeOpts{Name: "thanos_cache_inmemory_" + name, Help: help}, func() float64 { return float64(value()) })
	}
	counter := func(name, help string, value func() int64) {
		factory.NewCounterFunc(prometheus.CounterOpts{Name: "thanos_cache_inmemory_" + name, Help: help}, func() float64 { return float64(value()) })
	}
	gauge("max_size_bytes", "Most bytes that the cache holds.", func() int64 { return int64(cfg.MaxSize) })
	gauge("max_item_size_bytes", "Size above which an item is not stored.", func() int64 { return int64(cfg.MaxItemSize) })
	gauge("items", "Items in the cache.", func() int64 { return c.Stats().Items })
	gauge("items_size_bytes", "Bytes of the items in the cache.", func() int64 { return c.Stats().ValueBytes })
	gauge("total_size_bytes", "Bytes of the items in the cache with their keys and all overhead.", func() int64 { return c.Stats().TotalBytes })
	counter("items_added_total", "Items stored in the cache.", func() int64 { return c.Stats().Added })
	counter("items_evicted_total", "Items given up to make room.", func() int64 { return c.Stats().Evicted })
	counter("items_overflowed_total", "Items that were too large to be stored.", func() int64 { return c.Stats().Overflowed })
}
