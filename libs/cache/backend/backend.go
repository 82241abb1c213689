// Package backend chooses a cache by its configuration: in memory, memcached or redis.
package backend

import (
	"fmt"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.yaml.in/yaml/v3"

	"github.com/promontory-io/promontory/libs/cache"
	"github.com/promontory-io/promontory/libs/cache/memcached"
	"github.com/promontory-io/promontory/libs/cache/redis"
	"github.com/promontory-io/promontory/libs/discovery/strictyaml"
)

// Types of caches, as configurations name them in upper or lower case.
const (
	TypeInMemory  = "IN-MEMORY"
	TypeMemcached = "MEMCACHED"
	TypeRedis     = "REDIS"
)

// Config is a cache: Type says which of the others counts.
type Config struct {
	Type      string
	Memory    cache.MemoryConfig
	Memcached memcached.Config
	Redis     redis.Config
}

// DefaultConfig returns a cache in memory, and the defaults of all others.
func DefaultConfig() Config {
	return Config{
		Type: TypeInMemory, Memory: cache.DefaultMemoryConfig(),
		Memcached: memcached.DefaultConfig(), Redis: redis.DefaultConfig(),
	}
}

// document is the YAML around a configuration of type C: its keys "type" and "config", and beside them those of E.
type document[E, C any] struct {
	Type   string `yaml:"type"`
	Config C      `yaml:"config"`
	Extra  E      `yaml:",inline"`
}

// Parse reads a document: "type", "config" as the type wants it, and what else extra has, which brings its defaults along
// and must be a struct with YAML tags. Unknown keys are errors. what names the cache in errors, as in "index cache"; they
// begin with the source and the line.
func Parse[E any](what, source string, text []byte, extra *E) (Config, error) {
	typ, line, err := typeOf(source, text)
	if err != nil {
		return Config{}, err
	}
	cfg := DefaultConfig()
	cfg.Type = strings.ToUpper(typ)
	switch cfg.Type {
	case TypeInMemory:
		err = decode(source, text, &cfg.Memory, extra)
		cfg.Memory = cfg.Memory.WithDefaults()
	case TypeMemcached:
		err = decode(source, text, &cfg.Memcached, extra)
	case TypeRedis:
		err = decode(source, text, &cfg.Redis, extra)
	case "GROUPCACHE":
		return Config{}, fmt.Errorf("%s:%d: %s type GROUPCACHE is not supported; use %s, %s or %s", source, line, what, TypeInMemory, TypeMemcached, TypeRedis)
	case "":
		return Config{}, fmt.Errorf("%s: %s type is missing (known: %s, %s, %s)", source, what, TypeInMemory, TypeMemcached, TypeRedis)
	default:
		return Config{}, fmt.Errorf("%s:%d: unknown %s type %q (known: %s, %s, %s)", source, line, what, typ, TypeInMemory, TypeMemcached, TypeRedis)
	}
	if err != nil {
		return Config{}, err
	}
	if err := cfg.Validate(); err != nil {
		return Config{}, fmt.Errorf("%s: config: %w", source, oneLine(err))
	}
	return cfg, nil
}

// typeOf looks at the type only, which decides how the rest is read.
func typeOf(source string, text []byte) (typ string, line int, err error) {
	var loose map[string]yaml.Node
	if err := strictyaml.Decode(source, text, &loose); err != nil {
		return "", 0, err
	}
	node, ok := loose["type"]
	if !ok {
		return "", 0, nil
	}
	if err := node.Decode(&typ); err != nil {
		return "", 0, fmt.Errorf("%s:%d: type is not a text", source, node.Line)
	}
	return typ, node.Line, nil
}

func decode[E, C any](source string, text []byte, config *C, extra *E) error {
	doc := document[E, C]{Config: *config, Extra: *extra}
	if err := strictyaml.Decode(source, text, &doc); err != nil {
		return oneLine(err)
	}
	*config, *extra = doc.Config, doc.Extra
	return nil
}

// oneLine joins the lines of an error.
func oneLine(err error) error {
	if text := err.Error(); strings.Contains(text, "\n") {
		return fmt.Errorf("%s", strings.ReplaceAll(text, "\n", "; "))
	}
	return err
}

// Validate returns all that is wrong with the settings of the type.
func (c Config) Validate() error {
	switch c.Type {
	case TypeMemcached:
		return c.Memcached.Validate()
	case TypeRedis:
		return c.Redis.Validate()
	case TypeInMemory:
		return c.Memory.Validate()
	}
	return fmt.Errorf("unknown type %q", c.Type)
}

// MemoryBytes is how much memory of this process the cache may take.
func (c Config) MemoryBytes() int64 {
	if c.Type == TypeInMemory {
		return int64(c.Memory.WithDefaults().MaxSize)
	}
	return 0
}

// Open returns the cache. Its metrics carry the name as a label; the registry may be nil.
func Open(name string, cfg Config, logger *zap.Logger, reg prometheus.Registerer) (cache.Cache, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if reg != nil {
		reg = prometheus.WrapRegistererWith(prometheus.Labels{"name": name}, reg)
	}
	logger = logger.With(zap.String("cache", name))
	switch cfg.Type {
	case TypeMemcached:
		return memcached.New(cfg.Memcached, logger, reg)
	case TypeRedis:
		return redis.New(cfg.Redis, logger, reg)
	}
	m := cfg.Memory.WithDefaults()
	c := cache.NewMemory(int64(m.MaxSize), int64(m.MaxItemSize))
	registerMemory(reg, m, c)
	return c, nil
}
