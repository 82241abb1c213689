package merge

import (
	"testing"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/xorchunk"
)

func TestPointIteratorKeepsTheRulesOfIterators(t *testing.T) {
	t.Parallel()
	it := &pointIterator{points: []xorchunk.Point{{T: 10, V: 1}, {T: 20, V: 2}}, i: -1}
	require.Equal(t, chunkenc.ValFloat, it.Seek(5))
	require.EqualValues(t, 10, it.AtT())
	require.Equal(t, chunkenc.ValFloat, it.Seek(1), "never backwards")
	require.EqualValues(t, 10, it.AtT())
	require.Equal(t, chunkenc.ValFloat, it.Next())
	require.Equal(t, chunkenc.ValNone, it.Next())
	require.Equal(t, chunkenc.ValNone, it.Next())
	require.Equal(t, chunkenc.ValNone, it.Seek(0))
	require.EqualValues(t, 20, it.AtT())
}
