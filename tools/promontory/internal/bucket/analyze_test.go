package bucket

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/blocktest"
)

// seriesOf makes a block of series alone.
func seriesOf(sets ...labels.Labels) func(*blocktest.Spec) {
	return func(s *blocktest.Spec) { s.Floats, s.Series = 0, sets }
}

func TestTheWholeHistoryIsCountedWithoutItsChunks(t *testing.T) {
	t.Parallel()
	b := newTestBucket(t)
	first := b.add(0, seriesOf(labels.FromStrings("__name__", "a", "pod", "x"), labels.FromStrings("__name__", "a", "pod", "y"), labels.FromStrings("__name__", "b", "pod", "x")))
	b.add(1, seriesOf(labels.FromStrings("__name__", "a", "pod", "z")))
	b.add(2, seriesOf(labels.FromStrings("__name__", "a", "pod", "x")), func(s *blocktest.Spec) { s.Resolution = block.Resolution5m })
	require.NoError(t, os.RemoveAll(b.path(first.ULID, block.ChunksDirname)))

	out, notes, err := b.run("analyze", "--output=json")
	require.NoError(t, err)
	var got []usage
	for line := range strings.Lines(out) {
		var u usage
		require.NoError(t, json.Unmarshal([]byte(line), &u))
		got = append(got, u)
	}
	require.Equal(t, []usage{
		{kindMetric, "a", 2, 3, 2, 0},
		{kindMetric, "b", 1, 1, 1, 0},
		{kindLabel, "__name__", 3, 4, 2, 2},
		{kindLabel, "pod", 3, 4, 2, 2},
		{kindPair, "pod=x", 2, 2, 1, 0},
		{kindPair, "pod=y", 1, 1, 1, 0},
		{kindPair, "pod=z", 1, 1, 1, 0},
	}, got)
	require.Contains(t, notes, "2 of 2 blocks read")

	out, _, err = b.run("analyze", "--limit=1", "--resolution=5m", "--output=tsv")
	require.NoError(t, err)
	require.Equal(t, "KIND\tNAME\tPEAK\tTOTAL\tBLOCKS\tVALUES\nmetric\ta\t1\t1\t1\t\nlabel\t__name__\t1\t1\t1\t1\npair\tpod=x\t1\t1\t1\t\n", out)
}

func TestABlockWithABrokenIndexIsNamedAndTheOthersAreCounted(t *testing.T) {
	t.Parallel()
	b := newTestBucket(t)
	bad := b.add(0)
	b.add(1)
	spoil(t, b.path(bad.ULID, block.IndexFilename), func(c []byte) []byte { return c[:len(c)/2] })
	out, notes, err := b.run("analyze")
	require.ErrorContains(t, err, bad.ULID.String())
	require.ErrorIs(t, err, block.ErrCorrupt)
	require.Contains(t, out, "metric")
	require.Contains(t, notes, "1 of 2 blocks read")
}
