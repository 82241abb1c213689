package blockread

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/promontory-io/promontory/libs/chunks"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/thanos"
)

// Query is what is asked of a block.
type Query struct {
	// Matchers are those that are left after the external ones; at least one, but for
	// label names and values.
	Matchers []*labels.Matcher
	// MinTime and MaxTime bound the chunks of interest, Unix milliseconds, both inclusive.
	MinTime, MaxTime int64
	// Without are the labels to be removed.
	Without []string
	// SkipChunks asks for label sets alone.
	SkipChunks bool
	// Aggrs are the aggregates wanted of downsampled data.
	Aggrs []chunks.Aggr
	// Shard selects series by the hash of labels; nil selects all.
	Shard *thanos.ShardInfo
	// Limit is how many label sets are wanted; 0 is all.
	Limit int64
	// BatchBytes is how many bytes of chunks a batch holds, about, where memory is not short.
	BatchBytes int64
	// Tenant is for metrics.
	Tenant string
	// Memory is shared by all blocks of a request; nil has no limit.
	Memory *Memory
	// Limits are shared by all blocks of a request; nil is none.
	Limits *Limits
	// Stats are shared by all blocks of a request; nil counts nothing.
	Stats *Stats
}

func (q *Query) wants(a chunks.Aggr) bool { return slices.Contains(q.Aggrs, a) }

// Limits bound what one request may read; zero is no limit. It is safe for concurrent
// use, but must not be copied.
type Limits struct {
	// Series, Chunks and Bytes are how many a request may touch, over all blocks.
	Series, Chunks, Bytes uint64

	series, chunks, bytes atomic.Uint64
	// OnDrop, where set, is told which limit was exceeded.
	OnDrop func(reason string)
}

func (l *Limits) addSeries(n int) error {
	if l == nil {
		return nil
	}
	return l.check("series", "series", &l.series, n, l.Series)
}

// samplesPerChunk is how many samples a chunk counts for.
const samplesPerChunk = 120

func (l *Limits) addChunks(n int) error {
	if l == nil || l.Chunks == 0 {
		return nil
	}
	if now := l.chunks.Add(uint64(n)); now > l.Chunks {
		l.dropped("chunks")
		return storeapi.Limitf("request touches at least %d samples (%d chunks), it may touch %d", now*samplesPerChunk, now, l.Chunks*samplesPerChunk)
	}
	return nil
}

func (l *Limits) addBytes(n int64) error {
	if l == nil {
		return nil
	}
	return l.check("bytes", "bytes of the bucket or the cache", &l.bytes, int(n), l.Bytes)
}

func (l *Limits) check(reason, what string, sum *atomic.Uint64, n int, limit uint64) error {
	if limit == 0 {
		return nil
	}
	if now := sum.Add(uint64(n)); now > limit {
		l.dropped(reason)
		return storeapi.Limitf("request touches at least %d %s, it may touch %d", now, what, limit)
	}
	return nil
}

func (l *Limits) dropped(reason string) {
	if l != nil && l.OnDrop != nil {
		l.OnDrop(reason)
	}
}

// Kind is a kind of data in a block.
type Kind int

// The kinds of data.
const (
	Postings Kind = iota
	Series
	Chunks
	numKinds
)

// String is the word for the kind in metrics.
func (k Kind) String() string { return [...]string{"postings", "series", "chunks"}[k] }

// Kinds returns all kinds.
func Kinds() []Kind { return []Kind{Postings, Series, Chunks} }

// Counts is what was read of one kind.
type Counts struct {
	// Touched were needed, wherever they came from; Fetched came from the bucket.
	Touched, TouchedBytes, Fetched, FetchedBytes int64
	// Requests is how often the bucket was asked, Refetches how often again because
	// a size was estimated too low.
	Requests, Refetches int64
	// FetchTime is how long that took, over all goroutines.
	FetchTime time.Duration
}

func (c *Counts) add(o Counts) {
	c.Touched += o.Touched
	c.TouchedBytes += o.TouchedBytes
	c.Fetched += o.Fetched
	c.FetchedBytes += o.FetchedBytes
	c.Requests += o.Requests
	c.Refetches += o.Refetches
	c.FetchTime += o.FetchTime
}

// Tally is what a request cost.
type Tally struct {
	Kinds  [numKinds]Counts
	Blocks int64
	// EmptyPostings counts blocks in which nothing matched.
	EmptyPostings int64
	// PostingsToFetch is how many lists were not in the cache.
	PostingsToFetch int64
	// Encoded and Decoded are about postings on their way into and out of the cache.
	Encoded, Decoded Codec
	Lazy             Lazy
}

// Codec counts postings that were compressed or expanded.
type Codec struct {
	Count, Errors               int64
	OriginalBytes, EncodedBytes int64
	Time                        time.Duration
}

func (c *Codec) add(o Codec) {
	c.Count += o.Count
	c.Errors += o.Errors
	c.OriginalBytes += o.OriginalBytes
	c.EncodedBytes += o.EncodedBytes
	c.Time += o.Time
}

// Lazy counts matchers that were checked on series and not by their postings.
type Lazy struct {
	// Blocks are the blocks in which that happened.
	Blocks int64
	// GroupsByKeys and GroupsBySize are the matchers, by reason.
	GroupsByKeys, GroupsBySize int64
	// SavedBytes are of the postings not read, OverfetchedBytes of the series entries read in vain.
	SavedBytes, OverfetchedBytes int64
}

func (l *Lazy) add(o Lazy) {
	l.Blocks += o.Blocks
	l.GroupsByKeys += o.GroupsByKeys
	l.GroupsBySize += o.GroupsBySize
	l.SavedBytes += o.SavedBytes
	l.OverfetchedBytes += o.OverfetchedBytes
}

// Stats gathers tallies. It is safe for concurrent use.
type Stats struct {
	mu    sync.Mutex
	tally Tally
}

// Tally is what was counted so far.
func (s *Stats) Tally() Tally {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tally
}

func (s *Stats) add(t *Tally) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range t.Kinds {
		s.tally.Kinds[k].add(t.Kinds[k])
	}
	s.tally.Blocks += t.Blocks
	s.tally.EmptyPostings += t.EmptyPostings
	s.tally.PostingsToFetch += t.PostingsToFetch
	s.tally.Encoded.add(t.Encoded)
	s.tally.Decoded.add(t.Decoded)
	s.tally.Lazy.add(t.Lazy)
}
