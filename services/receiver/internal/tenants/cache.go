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
// processor's cache; that access is most of what recognising a series costs. Series are looked up many at a time, with
// nothing in between, so that those accesses go on side by side. Label bytes are not kept: 128 bits of two hashes with
// secret seeds stand for them.
type seriesCache struct {
	seeds [2]maphash.Seed

	// mu guards shards. The table is in parts so that none takes long to move to a larger one.
	mu     sync.Mutex
	shards [cacheShards]cacheShard
}

type cacheShard struct {
	slots []slot // a power of two
	used  int
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

// find is the place of k, or the free one where it belongs.
func (s *cacheShard) find(k seriesKey) *slot {
	mask := uint64(len(s.slots) - 1)
	for i := k.pos & mask; ; i = (i + 1) & mask {
		if e := &s.slots[i]; e.ref == 0 || e.key == k {
			return e
		}
	}
}

// get fills out with what is known of the series of keys, the zero value where one is new.
func (c *seriesCache) get(keys []seriesKey, out []known) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, k := range keys {
		out[i] = c.shard(k).find(k).known
	}
}

// entry is what is to be remembered of a series, which has a reference.
type entry struct {
	key seriesKey
	known
}

// put remembers series.
func (c *seriesCache) put(entries []entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range entries {
		c.shard(entries[i].key).put(&entries[i])
	}
}

func (s *cacheShard) put(n *entry) {
	e := s.find(n.key)
	if e.ref == 0 {
		if s.used++; s.used > len(s.slots)/4*3 {
			s.resize(2 * len(s.slots))
			e = s.find(n.key)
		}
	}
	*e = slot{n.key, n.known}
}

// resize moves all entries to a table of another size.
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
		c.mu.Lock() // for a part at a time: writes go on in between
		c.shards[i].forget(gone)
		c.mu.Unlock()
	}
}

func (s *cacheShard) forget(gone func(chunks.HeadSeriesRef) bool) {
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
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for i := range c.shards {
		n += c.shards[i].used
	}
	return n
}
