package hashring

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheShardThatWasLongestNotUsedGoesFirst(t *testing.T) {
	t.Parallel()
	c := newShardCache(2)
	a, b, d := &Ring{}, &Ring{}, &Ring{}
	c.add("a", a)
	c.add("b", b)
	got, ok := c.get("a")
	require.True(t, ok)
	require.Same(t, a, got)
	c.add("d", d)
	_, ok = c.get("b")
	require.False(t, ok)
	got, ok = c.get("a")
	require.True(t, ok)
	require.Same(t, a, got)
	c.add("a", b)
	got, _ = c.get("a")
	require.Same(t, b, got)
	require.Len(t, c.entries, 2)
}
