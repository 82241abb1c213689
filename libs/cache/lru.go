package cache

import (
	"bytes"
	"hash/maphash"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

const (
	maxShards = 16
	// minShardBytes keeps small caches whole: an LRU order over a handful of entries is not an order any more when each
	// of several shards has its own.
	minShardBytes = 8 << 20
	minShardItems = 64
	// MaxClasses is how many classes of entries an LRU can tell apart.
	MaxClasses = 8
)

// LRUConfig sizes an LRU.
type LRUConfig[K comparable] struct {
	// MaxBytes bounds all that the cache holds: values, keys and its own structures.
	MaxBytes int64
	// MaxItemBytes bounds one value together with its key; larger ones are not stored. Zero: MaxBytes.
	MaxItemBytes int64
	// MaxItems bounds how many entries there are. Zero: as many as fit.
	MaxItems int64
	// KeyBytes returns how many bytes a key holds outside itself, as strings do. Nil: none.
	KeyBytes func(K) int
	// Hash returns a hash of a key, well spread over all its bits. Nil: one that fits any type, and takes its time for
	// structs with strings.
	Hash func(maphash.Seed, K) uint64
}

// LRU holds byte slices under keys and never more than a given number of bytes; what was not used for longest goes first.
// It is safe for concurrent use.
//
// Entries are spread over shards with a lock each, while the budget is one for all: a value of any size up to the limit
// fits. The victim of an eviction is the oldest of one shard, so over all shards the order is that of use only nearly.
//
// Each entry belongs to a class, a small number that the user gives a meaning, and statistics are kept by class.
type LRU[K comparable] struct {
	cfg      LRUConfig[K]
	overhead int64 // bytes an entry costs besides value and KeyBytes
	seed     maphash.Seed
	shards   []shard[K]
	used     atomic.Int64 // bytes held or about to be held
	count    atomic.Int64 // entries held or about to be held
	stats    [MaxClasses]stats
}

// shard is a part of the entries. Its map goes by the hash of the key, and entries of equal hash are chained: keys are
// held once, in the entry.
type shard[K comparable] struct {
	mu      sync.Mutex // guards what follows
	entries map[uint64]*entry[K]
	ends    entry[K] // ends.next is the latest used entry, ends.prev the victim to be
	_       [64]byte // keeps the locks of neighbours out of one cache line
}

type entry[K comparable] struct {
	key        K
	value      []byte
	prev, next *entry[K] // in the order of use
	chain      *entry[K] // of the same hash
	hash       uint64
	cost       int64
	expires    int64 // Unix nanoseconds; zero: never
	class      int
}

type stats struct {
	items, valueBytes, totalBytes atomic.Int64
	added, evicted, overflowed    atomic.Int64
	replaced, expired             atomic.Int64
}

// Stats says what has become of the entries of one class.
type Stats struct {
	Items      int64 // held now
	ValueBytes int64 // their values
	TotalBytes int64 // what they cost in all
	Added      int64 // ever stored
	Evicted    int64 // given up to make room, or because their time was over
	Overflowed int64 // not stored: too large, or no room to be had
	Replaced   int64 // given up for another value of their key
	Expired    int64 // of the evicted: asked for when their time was over
}

// NewLRU returns an empty cache.
func NewLRU[K comparable](cfg LRUConfig[K]) *LRU[K] {
	if cfg.MaxItemBytes <= 0 || cfg.MaxItemBytes > cfg.MaxBytes {
		cfg.MaxItemBytes = cfg.MaxBytes
	}
	if cfg.KeyBytes == nil {
		cfg.KeyBytes = func(K) int { return 0 }
	}
	if cfg.Hash == nil {
		cfg.Hash = maphash.Comparable[K]
	}
	n := min(max(cfg.MaxBytes/minShardBytes, 1), maxShards)
	if cfg.MaxItems > 0 {
		n = min(n, max(cfg.MaxItems/minShardItems, 1))
	}
	n = 1 << (bits.Len64(uint64(n)) - 1) // a power of two, rounding down
	c := &LRU[K]{
		cfg: cfg,
		// The map's share: key, pointer and control byte of a slot, at the load of a table that has just grown.
		overhead: int64(unsafe.Sizeof(entry[K]{})) + 2*(8+8+1),
		seed:     maphash.MakeSeed(),
		shards:   make([]shard[K], n),
	}
	for i := range c.shards {
		s := &c.shards[i]
		s.entries = map[uint64]*entry[K]{}
		s.ends.prev, s.ends.next = &s.ends, &s.ends
	}
	return c
}

// Get returns the value of a key and makes it the latest used. The value must not be changed.
func (c *LRU[K]) Get(key K) ([]byte, bool) {
	hash := c.cfg.Hash(c.seed, key)
	s := c.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.find(hash, key)
	if e == nil {
		return nil, false
	}
	if e.expires != 0 && time.Now().UnixNano() >= e.expires {
		c.stats[e.class].expired.Add(1)
		c.drop(s, e, true)
		return nil, false
	}
	s.touch(e)
	return e.value, true
}

// Set stores a copy of the value under the key, for the given time if it is not zero, in place of a former value. It
// keeps the key as it is. It reports whether the value is stored now.
func (c *LRU[K]) Set(class int, key K, value []byte, ttl time.Duration) bool {
	keyBytes := c.cfg.KeyBytes(key)
	var expires int64
	if ttl > 0 {
		expires = time.Now().Add(ttl).UnixNano()
	}
	hash := c.cfg.Hash(c.seed, key)
	s := c.shard(hash)
	if c.refresh(s, hash, key, value, expires) {
		return true
	}
	// The limit is about what was given, the budget about what the allocator takes for it.
	size := int64(len(value) + keyBytes)
	if size > c.cfg.MaxItemBytes {
		c.stats[class].overflowed.Add(1)
		return false
	}
	cost := roundUp(len(value)) + roundUp(keyBytes) + c.overhead
	if !c.reserve(cost, hash) {
		c.stats[class].overflowed.Add(1)
		return false
	}
	e := &entry[K]{key: key, value: append(make([]byte, 0, len(value)), value...), hash: hash, cost: cost, expires: expires, class: class}
	s.mu.Lock()
	defer s.mu.Unlock()
	if other := s.find(hash, key); other != nil {
		c.stats[other.class].replaced.Add(1)
		c.drop(s, other, false) // somebody was faster: the later one wins
	}
	s.insert(e)
	st := &c.stats[class]
	st.items.Add(1)
	st.valueBytes.Add(int64(len(e.value)))
	st.totalBytes.Add(cost)
	st.added.Add(1)
	return true
}

// refresh reports whether the key holds this very value already, which is then the latest used. Another value of the key
// is removed: whatever becomes of the new one, the old one is not true any more.
func (c *LRU[K]) refresh(s *shard[K], hash uint64, key K, value []byte, expires int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.find(hash, key)
	if e == nil {
		return false
	}
	if bytes.Equal(e.value, value) {
		e.expires = expires
		s.touch(e)
		return true
	}
	c.stats[e.class].replaced.Add(1)
	c.drop(s, e, false)
	return false
}

// Delete removes a key.
func (c *LRU[K]) Delete(key K) {
	hash := c.cfg.Hash(c.seed, key)
	s := c.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.find(hash, key); e != nil {
		c.drop(s, e, false)
	}
}

// UsedBytes returns what the cache holds or is about to hold; entries about to be stored may lift it over MaxBytes for
// the moment that it takes to make room, before anything is stored.
func (c *LRU[K]) UsedBytes() int64 { return c.used.Load() }

// Stats returns the statistics of a class.
func (c *LRU[K]) Stats(class int) Stats {
	st := &c.stats[class]
	return Stats{
		Items: st.items.Load(), ValueBytes: st.valueBytes.Load(), TotalBytes: st.totalBytes.Load(),
		Added: st.added.Load(), Evicted: st.evicted.Load(), Overflowed: st.overflowed.Load(),
		Replaced: st.replaced.Load(), Expired: st.expired.Load(),
	}
}

func (c *LRU[K]) shard(hash uint64) *shard[K] {
	// The low bits choose within the map; take others.
	return &c.shards[(hash>>32)&uint64(len(c.shards)-1)]
}

// reserve takes the bytes and the place of an entry out of the budget and evicts until they are there. It fails when nothing
// is left to evict: all the rest is reserved by others at this moment, or the cache is too small.
func (c *LRU[K]) reserve(cost int64, hash uint64) bool {
	c.used.Add(cost)
	c.count.Add(1)
	for c.used.Load() > c.cfg.MaxBytes || c.cfg.MaxItems > 0 && c.count.Load() > c.cfg.MaxItems {
		if !c.evictOne(hash) {
			c.used.Add(-cost)
			c.count.Add(-1)
			return false
		}
	}
	return true
}

// evictOne removes the oldest entry of the shard of hash, or of the next one that has any.
func (c *LRU[K]) evictOne(hash uint64) bool {
	for i := range uint64(len(c.shards)) {
		s := c.shard(hash + i<<32)
		s.mu.Lock()
		victim := s.ends.prev
		if victim != &s.ends {
			c.drop(s, victim, true)
			s.mu.Unlock()
			return true
		}
		s.mu.Unlock()
	}
	return false
}

// drop removes an entry and gives its bytes back. The shard is locked.
func (c *LRU[K]) drop(s *shard[K], e *entry[K], evicted bool) {
	s.remove(e)
	c.used.Add(-e.cost)
	c.count.Add(-1)
	st := &c.stats[e.class]
	st.items.Add(-1)
	st.valueBytes.Add(-int64(len(e.value)))
	st.totalBytes.Add(-e.cost)
	if evicted {
		st.evicted.Add(1)
	}
}

func (s *shard[K]) find(hash uint64, key K) *entry[K] {
	e := s.entries[hash]
	for e != nil && e.key != key {
		e = e.chain
	}
	return e
}

func (s *shard[K]) insert(e *entry[K]) {
	e.chain = s.entries[e.hash]
	s.entries[e.hash] = e
	s.link(e)
}

func (s *shard[K]) remove(e *entry[K]) {
	e.prev.next, e.next.prev = e.next, e.prev
	first := s.entries[e.hash]
	switch {
	case first != e:
		for first.chain != e {
			first = first.chain
		}
		first.chain = e.chain
	case e.chain != nil:
		s.entries[e.hash] = e.chain
	default:
		delete(s.entries, e.hash)
	}
}

func (s *shard[K]) touch(e *entry[K]) {
	if s.ends.next == e {
		return
	}
	e.prev.next, e.next.prev = e.next, e.prev
	s.link(e)
}

func (s *shard[K]) link(e *entry[K]) {
	e.prev, e.next = &s.ends, s.ends.next
	e.prev.next, e.next.prev = e, e
}

// roundUp returns about what the allocator takes for n bytes: its size classes waste an eighth at most, and pages of 8 KiB
// count from 32 KiB on.
func roundUp(n int) int64 {
	switch {
	case n == 0:
		return 0
	case n > 32<<10:
		return int64(n+8191) &^ 8191
	case n > 128:
		return int64(n + n/16)
	}
	return int64(n+15) &^ 15
}
