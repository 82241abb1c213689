package tenants

import (
	"math"
	"sync"
)

// noSample is the time of no sample.
const noSample = math.MinInt64

// recent knows the newest sample that a write has of each series and has not committed yet. A TSDB looks at what is
// committed only: a second sample of a series in the same write, not after the first, would be dropped at the commit
// and nobody told.
//
// It is an open table that is cleared by counting up its generation.
type recent struct {
	slots      []recentSlot // a power of two
	generation uint32
}

type recentSlot struct {
	key        uint64
	newest     int64
	generation uint32
}

var recents = sync.Pool{New: func() any { return new(recent) }} //nolint:gochecknoglobals // memory for reuse

// reset empties r and makes room for so many series.
func (r *recent) reset(series int) {
	n := 64
	for n < 2*series {
		n *= 2
	}
	if len(r.slots) < n || len(r.slots) > 64*n {
		*r = recent{slots: make([]recentSlot, n)}
	}
	r.forget()
}

// forget empties r.
func (r *recent) forget() {
	if r.generation++; r.generation == 0 {
		clear(r.slots)
		r.generation = 1
	}
}

// at is the place of a series. It is good until the next call for a series or of forget.
func (r *recent) at(key uint64) *recentSlot {
	mask := uint64(len(r.slots) - 1)
	for i := key & mask; ; i = (i + 1) & mask {
		s := &r.slots[i]
		if s.generation != r.generation {
			s.key, s.generation = key, r.generation
			s.newest = noSample
			return s
		}
		if s.key == key {
			return s
		}
	}
}
