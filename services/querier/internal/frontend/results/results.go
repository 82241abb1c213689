// Package results keeps answers to queries in a cache, range by range.
//
// Under one key lie the answers to one query over one interval of time, as extents: runs of steps whose answer is known. A
// request takes from them what it needs, asks for the gaps, and puts back what is then known. Who decides what may be put
// there is the caller; nothing here looks at the clock.
package results

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/cache"
)

// Cache keeps entries under keys of any length and content. It is safe for concurrent use.
type Cache struct {
	under    cache.Cache
	ttl      time.Duration
	compress bool
	logger   *zap.Logger
	metrics  *metrics
}

// New returns a cache over another, which it closes with itself. name is that of its metrics.
func New(name string, under cache.Cache, cfg Config, logger *zap.Logger, reg prometheus.Registerer) *Cache {
	return &Cache{
		under: under, ttl: cfg.TTL, compress: cfg.Compress,
		logger: logger.Named("results").With(zap.String("cache", name)), metrics: newMetrics(name, reg),
	}
}

// Get returns what is known under each of the keys, in their order.
func (c *Cache) Get(ctx context.Context, keys []string) []Entry {
	out, hits := c.get(ctx, keys)
	c.metrics.asked(len(keys), hits)
	return out
}

// Try is Get for keys under which something of use may lie by luck: what is not there is no miss.
func (c *Cache) Try(ctx context.Context, keys []string) []Entry {
	out, _ := c.get(ctx, keys)
	return out
}

func (c *Cache) get(ctx context.Context, keys []string) (out []Entry, hits int) {
	short := make([]string, len(keys))
	for i, k := range keys {
		short[i] = shorten(k)
	}
	begin := time.Now()
	values := c.under.Get(ctx, short)
	c.metrics.took.Observe(time.Since(begin).Seconds())
	out = make([]Entry, len(keys))
	for i, v := range values {
		if v == nil {
			continue
		}
		e, err := decode(v, keys[i])
		if err != nil {
			// Somebody else's, or broken: whoever asks gets it anew and it is replaced.
			c.metrics.broken.Inc()
			c.logger.Debug("cached answer is not used", zap.Error(err))
			continue
		}
		hits++
		out[i] = e
	}
	return out, hits
}

// Put keeps e under key, if there is room.
func (c *Cache) Put(key string, e Entry) {
	value := encode(key, e, c.compress)
	c.metrics.size.Observe(float64(len(value)))
	c.under.Set(shorten(key), value, c.ttl)
}

// Close closes the cache below.
func (c *Cache) Close() error { return c.under.Close() }

// shorten makes a key that every kind of cache takes. The whole key is kept with the value and compared.
func shorten(key string) string {
	sum := sha256.Sum256([]byte(key))
	return "promontory:fe:" + hex.EncodeToString(sum[:])
}
