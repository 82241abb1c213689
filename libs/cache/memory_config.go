package cache

import (
	"errors"
	"fmt"
)

const (
	defaultMaxSize     = 250 * MiB
	defaultMaxItemSize = 125 * MiB
)

// MemoryConfig sizes a cache in memory.
type MemoryConfig struct {
	// MaxSize bounds all that is held, keys and overhead included. Zero switches the cache off: nothing is held.
	MaxSize ByteSize `yaml:"max_size"`
	// MaxItemSize bounds one item; larger ones are not stored. Zero: 125 MiB, or MaxSize where that is less.
	MaxItemSize ByteSize `yaml:"max_item_size"`
}

// DefaultMemoryConfig returns 250 MiB, and what follows from it for items.
func DefaultMemoryConfig() MemoryConfig { return MemoryConfig{MaxSize: defaultMaxSize} }

// WithDefaults fills in what is zero and has a default that depends on the rest.
func (c MemoryConfig) WithDefaults() MemoryConfig {
	if c.MaxItemSize == 0 {
		c.MaxItemSize = min(defaultMaxItemSize, c.MaxSize)
	}
	return c
}

// Validate returns all that is wrong with the configuration.
func (c MemoryConfig) Validate() error {
	var errs []error
	if c.MaxSize < 0 {
		errs = append(errs, errors.New("max_size must not be negative"))
	}
	if c.MaxItemSize < 0 {
		errs = append(errs, errors.New("max_item_size must not be negative"))
	}
	if c.MaxSize > 0 && c.MaxItemSize > c.MaxSize {
		errs = append(errs, fmt.Errorf("max_item_size %s is more than max_size %s", c.MaxItemSize, c.MaxSize))
	}
	return errors.Join(errs...)
}
