package bucket

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/blocktest"
)

func TestMarkWritesAndRemovesEachMarker(t *testing.T) {
	t.Parallel()
	for _, marker := range []string{block.DeletionMarkFilename, block.NoCompactMarkFilename, block.NoDownsampleMarkFilename} {
		t.Run(marker, func(t *testing.T) {
			t.Parallel()
			b := newTestBucket(t)
			first, second := b.add(0), b.add(1)
			before := b.files()
			args := []string{"mark", "--id=" + first.ULID.String(), "--id=" + second.ULID.String(), "--marker=" + marker}

			out, _, err := b.run(append(args, "--details=a test", "--dry-run")...)
			require.NoError(t, err)
			require.Contains(t, out, first.ULID.String())
			require.Empty(t, cmp.Diff(before, b.files()), "a dry run changed the bucket")

			_, notes, err := b.run(append(args, "--details=a test")...)
			require.NoError(t, err)
			require.Contains(t, notes, "2 blocks marked with "+marker)
			marked := b.files()
			require.Len(t, marked, len(before)+2)
			content := marked[second.ULID.String()+"/"+marker]
			require.Contains(t, content, `"id":"`+second.ULID.String()+`","version":1,"details":"a test"`)

			_, notes, err = b.run(append(args, "--details=another")...)
			require.NoError(t, err)
			require.Contains(t, notes, "0 blocks marked with "+marker+", 2 left as they were, 0 failed")
			require.Empty(t, cmp.Diff(marked, b.files()), "the older marker was replaced")

			_, _, err = b.run(append(args, "--remove")...)
			require.NoError(t, err)
			require.Empty(t, cmp.Diff(before, b.files()))
		})
	}
}

func TestMarkGoesOnAfterABlockThatIsNotThere(t *testing.T) {
	t.Parallel()
	b := newTestBucket(t)
	there := b.add(0)
	missing := blocktest.ID(there.CreationTime(), 99)
	_, notes, err := b.run("mark", "--id="+missing.String(), "--id="+there.ULID.String(), "--marker=deletion-mark.json", "--details=x")
	require.ErrorContains(t, err, "block "+missing.String()+": there is no such block")
	require.Contains(t, notes, "1 block marked with deletion-mark.json, 0 left as they were, 1 failed")
	_, err = block.ReadDeletionMark(t.Context(), b, there.ULID)
	require.NoError(t, err)
}
