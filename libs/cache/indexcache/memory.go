package indexcache

import (
	"context"
	"encoding/binary"
	"hash/maphash"
	"math/bits"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/promontory-io/promontory/libs/cache"
)

// MemoryConfig sizes a Memory.
type MemoryConfig = cache.MemoryConfig

// key names an item. What is text in a shared cache's key stays in parts here: nothing is hashed or formatted twice.
type key struct {
	block       ulid.ULID
	ref         uint64 // of a series
	text, value string // label name and value, or the text of matchers
	item        Item
}

// hash spreads keys. Series are most of all keys, and have no text.
func (k key) hash(seed maphash.Seed) uint64 {
	var fixed [len(k.block) + 8 + 1]byte
	copy(fixed[:], k.block[:])
	binary.LittleEndian.PutUint64(fixed[len(k.block):], k.ref)
	fixed[len(fixed)-1] = byte(k.item)
	hash := maphash.Bytes(seed, fixed[:])
	if k.item == Series {
		return hash
	}
	// Rotated by different distances, so that name and value are not interchangeable.
	return hash ^ bits.RotateLeft64(maphash.String(seed, k.text), 17) ^ bits.RotateLeft64(maphash.String(seed, k.value), 41)
}

// Memory is an index cache in this process.
type Memory struct {
	lru     *cache.LRU[key]
	enabled enabled
	metrics *metrics
}

var _ Cache = (*Memory)(nil)

// NewMemory returns an empty cache that keeps the given kinds; none stands for all.
func NewMemory(cfg MemoryConfig, kinds []Item, reg prometheus.Registerer) *Memory {
	cfg = cfg.WithDefaults()
	m := &Memory{
		lru: cache.NewLRU(cache.LRUConfig[key]{
			MaxBytes: int64(cfg.MaxSize), MaxItemBytes: int64(cfg.MaxItemSize),
			KeyBytes: func(k key) int { return len(k.text) + len(k.value) },
			Hash:     func(seed maphash.Seed, k key) uint64 { return k.hash(seed) },
		}),
		enabled: newEnabled(kinds),
		metrics: newMetrics(reg),
	}
	registerMemoryMetrics(reg, cfg, func(item Item) cache.Stats { return m.lru.Stats(int(item)) })
	return m
}

// Postings fetches postings lists, see Cache.
func (m *Memory) Postings(_ context.Context, tenant string, block ulid.ULID, pairs []labels.Label, values [][]byte) int {
	if !m.enabled[Postings] {
		return clearValues(values)
	}
	start, hits := time.Now(), 0
	for i, pair := range pairs {
		var ok bool
		if values[i], ok = m.lru.Get(key{block: block, item: Postings, text: pair.Name, value: pair.Value}); ok {
			hits++
		}
	}
	m.metrics.fetched(tenant, Postings, start, len(pairs), hits)
	return hits
}

// StorePostings stores a postings list, see Cache.
func (m *Memory) StorePostings(tenant string, block ulid.ULID, pair labels.Label, value []byte) {
	m.store(tenant, key{block: block, item: Postings, text: strings.Clone(pair.Name), value: strings.Clone(pair.Value)}, value)
}

// ExpandedPostings fetches the series of matchers, see Cache.
func (m *Memory) ExpandedPostings(_ context.Context, tenant string, block ulid.ULID, matchers []*labels.Matcher) ([]byte, bool) {
	if !m.enabled[ExpandedPostings] {
		return nil, false
	}
	start, hits := time.Now(), 0
	value, ok := m.lru.Get(key{block: block, item: ExpandedPostings, text: matchersText(matchers)})
	if ok {
		hits = 1
	}
	m.metrics.fetched(tenant, ExpandedPostings, start, 1, hits)
	return value, ok
}

// StoreExpandedPostings stores the series of matchers, see Cache.
func (m *Memory) StoreExpandedPostings(tenant string, block ulid.ULID, matchers []*labels.Matcher, value []byte) {
	m.store(tenant, key{block: block, item: ExpandedPostings, text: matchersText(matchers)}, value)
}

// Series fetches series entries, see Cache.
func (m *Memory) Series(_ context.Context, tenant string, block ulid.ULID, refs []storage.SeriesRef, values [][]byte) int {
	if !m.enabled[Series] {
		return clearValues(values)
	}
	start, hits := time.Now(), 0
	for i, ref := range refs {
		var ok bool
		if values[i], ok = m.lru.Get(key{block: block, item: Series, ref: uint64(ref)}); ok {
			hits++
		}
	}
	m.metrics.fetched(tenant, Series, start, len(refs), hits)
	return hits
}

// StoreSeries stores a series entry, see Cache.
func (m *Memory) StoreSeries(tenant string, block ulid.ULID, ref storage.SeriesRef, value []byte) {
	m.store(tenant, key{block: block, item: Series, ref: uint64(ref)}, value)
}

func (m *Memory) store(tenant string, k key, value []byte) {
	if !m.enabled[k.item] {
		return
	}
	m.metrics.stored(tenant, k.item, len(value))
	// The configured lifetime is for caches that outlive what is in them; here the room decides.
	m.lru.Set(int(k.item), k, value, 0)
}
