package postings_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/index"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/services/store-gateway/internal/indexheader"
	"github.com/promontory-io/promontory/services/store-gateway/internal/postings"
)

// fakeIndex holds series in memory; series i has the reference 3i+1.
type fakeIndex struct {
	series []labels.Labels
	lists  map[labels.Label][]uint32
}

func newFakeIndex(series ...labels.Labels) *fakeIndex {
	f := &fakeIndex{series: series, lists: map[labels.Label][]uint32{}}
	for i, s := range series {
		ref := uint32(3*i + 1)
		f.lists[labels.Label{}] = append(f.lists[labels.Label{}], ref)
		s.Range(func(l labels.Label) { f.lists[l] = append(f.lists[l], ref) })
	}
	return f
}

func (f *fakeIndex) rangeOf(l labels.Label) indexheader.Range {
	return indexheader.Range{Start: 0, End: int64(4 * len(f.lists[l]))}
}

func (f *fakeIndex) Postings(name, value string) (indexheader.Range, bool, error) {
	l := labels.Label{Name: name, Value: value}
	return f.rangeOf(l), f.lists[l] != nil, nil
}

func (f *fakeIndex) Values(name, prefix string, use func(string, indexheader.Range) bool) error {
	var values []string
	for l := range f.lists {
		if l.Name == name && len(l.Value) >= len(prefix) && l.Value[:len(prefix)] == prefix {
			values = append(values, l.Value)
		}
	}
	slices.Sort(values)
	for _, v := range values {
		if !use(v, f.rangeOf(labels.Label{Name: name, Value: v})) {
			break
		}
	}
	return nil
}

func (f *fakeIndex) CountValues(name string) (n int) {
	for l := range f.lists {
		if l.Name == name {
			n++
		}
	}
	return n
}

func (f *fakeIndex) encoded(l labels.Label) []byte {
	refs := f.lists[l]
	b := binary.BigEndian.AppendUint32(nil, uint32(4+4*len(refs)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(refs)))
	for _, r := range refs {
		b = binary.BigEndian.AppendUint32(b, r)
	}
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b[4:], crc32.MakeTable(crc32.Castagnoli)))
}

// find answers matchers the way a block does.
func (f *fakeIndex) find(t *testing.T, ms []*labels.Matcher, cost postings.Cost) (found []labels.Labels, plan *postings.Plan) {
	t.Helper()
	plan, err := postings.NewPlan(f, ms, cost)
	require.NoError(t, err)
	var lists []index.Postings
	for _, k := range plan.Keys() {
		content, err := postings.Check(append(f.encoded(k.Label), "what comes after"...))
		require.NoError(t, err)
		lists = append(lists, postings.NewList(content))
	}
	refs, err := plan.Evaluate(context.Background(), lists)
	require.NoError(t, err)
	require.True(t, slices.IsSorted(refs))
	for _, r := range refs {
		s := f.series[(r-1)/3]
		ok := true
		for _, d := range plan.Rest {
			ok = ok && d.Matcher.Matches(s.Get(d.Matcher.Name))
		}
		if ok {
			found = append(found, s)
		}
	}
	return found, plan
}

func (f *fakeIndex) want(ms []*labels.Matcher) (out []labels.Labels) {
series:
	for _, s := range f.series {
		for _, m := range ms {
			if !m.Matches(s.Get(m.Name)) {
				continue series
			}
		}
		out = append(out, s)
	}
	return out
}

func TestPlansFindWhatMatchersSelect(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 1))
	var series []labels.Labels
	for i := range 200 {
		b := labels.NewBuilder(labels.FromStrings("id", fmt.Sprint(i)))
		for _, n := range []string{"a", "b", "c"} {
			if v := rng.IntN(5); v > 0 {
				b.Set(n, fmt.Sprint("v", v))
			}
		}
		series = append(series, b.Labels())
	}
	slices.SortFunc(series, labels.Compare)
	ix := newFakeIndex(series...)
	values := map[labels.MatchType][]string{
		labels.MatchEqual:     {"", "v1", "v2", "v9"},
		labels.MatchNotEqual:  {"", "v1", "v2", "v9"},
		labels.MatchRegexp:    {"", ".*", ".+", "v1|v2", "v1|", "v[12]", "v.*", "x.*", "(v3)?", "V1|(?i:V2)"},
		labels.MatchNotRegexp: {"", ".*", ".+", "v1|v2", "v1|", "v[12]", "v.*", "x.*", "(v3)?"},
	}
	lazies := 0
	for range 5000 {
		var ms []*labels.Matcher
		for range 1 + rng.IntN(4) {
			typ := labels.MatchType(rng.IntN(4))
			name := []string{"a", "b", "c", "id", "none"}[rng.IntN(5)]
			ms = append(ms, labels.MustNewMatcher(typ, name, values[typ][rng.IntN(len(values[typ]))]))
		}
		cost := postings.Cost{}
		if rng.IntN(2) == 0 {
			cost = postings.Cost{Lazy: true, SeriesBytes: []int64{1, 10, 1000}[rng.IntN(3)], MaxKeyRatio: []float64{0, 0.01, 2}[rng.IntN(3)]}
		}
		got, plan := ix.find(t, ms, cost)
		want := ix.want(ms)
		require.Equal(t, len(want), len(got), "%v", ms)
		for i := range want {
			require.True(t, labels.Equal(want[i], got[i]), "%v", ms)
		}
		if len(plan.Rest) > 0 {
			lazies++
		}
		require.Equal(t, plan.Empty, len(plan.Groups) == 0)
	}
	require.Greater(t, lazies, 100, "deferring was tried")
}

func TestPlansFetchNoMoreThanNeeded(t *testing.T) {
	t.Parallel()
	var series []labels.Labels
	for i := range 1000 {
		series = append(series, labels.FromStrings("__name__", "m", "big", fmt.Sprint(i%2), "id", fmt.Sprintf("%04d", i)))
	}
	ix := newFakeIndex(series...)
	m := func(typ labels.MatchType, name, value string) *labels.Matcher {
		return labels.MustNewMatcher(typ, name, value)
	}
	for name, tc := range map[string]struct {
		ms   []*labels.Matcher
		cost postings.Cost
		keys int
		rest int
	}{
		"an empty group ends the search":        {[]*labels.Matcher{m(labels.MatchEqual, "id", "none"), m(labels.MatchRegexp, "id", ".+")}, postings.Cost{}, 0, 0},
		"matching everything needs no list":     {[]*labels.Matcher{m(labels.MatchEqual, "id", "0001"), m(labels.MatchRegexp, "big", ".*")}, postings.Cost{}, 1, 0},
		"removing nothing needs no list":        {[]*labels.Matcher{m(labels.MatchEqual, "id", "0001"), m(labels.MatchNotEqual, "big", "7")}, postings.Cost{}, 1, 0},
		"sets are looked up":                    {[]*labels.Matcher{m(labels.MatchRegexp, "id", "0001|0002|9999")}, postings.Cost{}, 2, 0},
		"only removals start from all series":   {[]*labels.Matcher{m(labels.MatchNotEqual, "id", "0001")}, postings.Cost{}, 2, 0},
		"large lists wait when lazy":            {[]*labels.Matcher{m(labels.MatchEqual, "id", "0001"), m(labels.MatchEqual, "big", "1")}, postings.Cost{Lazy: true, SeriesBytes: 100}, 1, 1},
		"but not when series are larger":        {[]*labels.Matcher{m(labels.MatchEqual, "id", "0001"), m(labels.MatchEqual, "big", "1")}, postings.Cost{Lazy: true, SeriesBytes: 1 << 20}, 2, 0},
		"nor without being lazy":                {[]*labels.Matcher{m(labels.MatchEqual, "id", "0001"), m(labels.MatchEqual, "big", "1")}, postings.Cost{SeriesBytes: 100}, 2, 0},
		"many lists for few series wait":        {[]*labels.Matcher{m(labels.MatchEqual, "big", "1"), m(labels.MatchRegexp, "id", ".+")}, postings.Cost{Lazy: true, SeriesBytes: 1 << 30, MaxKeyRatio: 1}, 1, 1},
		"the first group never waits":           {[]*labels.Matcher{m(labels.MatchRegexp, "id", ".+")}, postings.Cost{Lazy: true, SeriesBytes: 1, MaxKeyRatio: 0.1}, 1000, 0},
		"a label that is not there, wanted":     {[]*labels.Matcher{m(labels.MatchNotEqual, "none", "")}, postings.Cost{}, 0, 0},
		"a label that is not there, not wanted": {[]*labels.Matcher{m(labels.MatchEqual, "none", "")}, postings.Cost{}, 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			plan, err := postings.NewPlan(ix, tc.ms, tc.cost)
			require.NoError(t, err)
			require.Len(t, plan.Keys(), tc.keys)
			require.Len(t, plan.Rest, tc.rest)
		})
	}
}

func TestListSeeksLikeAnyPostings(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(9, 9))
	for range 500 {
		var refs []storage.SeriesRef
		b := []byte{0, 0, 0, 0}
		ref := uint32(0)
		for range rng.IntN(60) {
			ref += 1 + rng.Uint32N(20)
			refs = append(refs, storage.SeriesRef(ref))
			b = binary.BigEndian.AppendUint32(b, ref)
		}
		got, want := postings.NewList(b), index.NewListPostings(refs)
		for range 40 {
			var g, w bool
			if rng.IntN(2) == 0 {
				g, w = got.Next(), want.Next()
			} else {
				target := storage.SeriesRef(rng.Uint32N(700))
				g, w = got.Seek(target), want.Seek(target)
			}
			require.Equal(t, w, g)
			if !w {
				break
			}
			require.Equal(t, want.At(), got.At())
		}
	}
}

func FuzzCheck(f *testing.F) {
	ix := newFakeIndex(labels.FromStrings("a", "b"), labels.FromStrings("a", "b", "c", "d"))
	f.Add(ix.encoded(labels.Label{Name: "a", Value: "b"}))
	f.Add(ix.encoded(labels.Label{Name: "none", Value: "b"}))
	f.Add([]byte{0, 0, 0, 5, 0, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		content, err := postings.Check(b)
		if err != nil {
			require.ErrorIs(t, err, postings.ErrCorrupt)
			return
		}
		_, err = postings.Expand(postings.NewList(content), 0, nil)
		require.NoError(t, err)
	})
}

func TestWhatIsFoundTakesNoMoreThanThePlanSays(t *testing.T) {
	t.Parallel()
	var series []labels.Labels
	for i := range 5000 {
		series = append(series, labels.FromStrings("a", fmt.Sprint("v", i%7), "b", fmt.Sprint("w", i%3)))
	}
	ix := newFakeIndex(series...)
	for name, tc := range map[string]struct {
		ms    []*labels.Matcher
		exact bool
	}{
		"one matcher":         {[]*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, "a", "v[0-5]")}, true},
		"two matchers":        {[]*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, "a", "v.+"), labels.MustNewMatcher(labels.MatchEqual, "b", "w1")}, false},
		"all but some":        {[]*labels.Matcher{labels.MustNewMatcher(labels.MatchNotEqual, "a", "v1")}, false},
		"few in common":       {[]*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "a", "v1"), labels.MustNewMatcher(labels.MatchEqual, "b", "w1")}, false},
		"one matcher, no one": {[]*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "a", "x")}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			plan, err := postings.NewPlan(ix, tc.ms, postings.Cost{})
			require.NoError(t, err)
			var lists []index.Postings
			for _, k := range plan.Keys() {
				content, err := postings.Check(ix.encoded(k.Label))
				require.NoError(t, err)
				lists = append(lists, postings.NewList(content))
			}
			refs, err := plan.Evaluate(t.Context(), lists)
			require.NoError(t, err)
			require.LessOrEqual(t, cap(refs), plan.Most())
			if tc.exact {
				require.Equal(t, len(refs), cap(refs))
			}
		})
	}
}

func TestExpandEndsWhereThereIsNoRoom(t *testing.T) {
	t.Parallel()
	full := errors.New("full")
	list := func() index.Postings {
		content := binary.BigEndian.AppendUint32(nil, 100)
		for i := range uint32(100) {
			content = binary.BigEndian.AppendUint32(content, i+1)
		}
		return postings.NewList(content)
	}
	refs, err := postings.Expand(list(), 100, func(int) (int, error) { return 0, full })
	require.NoError(t, err)
	require.Len(t, refs, 100)
	_, err = postings.Expand(list(), 99, func(have int) (int, error) {
		require.Equal(t, 99, have)
		return 0, full
	})
	require.ErrorIs(t, err, full)
	refs, err = postings.Expand(list(), 0, nil)
	require.NoError(t, err)
	require.Len(t, refs, 100)
}
