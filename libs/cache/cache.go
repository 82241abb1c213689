// Package cache keeps bytes under keys for a while, within a bound.
//
// Cache is what users see, whatever holds the bytes. Memory is the cache of one process, built on LRU, which anyone with
// keys of another type can use directly. Loader adds "read once, however many ask".
//
// A cache may lose anything at any time and never fails: what it cannot give is a miss.
package cache

import (
	"context"
	"time"
)

// Cache holds values under string keys. It is safe for concurrent use.
type Cache interface {
	// Get returns one element for each key, in their order: the value, or nil where there is none. A stored empty value
	// is empty but not nil. The values belong to the cache: they must not be changed, and stay as they are however long
	// they are kept. When the context ends, what has not arrived is a miss.
	Get(ctx context.Context, keys []string) [][]byte

	// Set stores a value for the given time; zero stands for as long as there is room. The cache copies what it keeps, so
	// key and value may be reused at once. It does not wait for anything slow and tells nobody when it drops the value.
	Set(key string, value []byte, ttl time.Duration)

	// Close ends what the cache has started and frees what it holds. The cache must not be used afterwards.
	Close() error
}
