package indexcache

import (
	"context"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/promontory-io/promontory/libs/cache"
)

// Shared is an index cache over a cache that others use too.
type Shared struct {
	cache   cache.Cache
	ttl     time.Duration
	enabled enabled
	metrics *metrics
}

var _ Cache = (*Shared)(nil)

// NewShared returns an index cache that keeps the given kinds (none: all) in c for ttl. Closing c is up to the caller.
func NewShared(c cache.Cache, ttl time.Duration, kinds []Item, reg prometheus.Registerer) *Shared {
	return &Shared{cache: c, ttl: ttl, enabled: newEnabled(kinds), metrics: newMetrics(reg)}
}

// Postings fetches postings lists, see Cache.
func (s *Shared) Postings(ctx context.Context, tenant string, block ulid.ULID, pairs []labels.Label, values [][]byte) int {
	return s.fetch(ctx, tenant, Postings, values, func(i int) string { return PostingsKey(block, pairs[i]) })
}

// StorePostings stores a postings list, see Cache.
func (s *Shared) StorePostings(tenant string, block ulid.ULID, pair labels.Label, value []byte) {
	s.store(tenant, Postings, func() string { return PostingsKey(block, pair) }, value)
}

// ExpandedPostings fetches the series of matchers, see Cache.
func (s *Shared) ExpandedPostings(ctx context.Context, tenant string, block ulid.ULID, matchers []*labels.Matcher) ([]byte, bool) {
	var values [1][]byte
	n := s.fetch(ctx, tenant, ExpandedPostings, values[:], func(int) string { return ExpandedPostingsKey(block, matchers) })
	return values[0], n == 1
}

// StoreExpandedPostings stores the series of matchers, see Cache.
func (s *Shared) StoreExpandedPostings(tenant string, block ulid.ULID, matchers []*labels.Matcher, value []byte) {
	s.store(tenant, ExpandedPostings, func() string { return ExpandedPostingsKey(block, matchers) }, value)
}

// Series fetches series entries, see Cache.
func (s *Shared) Series(ctx context.Context, tenant string, block ulid.ULID, refs []storage.SeriesRef, values [][]byte) int {
	return s.fetch(ctx, tenant, Series, values, func(i int) string { return SeriesKey(block, refs[i]) })
}

// StoreSeries stores a series entry, see Cache.
func (s *Shared) StoreSeries(tenant string, block ulid.ULID, ref storage.SeriesRef, value []byte) {
	s.store(tenant, Series, func() string { return SeriesKey(block, ref) }, value)
}

func (s *Shared) fetch(ctx context.Context, tenant string, item Item, values [][]byte, keyOf func(int) string) int {
	if !s.enabled[item] {
		return clearValues(values)
	}
	start, hits := time.Now(), 0
	keys := make([]string, len(values))
	for i := range keys {
		keys[i] = keyOf(i)
	}
	copy(values, s.cache.Get(ctx, keys))
	for _, value := range values {
		if value != nil {
			hits++
		}
	}
	s.metrics.fetched(tenant, item, start, len(keys), hits)
	return hits
}

func (s *Shared) store(tenant string, item Item, keyOf func() string, value []byte) {
	if !s.enabled[item] {
		return
	}
	s.metrics.stored(tenant, item, len(value))
	s.cache.Set(keyOf(), value, s.ttl)
}
