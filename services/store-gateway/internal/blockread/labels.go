package blockread

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/index"

	"github.com/promontory-io/promontory/services/store-gateway/internal/indexheader"
	"github.com/promontory-io/promontory/services/store-gateway/internal/postings"
)

// LabelNames returns the sorted names of the labels, external ones excepted, of the
// series that q selects; without matchers those of all. No matching series gives none.
func (b *Block) LabelNames(ctx context.Context, q *Query) (names []string, err error) {
	err = b.withHeader(ctx, q, func(f *finder) error {
		if len(q.Matchers) == 0 {
			names = slices.Clone(f.r.LabelNames())
			return nil
		}
		names, err = f.labelNames(ctx)
		return err
	})
	return names, err
}

// LabelValues returns the sorted values of a label, which is no external one, of the
// series that q selects; without matchers those of all.
func (b *Block) LabelValues(ctx context.Context, name string, q *Query) (values []string, err error) {
	err = b.withHeader(ctx, q, func(f *finder) error {
		if !f.r.HasLabel(name) {
			return nil
		}
		values, err = f.labelValues(ctx, name)
		return err
	})
	return values, err
}

// Any reports whether there is a series that q selects.
func (b *Block) Any(ctx context.Context, q *Query) (found bool, err error) {
	err = b.withHeader(ctx, q, func(f *finder) error {
		refs, _, err := f.find(ctx, q.Matchers, false)
		found = len(refs) > 0
		return err
	})
	return found, err
}

func (b *Block) withHeader(ctx context.Context, q *Query, use func(*finder) error) error {
	r, release, err := b.header.Acquire(ctx)
	if err != nil {
		return b.wrap(err)
	}
	defer release()
	tally := Tally{Blocks: 1}
	defer q.Stats.add(&tally)
	f := &finder{b: b, r: r, q: q, tally: &tally}
	defer func() { q.Memory.shrink(f.kept) }()
	return b.wrap(use(f))
}

// labelNames reads the entries of all series selected.
func (f *finder) labelNames(ctx context.Context) ([]string, error) {
	seen := map[uint32]struct{}{}
	err := f.pairs(ctx, func(name, _ uint32) { seen[name] = struct{}{} })
	if err != nil {
		return nil, err
	}
	return resolve(f.r.Symbols(), seen)
}

func resolve(symbols *indexheader.Symbols, refs map[uint32]struct{}) ([]string, error) {
	out := make([]string, 0, len(refs))
	for ref := range refs {
		s, err := symbols.Lookup(ref)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	slices.Sort(out)
	return out, nil
}

// pairs calls f with the symbols of each label of the series selected.
func (f *finder) pairs(ctx context.Context, use func(name, value uint32)) error {
	refs, _, err := f.find(ctx, f.q.Matchers, false)
	if err != nil {
		return err
	}
	extra := f.q.Memory.extra(windowBytes - minWindowBytes)
	defer f.q.Memory.shrink(extra)
	entries := newEntryReader(f.b, f.r, f.q, f.tally, refs, minWindowBytes+extra)
	for {
		window, err := entries.next(ctx)
		if err != nil || len(window) == 0 {
			return err
		}
		for _, content := range window {
			n := numbers{b: content}
			for range n.uvarint() {
				name, value := n.uvarint(), n.uvarint()
				if n.bad {
					return fmt.Errorf("%w: labels of a series entry", ErrCorrupt)
				}
				use(uint32(name), uint32(value))
			}
		}
	}
}

// labelValues chooses the cheapest way: the header alone, the entries of the series selected, or
// an intersection of the lists of all values with these series.
func (f *finder) labelValues(ctx context.Context, name string) ([]string, error) {
	if values, ok, err := f.valuesFromHeader(ctx, name); ok || err != nil {
		return values, err
	}
	refs, _, err := f.find(ctx, f.q.Matchers, false)
	if err != nil || len(refs) == 0 {
		return nil, err
	}
	listBytes, err := f.r.LabelBytes(name)
	if err != nil {
		return nil, err
	}
	if int64(len(refs))*f.b.typicalSeriesBytes() < listBytes {
		return f.valuesFromSeries(ctx, name)
	}
	return f.valuesFromLists(ctx, name, refs)
}

// typicalSeriesBytes is for choosing, not for reading: entries are mostly far smaller than
// the largest.
func (b *Block) typicalSeriesBytes() int64 {
	if n := b.Meta.Stats.NumSeries; n > 0 && b.Meta.Stats.NumChunks > 0 {
		// Some twenty bytes of labels, some ten for each chunk.
		return 32 + 10*int64(b.Meta.Stats.NumChunks/n)
	}
	return min(b.seriesBytes, 256)
}

// valuesFromHeader answers where every matcher is about the label itself. A series
// without the label adds no value, so its matching does not count.
func (f *finder) valuesFromHeader(ctx context.Context, name string) (values []string, ok bool, err error) {
	for _, m := range f.q.Matchers {
		if m.Name != name {
			return nil, false, nil
		}
	}
	memory := account{m: f.q.Memory}
	defer memory.close()
	var full error
	err = f.r.Values(name, "", func(v string, _ indexheader.Range) bool {
		if matchesAll(f.q.Matchers, v) {
			values = append(values, strings.Clone(v))
			full = memory.add(ctx, valueBytes+int64(len(v)))
		}
		return full == nil
	})
	if full != nil {
		err = full
	}
	return values, true, err
}

func matchesAll(ms []*labels.Matcher, v string) bool {
	for _, m := range ms {
		if !m.Matches(v) {
			return false
		}
	}
	return true
}

func (f *finder) valuesFromSeries(ctx context.Context, name string) ([]string, error) {
	symbols := f.r.Symbols()
	isName := map[uint32]bool{}
	seen := map[uint32]struct{}{}
	var lookupErr error
	err := f.pairs(ctx, func(n, v uint32) {
		is, known := isName[n]
		if !known {
			s, err := symbols.Lookup(n)
			if err != nil {
				lookupErr = err
			}
			is = s == name
			isName[n] = is
		}
		if is {
			seen[v] = struct{}{}
		}
	})
	if err == nil {
		err = lookupErr
	}
	if err != nil {
		return nil, err
	}
	return resolve(symbols, seen)
}

// valueBytes is what a value takes besides its text, in the list of a block and in the answer.
const valueBytes = 64

// valuesPerFetch is how many lists are held at once while values are looked for.
const valuesPerFetch = 4096

func (f *finder) valuesFromLists(ctx context.Context, name string, refs []uint32) (values []string, err error) {
	var own []*labels.Matcher
	for _, m := range f.q.Matchers {
		if m.Name == name {
			own = append(own, m)
		}
	}
	var keys []postings.Key
	var bytes int64
	memory := account{m: f.q.Memory}
	defer memory.close()
	check := func() error {
		found, err := f.inLists(ctx, keys, bytes, refs)
		var size int64
		for _, v := range found {
			size += valueBytes + int64(len(v))
		}
		values = append(values, found...)
		keys, bytes = keys[:0], 0
		if err != nil {
			return err
		}
		return memory.add(ctx, size)
	}
	var checkErr error
	err = f.r.Values(name, "", func(v string, rng indexheader.Range) bool {
		if !matchesAll(own, v) {
			return true
		}
		keys = append(keys, postings.Key{Label: labels.Label{Name: name, Value: strings.Clone(v)}, Range: rng})
		bytes += rng.End - rng.Start
		if len(keys) == valuesPerFetch || bytes >= windowBytes {
			checkErr = check()
		}
		return checkErr == nil
	})
	if err == nil {
		err = checkErr
	}
	if err == nil {
		err = check()
	}
	return values, err
}

// inLists returns the values of those keys, whose lists take so many bytes, that some of refs have.
func (f *finder) inLists(ctx context.Context, keys []postings.Key, bytes int64, refs []uint32) (values []string, err error) {
	longest := 0
	for i := range keys {
		longest = max(longest, int(keys[i].Range.End-keys[i].Range.Start)/4)
	}
	cost := f.listBytes(bytes, longest) + keyBytes*int64(len(keys))
	if err := f.q.Memory.find(ctx, cost); err != nil {
		return nil, err
	}
	defer f.q.Memory.found(cost)
	leave, err := f.q.Memory.enter(ctx, cost)
	if err != nil {
		return nil, err
	}
	defer leave()
	lists, err := f.lists(ctx, keys)
	if err != nil {
		return nil, err
	}
	for i := range keys {
		if index.Intersect(&refPostings{refs: refs, cur: -1}, lists[i]).Next() {
			values = append(values, keys[i].Value)
		}
	}
	return values, nil
}
