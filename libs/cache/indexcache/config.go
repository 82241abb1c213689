package indexcache

import (
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/cache"
	"github.com/promontory-io/promontory/libs/cache/backend"
)

// Config is an index cache configuration.
type Config struct {
	// Backend is where items are kept.
	Backend backend.Config
	// Enabled are the kinds that are kept; empty stands for all.
	Enabled []Item
	// TTL is how long shared caches keep an item. A cache in memory does not need it.
	TTL time.Duration
}

const defaultTTL = 24 * time.Hour

// DefaultConfig returns a cache in memory of 250 MiB, for items of up to 125 MiB.
func DefaultConfig() Config {
	cfg := Config{Backend: backend.DefaultConfig(), TTL: defaultTTL}
	cfg.Backend.Memory = cfg.Backend.Memory.WithDefaults()
	return cfg
}

// extra is what an index cache has besides a backend.
type extra struct {
	EnabledItems []string       `yaml:"enabled_items"`
	TTL          cache.Duration `yaml:"ttl"`
}

// ParseConfig reads a configuration: type, config, enabled_items, ttl. Unknown keys are errors. Errors are one line and
// begin with the source, a file or a flag, and where there is one the line.
func ParseConfig(source string, text []byte) (Config, error) {
	e := extra{TTL: cache.Duration(defaultTTL)}
	b, err := backend.Parse("index cache", source, text, &e)
	if err != nil {
		return Config{}, err
	}
	cfg := Config{Backend: b, TTL: time.Duration(e.TTL)}
	if cfg.Enabled, err = parseItems(e.EnabledItems); err != nil {
		return Config{}, fmt.Errorf("%s: %w", source, err)
	}
	return cfg, nil
}

func parseItems(names []string) ([]Item, error) {
	var parsed []Item
	for _, name := range names {
		i := slices.IndexFunc(Items(), func(item Item) bool { return item.String() == name })
		if i < 0 {
			return nil, fmt.Errorf("enabled_items: unknown item %q (known: %s, %s, %s)", name, Postings, Series, ExpandedPostings)
		}
		parsed = append(parsed, Items()[i])
	}
	return parsed, nil
}

// New returns the cache that a configuration asks for, and what has to be closed once it is not used any more. The
// registry may be nil.
func New(cfg Config, logger *zap.Logger, reg prometheus.Registerer) (Cache, io.Closer, error) {
	if err := cfg.Backend.Validate(); err != nil {
		return nil, nil, fmt.Errorf("index cache: %w", err)
	}
	if cfg.Backend.Type != backend.TypeInMemory {
		shared, err := backend.Open("index-cache", cfg.Backend, logger, reg)
		if err != nil {
			return nil, nil, fmt.Errorf("index cache: %w", err)
		}
		logger.Info("shared index cache", zap.String("type", cfg.Backend.Type), zap.Duration("ttl", cfg.TTL), zap.Stringers("enabled_items", cfg.Enabled))
		return NewShared(shared, cfg.TTL, cfg.Enabled, reg), shared, nil
	}
	m := cfg.Backend.Memory.WithDefaults()
	logger.Info("index cache in memory",
		zap.Stringer("max_size", m.MaxSize), zap.Stringer("max_item_size", m.MaxItemSize), zap.Stringers("enabled_items", cfg.Enabled))
	return NewMemory(m, cfg.Enabled, reg), nothing{}, nil
}

// nothing closes nothing.
type nothing struct{}

func (nothing) Close() error { return nil }
