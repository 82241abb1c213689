package storeapi

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/promontory-io/promontory/proto/gen/thanos"
)

// randomLabels draws few names and values, so that prefixes and collisions abound.
func randomLabels(r *rand.Rand, names []string) labels.Labels {
	b := labels.NewScratchBuilder(0)
	for _, n := range names {
		if r.IntN(2) == 0 {
			b.Add(n, string(rune('0'+r.IntN(3))))
		}
	}
	return b.Labels()
}

func TestOrdererRestoresOrderAfterAnyExternalLabels(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(7, 8))
	own := []string{"a", "c", "e", "g", "i"}
	for range 2000 {
		ext := randomLabels(r, []string{"B", "b", "d", "f", "h", "z"})
		var in []labels.Labels
		for range r.IntN(40) {
			in = append(in, randomLabels(r, own))
		}
		slices.SortFunc(in, labels.Compare)
		e := NewExtender(ext, nil)
		var want []labels.Labels
		for _, l := range in {
			want = append(want, e.Extend(l))
		}
		slices.SortStableFunc(want, labels.Compare)
		var got []labels.Labels
		most := 0
		o := NewOrderer(func(l labels.Labels, _ int) error { got = append(got, l); return nil })
		for i, l := range in {
			require.NoError(t, o.Add(e.Extend(l), i))
			most = max(most, o.Held())
		}
		require.NoError(t, o.Flush())
		require.Equal(t, fmt.Sprint(want), fmt.Sprint(got), "external %s, series %s", ext, in)
		// A chain of prefixes has at most one set per label and the empty one;
		// equal sets wait together.
		distinct := len(slices.CompactFunc(slices.Clone(in), labels.Equal))
		require.LessOrEqual(t, most, len(in)-distinct+len(own)+1)
	}
}

func TestExtenderDoesWhatABuilderDoes(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(9, 10))
	names := []string{"a", "b", "c", "d", "e"}
	for range 3000 {
		ext, lset := randomLabels(r, names), randomLabels(r, names)
		var without []string
		for _, n := range []string{"e", "b", "x", "b"} {
			if r.IntN(2) == 0 {
				without = append(without, n)
			}
		}
		b := labels.NewBuilder(lset)
		ext.Range(func(l labels.Label) { b.Set(l.Name, l.Value) })
		want := b.Del(without...).Labels()
		e := NewExtender(ext, without)
		require.Equal(t, want.String(), e.Extend(lset).String(), "%s + %s - %v", lset, ext, without)
		var into labels.Labels
		e.ExtendInto(lset, &into)
		require.Equal(t, want.String(), into.String())
	}
}

func TestShardOfARecordedLabelSet(t *testing.T) {
	t.Parallel()
	lset := labels.FromStrings("__name__", "up", "instance", "a:9090", "job", "x")
	for _, tc := range []struct {
		by    bool
		total int64
		want  int64
	}{{true, 2, 1}, {true, 3, 1}, {true, 4, 1}, {false, 2, 0}, {false, 3, 0}, {false, 4, 2}} {
		for i := range tc.total {
			s := NewShard(&thanos.ShardInfo{ShardIndex: i, TotalShards: tc.total, By: tc.by, Labels: []string{"job"}})
			require.Equal(t, i == tc.want, s.Has(lset), "shard %d of %d, by %v", i, tc.total, tc.by)
		}
	}
	require.True(t, NewShard(nil).Has(lset))
	require.True(t, NewShard(&thanos.ShardInfo{}).Has(lset))
}

func TestMatchExternal(t *testing.T) {
	t.Parallel()
	ext := labels.FromStrings("cluster", "eu", "replica", "a")
	eq := func(n, v string) *labels.Matcher { return labels.MustNewMatcher(labels.MatchEqual, n, v) }
	rest, ok := MatchExternal(ext, []*labels.Matcher{eq("cluster", "eu"), eq("job", "x")})
	require.True(t, ok)
	require.Equal(t, []*labels.Matcher{eq("job", "x")}, rest)
	_, ok = MatchExternal(ext, []*labels.Matcher{eq("cluster", "us"), eq("job", "x")})
	require.False(t, ok)
	_, ok = MatchExternal(ext, []*labels.Matcher{eq("cluster", "")})
	require.False(t, ok)
}
