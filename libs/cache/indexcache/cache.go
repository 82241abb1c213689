// Package indexcache keeps parts of block indexes near: postings lists, expanded postings and series entries.
//
// There are two kinds. Memory holds them in this process, under keys of its own that cost no hashing and no text. Shared
// puts them into any cache.Cache under the keys and in the formats that Thanos uses, so that both may share a memcached or a
// redis. Blocks never change, so nothing here ever has to be invalidated.
package indexcache

import (
	"context"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
)

// Cache keeps parts of block indexes. It is safe for concurrent use.
//
// Values are bytes that the cache does not look into: postings as EncodePostings makes them, series entries as they lie in
// the index, without length prefix and checksum. Store methods copy what they keep. Values that come out belong to the
// cache and must not be changed.
//
// The tenant labels metrics and nothing else: blocks are the same for everyone.
type Cache interface {
	// Postings fills values with the postings lists of the label pairs, nil where there is none, and returns how many there
	// were. values must be as long as pairs.
	Postings(ctx context.Context, tenant string, block ulid.ULID, pairs []labels.Label, values [][]byte) int
	// StorePostings stores the postings list of a label pair.
	StorePostings(tenant string, block ulid.ULID, pair labels.Label, value []byte)

	// ExpandedPostings returns the series that matchers select. Their order counts: callers bring it into a fixed one.
	ExpandedPostings(ctx context.Context, tenant string, block ulid.ULID, matchers []*labels.Matcher) ([]byte, bool)
	// StoreExpandedPostings stores the series that matchers select.
	StoreExpandedPostings(tenant string, block ulid.ULID, matchers []*labels.Matcher, value []byte)

	// Series fills values with the series entries at refs, nil where there is none, and returns how many there were. values
	// must be as long as refs.
	Series(ctx context.Context, tenant string, block ulid.ULID, refs []storage.SeriesRef, values [][]byte) int
	// StoreSeries stores a series entry.
	StoreSeries(tenant string, block ulid.ULID, ref storage.SeriesRef, value []byte)
}

// Item is a kind of what is kept.
type Item uint8

// The kinds, in the order of their numbers.
const (
	Postings Item = iota
	Series
	ExpandedPostings
	items // how many there are
)

// Items returns all kinds.
func Items() []Item { return []Item{Postings, Series, ExpandedPostings} }

// String returns the kind as configurations and metrics name it.
func (i Item) String() string {
	switch i {
	case Postings:
		return "Postings"
	case Series:
		return "Series"
	case ExpandedPostings:
		return "ExpandedPostings"
	}
	return "unknown"
}

// enabled is the set of kinds that are kept.
type enabled [items]bool

// newEnabled makes the set; an empty list stands for all.
func newEnabled(list []Item) enabled {
	var e enabled
	for i := range e {
		e[i] = len(list) == 0
	}
	for _, item := range list {
		e[item] = true
	}
	return e
}

func clearValues(values [][]byte) int {
	clear(values)
	return 0
}
