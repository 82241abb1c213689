package blockread

import (
	"cmp"
	"context"
	"errors"
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
	if plan.Empty {
		f.store(ms, nil)
	}
	return refs, nil, nil
}

// evaluate fetches and joins the lists of plan. What it takes is reserved before, and only then it waits for its turn: who has a
// turn needs nothing else. What the references take stays reserved until the request ends.
func (f *finder) evaluate(ctx context.Context, ms []*labels.Matcher, plan *postings.Plan) ([]uint32, error) {
	cost := f.lookUpBytes(plan)
	if len(plan.Groups) == 1 {
		if err := f.expect(plan.Most(), cost); err != nil {
			return nil, blame(err, plan.Largest(), ms)
		}
	}
	if err := f.q.Memory.find(ctx, cost); err != nil {
		return nil, blame(err, plan.Largest(), ms)
	}
	kept := int64(0)
	defer func() { f.q.Memory.found(cost - kept) }()
	refs, err := f.join(ctx, ms, plan, cost)
	if err != nil {
		return nil, err
	}
	if len(plan.Groups) > 1 {
		// A list says nothing of how few series it has in common with another.
		if err := f.expect(len(refs), f.b.streamBytes(len(refs))); err != nil {
			return nil, blame(err, plan.Largest(), ms)
		}
	}
	kept = min(4*int64(cap(refs)), cost)
	f.kept += kept
	return refs, nil
}

// join does what was reserved for, in its turn.
func (f *finder) join(ctx context.Context, ms []*labels.Matcher, plan *postings.Plan, cost int64) ([]uint32, error) {
	leave, err := f.q.Memory.enter(ctx, cost)
	if err != nil {
		return nil, err
	}
	defer leave()
	lists, err := f.lists(ctx, plan.Keys())
	if err != nil {
		return nil, err
	}
	refs, err := plan.Evaluate(ctx, lists)
	if err == nil && len(plan.Rest) == 0 {
		f.store(ms, refs)
	}
	return refs, err
}

// lookUpBytes is what the lists of plan take, and what is made of them: their encodings for the cache, and the references found.
// Lists from the cache are unfolded and take as much as those from the bucket.
func (f *finder) lookUpBytes(plan *postings.Plan) int64 {
	found := 4 * int64(plan.Most())
	if len(plan.Groups) > 1 {
		found += found / 2
	}
	return max(f.listBytes(plan.Bytes(), plan.Longest())+found+f.encodedBytes(plan.Most())-LookupBytes, 0)
}

// listBytes is what lists of so many bytes take while they are fetched, the longest of which has so many references.
func (f *finder) listBytes(bytes int64, longest int) int64 {
	return bytes + bytes/4 + f.encodedBytes(longest) // an arena may be larger than asked for
}

// encodedBytes is what encoding so many references for the cache takes.
func (f *finder) encodedBytes(refs int) int64 {
	if f.b.deps.Cache == nil {
		return 0
	}
	return int64(refs)*5/4 + min(5*int64(refs), codecBytes)
}

// codecBytes is what the codec of the cache works with at most.
const codecBytes = 144 << 10

// answerBytes is what so many series take in the answer, about.
func (f *finder) answerBytes(series int) int64 {
	if f.q.SkipChunks {
		return int64(series) * seriesOverhead
	}
	return f.b.answerBytes(series)
}

// expect says how many series there may be, and what is asked for next.
func (f *finder) expect(series int, next int64) error {
	if f.q.Limit > 0 && f.q.Shard == nil {
		series = int(min(int64(series), f.q.Limit+1))
	}
	return f.q.Memory.expect(f.answerBytes(series), next)
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
	refs, held, err := f.unfold(value)
	if err != nil {
		f.q.Memory.shrink(held)
		return nil, false // where postings are waited for, there is; or the cache is wrong, and the bucket knows
	}
	f.kept += held
	f.touch(int64(len(value)))
	return refs, true
}

// unfold decodes what the cache has of series found, and reserves what they take; held is how much that is, also with an error. How
// many they are only decoding tells.
func (f *finder) unfold(value []byte) (refs []uint32, held int64, err error) {
	reserve := func(refs int) (int, error) {
		more := 4*int64(refs) - held
		if f.q.Memory != nil {
			if err := f.q.Memory.res.TryGrow(more); err != nil {
				return 0, err
			}
		}
		held += more
		return refs, nil
	}
	first, err := reserve(min(len(value), firstRefs))
	if err != nil {
		return nil, held, err
	}
	refs, err = f.decode(value, first, func(have int) (int, error) { return reserve(2*have + 16) })
	if err == nil {
		err = f.expect(len(refs), 0)
	}
	return refs, held, err
}

// firstRefs is for how many references there is room at first where their number is not known.
const firstRefs = 1024

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

func (f *finder) decode(value []byte, size int, more func(have int) (int, error)) ([]uint32, error) {
	begin := time.Now()
	refs, err := postings.Expand(indexcache.DecodePostings(value), size, more)
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

// errTooLong says that a list in the cache has more references than there is room for in the index.
var errTooLong = errors.New("cached list is too long")

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
		most := int(max(keys[i].Range.End-keys[i].Range.Start, 0) / 4)
		refs, err := f.decode(value, most, func(int) (int, error) { return 0, errTooLong })
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

// Len is how many references are left.
func (p *refPostings) Len() int { return max(len(p.refs)-p.cur-1, 0) }

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
