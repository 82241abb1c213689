package tenants

import (
	"hash/maphash"
	"sync"

	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunks"
)

const (
	cacheShards = 64
	minSlots    = 64
)

// seriesCache maps raw label bytes to series of one TSDB. It is safe for concurrent use.
//
// It is an open table of fixed-size entries, so that a look-up costs one access to memory that is not in the
// processor's cache; that access is most of what recognising a series costs. Label bytes are not kept: 128 bits
// of two hashes with secret seeds stand for them.
type seriesCache struct {
	seeds  [2]maphash.Seed
	shards [cacheShards]cacheShard
}

type cacheShard struct {
	mu    sync.Mutex
	slots []slot // a power of two; guarded by mu
	used  int    // guarded by mu
	_     [64]byte
}

// seriesKey stands for the label bytes of a series.
type seriesKey struct{ pos, check uint64 }

// known is what is remembered of a series.
type known struct {
	ref storage.SeriesRef
	// body is the hash of the last body that was appended without a failure: the same body once
	// more is a retry.
	body uint64
	// start is the last start time for which a zero was appended or could not be.
	start int64
}

// slot is an entry; one whose ref is 0 is free.
type slot struct {
	key seriesKey
	known
}

func newSeriesCache() *seriesCache {
	c := &seriesCache{seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}}
	for i := range c.shards {
		c.shards[i].slots = make([]slot, minSlots)
	}
	return c
}

func (c *seriesCache) key(raw []byte) seriesKey {
	return seriesKey{maphash.Bytes(c.seeds[0], raw), maphash.Bytes(c.seeds[1], raw)}
}

// bodyHash is never 0, which stands for no body.
func (c *seriesCache) bodyHash(body []byte) uint64 { return maphash.Bytes(c.seeds[0], body) | 1 }

func (c *seriesCache) shard(k seriesKey) *cacheShard { return &c.shards[k.pos>>58] }

// find is the place of k, or the free one where it belongs. mu is held.
func (s *cacheShard) find(k seriesKey) *slot {
	mask := uint64(len(s.slots) - 1)
	for i := k.pos & mask; ; i = (i + 1) & mask {
		if e := &s.slots[i]; e.ref == 0 || e.key == k {
			return e
		}
	}
}

// get returns what is known of a series, the zero value where it is new.
func (c *seriesCache) get(k seriesKey) known {
	s := c.shard(k)
	s.mu.Lock()
	v := s.find(k).known
	s.mu.Unlock()
	return v
}

// put remembers a series, which has a reference.
func (c *seriesCache) put(k seriesKey, v known) {
	s := c.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.find(k)
	if e.ref == 0 {
		if s.used++; s.used > len(s.slots)/4*3 {
			s.resize(2 * len(s.slots))
			e = s.find(k)
		}
	}
	*e = slot{k, v}
}

// resize moves all entries to a table of another size; mu is held.
func (s *cacheShard) resize(n int) {
	old := s.slots
	s.slots = make([]slot, n)
	for _, e := range old {
		if e.ref != 0 {
			*s.find(e.key) = e
		}
	}
}

// forget drops series that the TSDB has dropped.
func (c *seriesCache) forget(gone func(chunks.HeadSeriesRef) bool) {
	for i := range c.shards {
		c.shards[i].forget(gone)
	}
}

func (s *cacheShard) forget(gone func(chunks.HeadSeriesRef) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	left := 0
	for i := range s.slots {
		e := &s.slots[i]
		switch {
		case e.ref == 0:
		case gone(chunks.HeadSeriesRef(e.ref)):
			e.ref = 0
		default:
			left++
		}
	}
	if left == s.used {
		return
	}
	// Holes break the chains of those that stay: they are all placed anew, in a table of their size.
	s.used = left
	n := minSlots
	for left > n/2 {
		n *= 2
	}
	s.resize(n)
}

func (c *seriesCache) len() int {
	n := 0
	for i := range c.shards {
		c.shards[i].mu.Lock()
		n += c.shards[i].used
		c.shards[i].mu.Unlock()
	}
	return n
}
