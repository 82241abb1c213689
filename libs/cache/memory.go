package cache

import (
	"context"
	"strings"
	"time"
)

// Memory is a Cache in the memory of this process.
type Memory struct{ lru *LRU[string] }

var _ Cache = (*Memory)(nil)

// NewMemory returns an empty cache of at most maxBytes, with values (and their keys) of at most maxItemBytes.
func NewMemory(maxBytes, maxItemBytes int64) *Memory { return NewMemoryOf(maxBytes, maxItemBytes, 0) }

// NewMemoryOf is NewMemory for a cache of at most maxItems entries; 0 is as many as fit.
func NewMemoryOf(maxBytes, maxItemBytes, maxItems int64) *Memory {
	return &Memory{lru: NewLRU(LRUConfig[string]{
		MaxBytes: maxBytes, MaxItemBytes: maxItemBytes, MaxItems: maxItems,
		KeyBytes: func(key string) int { return len(key) },
	})}
}

// Get returns what is there, see Cache.
func (m *Memory) Get(_ context.Context, keys []string) [][]byte {
	values := make([][]byte, len(keys))
	for i, key := range keys {
		values[i], _ = m.lru.Get(key)
	}
	return values
}

// Set stores a value, see Cache.
func (m *Memory) Set(key string, value []byte, ttl time.Duration) {
	m.lru.Set(0, strings.Clone(key), value, ttl)
}

// Stats returns the statistics of all entries.
func (m *Memory) Stats() Stats { return m.lru.Stats(0) }

// Close does nothing: the memory goes with the last reference.
func (m *Memory) Close() error { return nil }
