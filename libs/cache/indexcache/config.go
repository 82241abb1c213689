package indexcache

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/promontory-io/promontory/libs/cache"
	"go.uber.org/zap"
	"go.yaml.in/yaml/v3"
)

// Types of index caches, as configurations name them in upper or lower case.
const (
	TypeInMemory  = "IN-MEMORY"
	TypeMemcached = "MEMCACHED"
	TypeRedis     = "REDIS"
)

// Config is an index cache configuration.
type Config struct {
	// Type is one of the types above.
	Type string
	// Memory is for TypeInMemory.
	Memory MemoryConfig
	// Enabled are the kinds that are kept; empty stands for all.
	Enabled []Item
	// TTL is how long shared caches keep an item. A cache in memory does not need it.
	TTL time.Duration
}

// DefaultConfig returns a cache in memory of 250 MiB, for items of up to 125 MiB.
func DefaultConfig() Config {
	return Config{
		Type:   TypeInMemory,
		Memory: MemoryConfig{MaxSize: 250 * cache.MiB, MaxItemSize: defaultMaxItemSize},
		TTL:    24 * time.Hour,
	}
}

// document is the YAML of a configuration; C is what its type is configured by.
type document[C any] struct {
	Type         string         `yaml:"type"`
	Config       C              `yaml:"config"`
	EnabledItems []string       `yaml:"enabled_items"`
	TTL          model.Duration `yaml:"ttl"`
}

// ParseConfig reads a configuration: type, config, enabled_items, ttl. Unknown keys are errors. Errors are one line and
// say where in the text they are.
func ParseConfig(text []byte) (Config, error) {
	cfg := DefaultConfig()
	var loose document[yaml.Node]
	if err := yaml.Unmarshal(text, &loose); err != nil {
		return Config{}, plainYAMLError(err)
	}
	cfg.Type = strings.ToUpper(loose.Type)
	switch cfg.Type {
	case TypeInMemory:
	case TypeMemcached, TypeRedis:
		return Config{}, fmt.Errorf("index cache type %s is not in this version yet (there is: %s)", cfg.Type, TypeInMemory)
	case "":
		return Config{}, fmt.Errorf("index cache type is missing (known: %s)", knownTypes())
	default:
		return Config{}, fmt.Errorf("unknown index cache type %q (known: %s)", loose.Type, knownTypes())
	}
	strict := document[MemoryConfig]{Config: MemoryConfig{MaxSize: cfg.Memory.MaxSize}, TTL: model.Duration(cfg.TTL)}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(&strict); err != nil {
		return Config{}, plainYAMLError(err)
	}
	if err := dec.Decode(&loose); !errors.Is(err, io.EOF) {
		return Config{}, errors.New("more than one YAML document")
	}
	cfg.Memory, cfg.TTL = strict.Config.withDefaults(), time.Duration(strict.TTL)
	var err error
	if cfg.Enabled, err = parseItems(strict.EnabledItems); err != nil {
		return Config{}, err
	}
	return cfg, cfg.Validate()
}

func knownTypes() string { return strings.Join([]string{TypeInMemory, TypeMemcached, TypeRedis}, ", ") }

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

// Validate returns all that is wrong with the configuration.
func (c Config) Validate() error {
	var errs []error
	if c.Memory.MaxSize <= 0 {
		errs = append(errs, errors.New("max_size must be more than 0"))
	}
	if c.Memory.MaxItemSize < 0 {
		errs = append(errs, errors.New("max_item_size must not be negative"))
	}
	if c.Memory.MaxItemSize > c.Memory.MaxSize {
		errs = append(errs, fmt.Errorf("max_item_size %s is more than max_size %s", c.Memory.MaxItemSize, c.Memory.MaxSize))
	}
	return errors.Join(errs...)
}

// New returns the cache that a configuration asks for. The registry may be nil.
func New(cfg Config, logger *zap.Logger, reg prometheus.Registerer) (Cache, error) {
	if cfg.Type != TypeInMemory {
		return nil, fmt.Errorf("index cache type %q is not in this version yet (there is: %s)", cfg.Type, TypeInMemory)
	}
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("index cache: %w", err)
	}
	cfg.Memory = cfg.Memory.withDefaults()
	logger.Info("index cache in memory",
		zap.Stringer("max_size", cfg.Memory.MaxSize), zap.Stringer("max_item_size", cfg.Memory.MaxItemSize), zap.Stringers("enabled_items", cfg.Enabled))
	return NewMemory(cfg.Memory, cfg.Enabled, reg), nil
}

var (
	unknownField = regexp.MustCompile(`field (.+?) not found in type \S+`)
	goType       = regexp.MustCompile(` into \S+$`)
)

// plainYAMLError says what the YAML library says, on one line and without the names of Go types.
func plainYAMLError(err error) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	text = strings.TrimPrefix(text, "unmarshal errors:\n")
	parts := strings.Split(text, "\n")
	for i, part := range parts {
		part = unknownField.ReplaceAllString(strings.TrimSpace(part), `unknown key "$1"`)
		parts[i] = goType.ReplaceAllString(part, "")
	}
	return errors.New(strings.Join(parts, "; "))
}
