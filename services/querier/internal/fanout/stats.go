package fanout

import (
	"cmp"
	"slices"
	"sync"

	"github.com/promontory-io/promontory/libs/storeapi"
)

// StoreStats is what one store contributed to one request.
type StoreStats struct {
	Addr string
	storeapi.StreamStats
	// Missing says that the store was needed and could not be asked, or failed.
	Missing bool
	// Err is the reason, empty otherwise.
	Err string
}

// Stats collects the contributions of stores to a request. The zero value is ready; it is
// safe for concurrent use.
type Stats struct {
	mu     sync.Mutex // guards stores
	stores []StoreStats
}

// Add takes one contribution. A nil receiver drops it.
func (s *Stats) Add(st StoreStats) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stores = append(s.stores, st)
}

// All returns what was collected so far, sorted by address; the caller owns it. Streams are
// complete in it once they are closed.
func (s *Stats) All() []StoreStats {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	out := slices.Clone(s.stores)
	slices.SortStableFunc(out, func(a, b StoreStats) int { return cmp.Compare(a.Addr, b.Addr) })
	return out
}
