package chunks

import (
	"testing"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"
)

func ch(b ...byte) Chunk { return Chunk{Encoding: chunkenc.EncXOR, Data: b} }

func TestAggrNumbersAreThoseOfTheWire(t *testing.T) {
	t.Parallel()
	for want, a := range []Aggr{Raw, Count, Sum, Min, Max, Counter} {
		require.EqualValues(t, want, a)
		require.Equal(t, aggrNames[want], a.String())
	}
	require.Equal(t, "aggr(6)", Aggr(6).String())
}

func TestOfReturnsExactlyTheAskedPart(t *testing.T) {
	t.Parallel()
	var c AggrChunk
	require.True(t, c.Empty())
	c.Set(Raw, ch(9))
	require.Nil(t, c.Aggr, "raw needs no room for aggregates")
	for a := Count; a <= Counter; a++ {
		_, ok := c.Of(a)
		require.False(t, ok, "no fall back to raw for %s", a)
		c.Set(a, ch(byte(a)))
	}
	for a := Count; a <= Counter; a++ {
		got, ok := c.Of(a)
		require.True(t, ok)
		require.Equal(t, []byte{byte(a)}, got.Data)
		require.Equal(t, []byte{byte(a)}, c.Aggr[a-1].Data)
	}
	c.Set(Aggr(7), ch(1))
	_, ok := c.Of(Aggr(7))
	require.False(t, ok)
	require.False(t, c.Empty())
}

func TestEqualComparesRangeEncodingAndBytes(t *testing.T) {
	t.Parallel()
	mk := func(f func(*AggrChunk)) *AggrChunk {
		c := &AggrChunk{MinTime: 1, MaxTime: 2, Raw: ch(1, 2)}
		c.Set(Sum, ch(3))
		if f != nil {
			f(c)
		}
		return c
	}
	for name, tc := range map[string]struct {
		change func(*AggrChunk)
		want   bool
	}{
		"same":                    {nil, true},
		"only one hash known":     {func(c *AggrChunk) { c.Raw.Hash = 5 }, true},
		"other range":             {func(c *AggrChunk) { c.MaxTime = 3 }, false},
		"other bytes":             {func(c *AggrChunk) { c.Raw = ch(1, 3) }, false},
		"other encoding":          {func(c *AggrChunk) { c.Raw.Encoding = chunkenc.EncHistogram }, false},
		"other aggregate":         {func(c *AggrChunk) { c.Set(Sum, ch(4)) }, false},
		"additional aggregate":    {func(c *AggrChunk) { c.Set(Max, ch(4)) }, false},
		"aggregates gone":         {func(c *AggrChunk) { c.Aggr = nil }, false},
		"room without aggregates": {func(c *AggrChunk) { c.Set(Min, Chunk{Encoding: 1}) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, tc.want, mk(nil).Equal(mk(tc.change)))
			require.Equal(t, tc.want, mk(tc.change).Equal(mk(nil)))
		})
	}
}

func TestSumIsXXHash64OfTheData(t *testing.T) {
	t.Parallel()
	require.EqualValues(t, 8376154270085342629, ch(1, 2, 3).Sum())
	require.EqualValues(t, 7, Chunk{Hash: 7, Data: []byte{1}}.Sum())
}

func TestCompareOrdersByMinThenMaxTime(t *testing.T) {
	t.Parallel()
	a, b, c := AggrChunk{MinTime: 1, MaxTime: 5}, AggrChunk{MinTime: 1, MaxTime: 6}, AggrChunk{MinTime: 2, MaxTime: 2}
	require.Equal(t, -1, a.Compare(&b))
	require.Equal(t, -1, b.Compare(&c))
	require.Equal(t, 1, c.Compare(&a))
	require.Equal(t, 0, a.Compare(&a))
}

func TestSortUniqueDropsTheSameBytesOfTheSameRange(t *testing.T) {
	t.Parallel()
	mk := func(mint, maxt int64, b byte) AggrChunk {
		return AggrChunk{MinTime: mint, MaxTime: maxt, Raw: ch(b)}
	}
	got := SortUnique([]AggrChunk{mk(5, 6, 1), mk(1, 2, 1), mk(1, 2, 2), mk(1, 3, 1), mk(1, 2, 1), mk(5, 6, 1), mk(1, 2, 2)})
	require.Equal(t, []AggrChunk{mk(1, 2, 1), mk(1, 2, 2), mk(1, 3, 1), mk(5, 6, 1)}, got)
	require.Empty(t, SortUnique(nil))
}
