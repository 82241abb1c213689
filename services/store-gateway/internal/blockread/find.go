package blockread

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/index"

	"github.com/promontory-io/promontory/libs/cache/indexcache"
	"github.com/promontory-io/promontory/services/store-gateway/internal/indexheader"
	"github.com/promontory-io/promontory/services/store-gateway/internal/postings"
	"github.com/promontory-io/promontory/services/store-gateway/internal/rangeread"
)

// finder looks for the series that a query selects.
type finder struct {
	b     *Block
	r     *indexheader.Reader
	q     *Query
	tally *Tally
	// kept is what is reserved for the references found.
	kept int64
}

// find returns the references of the series that ms select, ascending, and the matchers
// that have yet to be checked on each of them: none unless lazy.
func (f *finder) find(ctx context.Context, ms []*labels.Matcher, lazy bool) (refs []uint32, rest []*labels.Matcher, err error) {
	ms = sortedMatchers(ms)
	if refs, ok := f.cached(ctx, ms); ok {
		return refs, nil, nil
	}
	keys := account{m: f.q.Memory}
	defer keys.close()
	plan, err := postings.NewPlan(f.r, ms, postings.Cost{
		Lazy: lazy && f.b.cfg.LazyPostings, SeriesBytes: f.b.seriesBytes, MaxKeyRatio: f.b.cfg.MaxKeyRatio,
		Reserve: func(m *labels.Matcher, valueBytes int) error {
			return blame(keys.add(ctx, keyBytes+int64(valueBytes)), m, ms)
		},
	})
	if err != nil {
		return nil, nil, err
	}
	if !plan.Empty {
		if refs, err = f.evaluate(ctx, ms, plan); err != nil {
			return nil, nil, err
		}
	}
	if len(plan.Rest) > 0 {
		return refs, f.deferred(plan.Rest), nil
	}
	if len(refs) == 0 {
		f.tally.EmptyPostings++
	}
	f.store(ms, refs)
	return refs, nil, nil
}

// evaluate fetches and joins the lists of plan. What the references take stays reserved until the request ends.
func (f *finder) evaluate(ctx context.Context, ms []*labels.Matcher, plan *postings.Plan) ([]uint32, error) {
	f.q.Memory.expect(f.b.answerBytes(int(plan.Groups[0].Bytes / 4)))
	cost := max(2*plan.Bytes()-LookupBytes, 0) // the lists, and the references or what goes to the cache
	if err := f.q.Memory.find(ctx, cost); err != nil {
		return nil, blame(err, plan.Largest(), ms)
	}
	kept := int64(0)
	defer func() { f.q.Memory.found(cost - kept) }()
	lists, err := f.lists(ctx, plan.Keys())
	if err != nil {
		return nil, err
	}
	refs, err := plan.Evaluate(ctx, lists)
	if err != nil {
		return nil, err
	}
	kept = min(4*int64(cap(refs)), cost)
	f.kept += kept
	return refs, nil
}

// deferred counts matchers that are left for later.
func (f *finder) deferred(all []postings.Deferred) (rest []*labels.Matcher) {
	lazy := &f.tally.Lazy
	lazy.Blocks++
	for _, d := range all {
		rest = append(rest, d.Matcher)
		lazy.SavedBytes += d.Bytes
		if d.TooManyKeys {
			lazy.GroupsByKeys++
		} else {
			lazy.GroupsBySize++
		}
	}
	return rest
}

// sortedMatchers brings matchers into the order that is part of their cache key.
func sortedMatchers(ms []*labels.Matcher) []*labels.Matcher {
	ms = slices.Clone(ms)
	slices.SortFunc(ms, func(a, b *labels.Matcher) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), cmp.Compare(a.Type, b.Type), strings.Compare(a.Value, b.Value))
	})
	return ms
}

func (f *finder) cached(ctx context.Context, ms []*labels.Matcher) ([]uint32, bool) {
	if f.b.deps.Cache == nil {
		return nil, false
	}
	value, ok := f.b.deps.Cache.ExpandedPostings(ctx, f.q.Tenant, f.b.Meta.ULID, ms)
	if !ok {
		return nil, false
	}
	// Deltas take a byte at least.
	f.q.Memory.expect(f.b.answerBytes(len(value)))
	if f.q.Memory != nil && f.q.Memory.res.TryGrow(4*int64(len(value))) != nil {
		return nil, false // where postings are waited for, there is
	}
	refs, err := f.decode(value)
	if err != nil {
		f.q.Memory.shrink(4 * int64(len(value)))
		return nil, false // the cache is wrong: the bucket knows
	}
	f.kept += 4 * int64(len(value))
	f.touch(int64(len(value)))
	return refs, true
}

func (f *finder) store(ms []*labels.Matcher, refs []uint32) {
	if f.b.deps.Cache == nil {
		return
	}
	value, err := f.encode(&refPostings{refs: refs, cur: -1}, len(refs))
	if err == nil {
		f.b.deps.Cache.StoreExpandedPostings(f.q.Tenant, f.b.Meta.ULID, ms, value)
	}
}

func (f *finder) encode(p index.Postings, n int) ([]byte, error) {
	begin := time.Now()
	value, err := indexcache.EncodePostings(p, n)
	c := &f.tally.Encoded
	c.Count++
	c.Time += time.Since(begin)
	c.OriginalBytes += 4 * int64(n)
	c.EncodedBytes += int64(len(value))
	if err != nil {
		c.Errors++
	}
	return value, err
}

func (f *finder) decode(value []byte) ([]uint32, error) {
	begin := time.Now()
	refs, err := postings.Expand(indexcache.DecodePostings(value))
	c := &f.tally.Decoded
	c.Count++
	c.Time += time.Since(begin)
	if err != nil {
		c.Errors++
	}
	return refs, err
}

func (f *finder) touch(n int64) {
	c := &f.tally.Kinds[Postings]
	c.Touched++
	c.TouchedBytes += n
}

// lists returns the list of each key, from the cache or the bucket.
func (f *finder) lists(ctx context.Context, keys []postings.Key) ([]index.Postings, error) {
	out := make([]index.Postings, len(keys))
	cached := make([][]byte, len(keys))
	if c := f.b.deps.Cache; c != nil {
		pairs := make([]labels.Label, len(keys))
		for i, k := range keys {
			pairs[i] = k.Label
		}
		c.Postings(ctx, f.q.Tenant, f.b.Meta.ULID, pairs, cached)
	}
	var missing []int
	var hitBytes int64
	for i, value := range cached {
		if value == nil {
			missing = append(missing, i)
			continue
		}
		hitBytes += int64(len(value))
		f.touch(int64(len(value)))
		refs, err := f.decode(value)
		if err != nil {
			missing = append(missing, i)
			continue
		}
		out[i] = &refPostings{refs: refs, cur: -1}
	}
	if err := f.q.Limits.addBytes(hitBytes); err != nil {
		return nil, err
	}
	f.tally.PostingsToFetch += int64(len(missing))
	if len(missing) == 0 {
		return out, nil
	}
	return out, f.fetch(ctx, keys, missing, out)
}

// fetch reads the lists of the keys that are missing.
func (f *finder) fetch(ctx context.Context, keys []postings.Key, missing []int, out []index.Postings) error {
	slices.SortFunc(missing, func(a, b int) int { return cmp.Compare(keys[a].Range.Start, keys[b].Range.Start) })
	items := make([]rangeread.Item, len(missing))
	for i, k := range missing {
		rng := keys[k].Range
		items[i] = rangeread.Item{Start: rng.Start, End: min(rng.End, f.r.IndexSize()), Min: 12}
	}
	var layout rangeread.Layout
	var arena rangeread.Arena // the lists keep it alive
	f.b.deps.Bucket.Lay(&layout, items)
	if err := f.q.Limits.addBytes(int64(layout.Bytes())); err != nil {
		return err
	}
	c := &f.tally.Kinds[Postings]
	begin := time.Now()
	err := f.b.deps.Bucket.ReadItems(ctx, f.b.indexName(), items, &layout, &arena)
	c.FetchTime += time.Since(begin)
	c.Requests += int64(layout.Requests())
	if err != nil {
		return err
	}
	for i, k := range missing {
		content, err := postings.Check(items[i].Buf)
		if err != nil {
			return f.b.atIndex(items[i].Start, err)
		}
		c.Touched++
		c.Fetched++
		c.TouchedBytes += int64(len(content))
		c.FetchedBytes += int64(len(content))
		out[k] = postings.NewList(content)
		if f.b.deps.Cache == nil {
			continue
		}
		value, err := f.encode(postings.NewList(content), len(content)/4)
		if err != nil {
			return f.b.atIndex(items[i].Start, err)
		}
		f.b.deps.Cache.StorePostings(f.q.Tenant, f.b.Meta.ULID, keys[k].Label, value)
	}
	return nil
}

// refPostings iterates over references in memory.
type refPostings struct {
	refs []uint32
	cur  int
}

var _ index.Postings = (*refPostings)(nil)

func (p *refPostings) Next() bool {
	p.cur++
	return p.cur < len(p.refs)
}

func (p *refPostings) Seek(ref storage.SeriesRef) bool {
	p.cur = max(p.cur, 0)
	if p.cur >= len(p.refs) {
		return false
	}
	n, _ := slices.BinarySearchFunc(p.refs[p.cur:], ref, func(a uint32, b storage.SeriesRef) int {
		return cmp.Compare(storage.SeriesRef(a), b)
	})
	p.cur += n
	return p.cur < len(p.refs)
}

func (p *refPostings) At() storage.SeriesRef { return storage.SeriesRef(p.refs[p.cur]) }
func (p *refPostings) Err() error            { return nil }
