// Package history writes days that are over into a bucket: the demo shop as an HA pair of Prometheus servers would have
// scraped it, in blocks as their sidecars would have uploaded them.
//
// The central idea is that the plan is a pure function of its configuration, block ids included. Making history is then
// a matter of making what is not in the bucket yet, so it may be interrupted anywhere and just run again.
package history

import (
	"encoding/binary"
	"errors"
	"hash/fnv"
	"time"

	"github.com/oklog/ulid/v2"
)

// BlockRange is the time that a block covers, as Prometheus cuts them: aligned to multiples of itself since the epoch.
const BlockRange = 2 * time.Hour

// Config says what history is made. The same Config makes the same samples in blocks of the same ids.
type Config struct {
	// End is when history ends, exclusive; Length how long it is. It begins at a multiple of BlockRange, so it may be
	// a little longer.
	End    time.Time
	Length time.Duration
	// Interval is the time between two scrapes of a target; from a second to BlockRange.
	Interval time.Duration
	// Replicas are the scraping servers.
	Replicas []Replica
}

// Replica is one of the servers that scrape the same targets.
type Replica struct {
	// Labels are its external labels.
	Labels map[string]string
	// Offset is how much later than the first replica it scrapes.
	Offset time.Duration
	// Outage is when within every second block it scrapes nothing for ten minutes; blocks of odd number where
	// OddBlocks is set, of even number otherwise.
	Outage    time.Duration
	OddBlocks bool
}

const outageLength = 10 * time.Minute

// Validate returns everything that is wrong with the configuration.
func (c Config) Validate() error {
	var problems []error
	if c.Length <= 0 {
		problems = append(problems, errors.New("the length of history must be positive"))
	}
	if c.Interval < time.Second || c.Interval > BlockRange {
		problems = append(problems, errors.New("the scrape interval of history must be from 1s to 2h"))
	}
	if len(c.Replicas) == 0 {
		problems = append(problems, errors.New("history needs a replica"))
	}
	return errors.Join(problems...)
}

// item is one block to be made. Times are Unix milliseconds; mint is inclusive, maxt exclusive.
type item struct {
	id         ulid.ULID
	replica    Replica
	mint, maxt int64
}

// plan returns the blocks of the history, oldest first. The last may be shorter than the others.
func plan(c Config) []item {
	block := BlockRange.Milliseconds()
	end := c.End.UnixMilli()
	var items []item
	for mint := c.End.Add(-c.Length).UnixMilli() / block * block; mint < end; mint += block {
		for _, replica := range c.Replicas {
			it := item{replica: replica, mint: mint, maxt: min(mint+block, end)}
			it.id = blockID(c, it)
			items = append(items, it)
		}
	}
	return items
}

// blockID derives the id from what is in the block; its timestamp is the end of history, which is when it was made.
func blockID(c Config, it item) ulid.ULID {
	hash := fnv.New128a()
	write := func(part []byte) { _, _ = hash.Write(part) } // never fails
	number := func(n int64) { write(binary.BigEndian.AppendUint64(nil, uint64(n))) }
	for _, name := range sortedKeys(it.replica.Labels) {
		write([]byte(name + "\x00" + it.replica.Labels[name] + "\x00"))
	}
	number(it.mint)
	number(it.maxt)
	number(int64(c.Interval))
	var id ulid.ULID
	copy(id[6:], hash.Sum(nil))
	// SetTime fails only for times after the year 10889.
	_ = id.SetTime(uint64(c.End.UnixMilli()))
	return id
}

// misses tells whether the replica scrapes nothing at a time, Unix milliseconds.
func (r Replica) misses(at int64) bool {
	block := BlockRange.Milliseconds()
	if (at/block)%2 == 1 != r.OddBlocks {
		return false
	}
	since := at%block - r.Outage.Milliseconds()
	return since >= 0 && since < outageLength.Milliseconds()
}
