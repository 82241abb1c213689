package results

import (
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/cache"
	"github.com/promontory-io/promontory/libs/cache/backend"
	"github.com/promontory-io/promontory/libs/cache/memcached"
	"github.com/promontory-io/promontory/libs/cache/redis"
	"github.com/promontory-io/promontory/libs/discovery/strictyaml"
)

// Config is where answers are kept and for how long.
type Config struct {
	Backend backend.Config
	// TTL is how long an entry is kept; 0 is for as long as there is room.
	TTL time.Duration
	// Compress has entries stored by snappy.
	Compress bool
	// Items bounds how many entries a cache in memory holds, besides the bound on their bytes; 0 does not.
	Items int
}

// defaultExpiration is how long shared caches keep an entry.
const defaultExpiration = 24 * time.Hour

// The documents of the three types: what the backend knows, and how long entries are kept.
type (
	memoryDocument struct {
		cache.MemoryConfig `yaml:",inline"`

		MaxItems int            `yaml:"max_size_items"`
		Validity cache.Duration `yaml:"validity"`
	}
	memcachedDocument struct {
		memcached.Config `yaml:",inline"`

		Expiration cache.Duration `yaml:"expiration"`
	}
	redisDocument struct {
		redis.Config `yaml:",inline"`

		Expiration cache.Duration `yaml:"expiration"`
	}
)

type document[C any] struct {
	Type   string `yaml:"type"`
	Config C      `yaml:"config"`
}

func decodeAs[C any](source string, text []byte, config C) (C, error) {
	doc := document[C]{Config: config}
	if err := strictyaml.Decode(source, text, &doc); err != nil {
		return config, fmt.Errorf("%s", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return doc.Config, nil
}

// ParseConfig reads a document of type IN-MEMORY, MEMCACHED or REDIS. Unknown keys are errors. Errors are one line and begin with
// the source, a file or a flag, and where there is one the line.
func ParseConfig(source string, text []byte) (Config, error) {
	var loose struct {
		Type string `yaml:"type"`
		Rest any    `yaml:"config"`
	}
	if err := strictyaml.Decode(source, text, &loose); err != nil {
		return Config{}, fmt.Errorf("%s", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	cfg := Config{Backend: backend.DefaultConfig()}
	cfg.Backend.Type = strings.ToUpper(loose.Type)
	switch cfg.Backend.Type {
	case backend.TypeInMemory:
		d, err := decodeAs(source, text, memoryDocument{MemoryConfig: cache.DefaultMemoryConfig()})
		if err != nil {
			return Config{}, err
		}
		if d.MaxItems < 0 {
			return Config{}, fmt.Errorf("%s: config: max_size_items %d is negative", source, d.MaxItems)
		}
		cfg.Backend.Memory, cfg.TTL, cfg.Items = d.WithDefaults(), time.Duration(d.Validity), d.MaxItems
	case backend.TypeMemcached:
		start := memcachedDocument{Config: memcached.DefaultConfig(), Expiration: cache.Duration(defaultExpiration)}
		start.MaxAsyncConcurrency = 10
		d, err := decodeAs(source, text, start)
		if err != nil {
			return Config{}, err
		}
		cfg.Backend.Memcached, cfg.TTL = d.Config, time.Duration(d.Expiration)
	case backend.TypeRedis:
		d, err := decodeAs(source, text, redisDocument{Config: redis.DefaultConfig(), Expiration: cache.Duration(defaultExpiration)})
		if err != nil {
			return Config{}, err
		}
		cfg.Backend.Redis, cfg.TTL = d.Config, time.Duration(d.Expiration)
	default:
		return Config{}, fmt.Errorf("%s: unknown type %q of response cache (known: %s, %s, %s)",
			source, loose.Type, backend.TypeInMemory, backend.TypeMemcached, backend.TypeRedis)
	}
	if err := cfg.Backend.Validate(); err != nil {
		return Config{}, fmt.Errorf("%s: config: %s", source, strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return cfg, nil
}

// Open returns the cache that the configuration describes; name is that of its metrics.
func Open(name string, cfg Config, logger *zap.Logger, reg prometheus.Registerer) (*Cache, error) {
	switch cfg.Backend.Type {
	case backend.TypeInMemory:
		m := cfg.Backend.Memory.WithDefaults()
		under := cache.NewMemoryOf(int64(m.MaxSize), int64(m.MaxItemSize), int64(cfg.Items))
		c := New(name, under, cfg, logger, reg)
		registerMemory(name, under, c.metrics, reg)
		return c, nil
	case backend.TypeMemcached:
		cfg.Backend.Memcached.Observer = observeMemcached(name, reg)
	case backend.TypeRedis:
		cfg.Backend.Redis.Observer = observeRedis(name, reg)
	}
	under, err := backend.Open(name, cfg.Backend, logger, reg)
	if err != nil {
		return nil, fmt.Errorf("open response cache %s: %w", name, err)
	}
	if servers, ok := under.(interface{ Servers() int }); ok {
		registerServers(name, servers.Servers, reg)
	}
	return New(name, under, cfg, logger, reg), nil
}
