// Package receipt keeps the account of an answer: what each store contributed, what that cost, and which part of the
// data may be missing.
//
// Whoever asks a peer adds one [Store] for each call to the [Stats] of the request. What is missing is a list of [Gap]
// values, one for each external label set and stretch of time; [Cover] decides, by values alone, which of them
// a replica makes up for. The JSON form is that of docs/format/receipt.md.
package receipt

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/promontory-io/promontory/libs/storeapi"
)

// State is how a call to a store ended, from good to bad.
type State int

// States of a call.
const (
	// Answered: the store gave all it has.
	Answered State = iota
	// Cut: the request ended before all of its answer was read, which may be because nobody needed more.
	Cut
	// Warned: it gave what it could and said that something is missing.
	Warned
	// Failed: it was asked, and its answer is not whole.
	Failed
	// Lost: it was not asked, because it cannot be reached.
	Lost
)

// String is the word of the JSON form.
func (s State) String() string {
	switch s {
	case Cut:
		return "cut"
	case Warned:
		return "warned"
	case Failed:
		return "failed"
	case Lost:
		return "lost"
	}
	return "answered"
}

// Gap is data that may be missing from an answer.
type Gap struct {
	// Addr and Component are of the store that failed.
	Addr, Component string
	// Labels are the external labels of the data, empty if the store never told.
	Labels labels.Labels
	// MinTime and MaxTime are Unix milliseconds, both inclusive; both 0 for data without a time, such as rules.
	MinTime, MaxTime int64
	// Reason is why, in the words of the failure.
	Reason string
	// CoveredBy are the addresses of the stores that hold a copy and answered whole; none for data that nobody made up for.
	CoveredBy []string
}

// Store is what one call to one store contributed.
type Store struct {
	Addr, Component string
	LabelSets       []labels.Labels
	storeapi.StreamStats
	// Queued is how long the call waited for its turn.
	Queued time.Duration
	// Hedged is how many more replicas of the store were asked because the first took its time.
	Hedged int
	State  State
	// Err is why the answer is not whole; empty otherwise.
	Err string
	// Warnings are what the store itself said.
	Warnings []string
	// Gateway is what a store-gateway says about its own work; nil if it says nothing.
	Gateway *Gateway
	// Gaps are what is missing without it.
	Gaps []Gap
}

// Missing reports whether something of the store may be missing.
func (s *Store) Missing() bool { return s.State > Cut }

// Gateway is the work of a store-gateway for one call.
type Gateway struct {
	// Blocks are the ULIDs of the blocks it read.
	Blocks []string
	// CacheHits and CacheMisses count postings and series that its caches had, and that they had not.
	CacheHits, CacheMisses int64
	// BytesFetched were read from the bucket.
	BytesFetched int64
}

// Stats collects the contributions to a request. The zero value is ready; a nil one drops everything. It is safe for
// concurrent use.
type Stats struct {
	mu     sync.Mutex // guards stores
	stores []Store
}

// Add takes contributions.
func (s *Stats) Add(more ...Store) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stores = append(s.stores, more...)
}

// All returns what was collected so far, sorted by address; the caller owns the list. Streams are complete in it once
// they are closed.
func (s *Stats) All() []Store {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	out := slices.Clone(s.stores)
	slices.SortStableFunc(out, func(a, b Store) int { return cmp.Compare(a.Addr, b.Addr) })
	return out
}

type contextKey struct{}

// With returns a context under which calls to peers are added to s.
func With(ctx context.Context, s *Stats) context.Context {
	return context.WithValue(ctx, contextKey{}, s)
}

// From returns the stats of ctx, nil if there are none.
func From(ctx context.Context) *Stats {
	s, _ := ctx.Value(contextKey{}).(*Stats)
	return s
}
