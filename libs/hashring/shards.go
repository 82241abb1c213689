package hashring

import (
	"container/list"
	"sync"
)

// shardCache keeps the shards of the tenants that wrote last. Safe for concurrent use.
type shardCache struct {
	most int

	mu sync.Mutex // guards what follows
	// order has the latest used in front.
	order   *list.List
	entries map[string]*list.Element
}

type shardEntry struct {
	tenant string
	ring   *Ring
}

// newShardCache returns a cache of up to most shards, which is positive.
func newShardCache(most int) *shardCache {
	return &shardCache{most: most, order: list.New(), entries: map[string]*list.Element{}}
}

func (c *shardCache) get(tenant string) (*Ring, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[tenant]
	if !ok {
		return nil, false
	}
	c.order.MoveToFront(e)
	return entryOf(e).ring, true
}

// add keeps a shard, in place of that which was longest not used where there is no room.
func (c *shardCache) add(tenant string, ring *Ring) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.entries[tenant]; ok {
		entryOf(e).ring = ring
		c.order.MoveToFront(e)
		return
	}
	c.entries[tenant] = c.order.PushFront(&shardEntry{tenant, ring})
	if last := c.order.Back(); c.order.Len() > c.most {
		c.order.Remove(last)
		delete(c.entries, entryOf(last).tenant)
	}
}

// entryOf is what an element of the list holds: nothing else is ever put into it.
func entryOf(e *list.Element) *shardEntry {
	entry, _ := e.Value.(*shardEntry)
	return entry
}
