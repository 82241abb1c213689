package bucket

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/blocktest"
	"github.com/promontory-io/promontory/libs/block/ship"
)

// markAt marks a block as if it had been done so long ago.
func (b *testBucket) markAt(m *block.Meta, ago time.Duration) ulid.ULID {
	b.tb.Helper()
	_, err := block.MarkForDeletion(b.tb.Context(), nil, b, m.ULID, "a test", time.Now().Add(-ago))
	require.NoError(b.tb, err)
	return m.ULID
}

// age makes all objects of a block look as old.
func (b *testBucket) age(id ulid.ULID, ago time.Duration) {
	b.tb.Helper()
	then := time.Now().Add(-ago)
	require.NoError(b.tb, filepath.WalkDir(filepath.Join(b.dir, id.String()), func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chtimes(path, then, then)
	}))
}

func blocksIn(files map[string]string) []string {
	ids := map[string]struct{}{}
	for name := range files {
		ids[strings.SplitN(name, "/", 2)[0]] = struct{}{}
	}
	var out []string
	for id := range maps.Keys(ids) {
		out = append(out, id)
	}
	return out
}

func TestCleanupDeletesExactlyWhatIsDue(t *testing.T) {
	t.Parallel()
	b := newTestBucket(t)
	var gone, stay []string
	add := func(to *[]string, id ulid.ULID) { *to = append(*to, id.String()) }
	partial := func(n int64) ulid.ULID {
		m := b.add(n)
		require.NoError(t, os.Remove(b.path(m.ULID, block.MetaFilename)))
		return m.ULID
	}
	add(&gone, b.markAt(b.add(0), 49*time.Hour))
	add(&stay, b.markAt(b.add(1), 47*time.Hour))
	add(&stay, b.add(2).ULID)
	add(&stay, partial(3))
	old := partial(4)
	b.age(old, 49*time.Hour)
	add(&gone, old)
	interrupted := b.add(5)
	b.markAt(interrupted, 49*time.Hour)
	require.NoError(t, os.Remove(b.path(interrupted.ULID, block.MetaFilename)))
	add(&gone, interrupted.ULID)
	damaged := b.add(6)
	spoil(t, b.path(damaged.ULID, block.MetaFilename), func([]byte) []byte { return []byte("{") })
	b.age(damaged.ULID, 49*time.Hour)
	add(&stay, damaged.ULID)
	before := b.files()
	args := []string{"cleanup", "--consistency-delay=0s", "--output=tsv"}

	out, notes, err := b.run(append(args, "--dry-run")...)
	require.NoError(t, err)
	for _, id := range gone {
		require.Contains(t, out, id+"\twould be deleted\t")
	}
	for _, id := range stay {
		require.NotContains(t, out, id)
	}
	require.Contains(t, notes, "3 blocks deleted (dry run: nothing was changed) of 3 due (1 marked, 2 partial); 1 marked and 2 partial are not due yet")
	require.Empty(t, cmp.Diff(before, b.files()), "a dry run changed the bucket")

	_, _, err = b.run(args...)
	require.NoError(t, err)
	require.ElementsMatch(t, stay, blocksIn(b.files()))
}

func TestCleanupKeepsToItsSelection(t *testing.T) {
	t.Parallel()
	b := newTestBucket(t)
	other := b.markAt(b.add(0, own("other")), 100*time.Hour)
	fresh := b.markAt(b.add(1), 100*time.Hour)
	_, _, err := b.run("cleanup", "--selector.relabel-config=[{source_labels: [seeded], regex: other, action: drop}]")
	require.NoError(t, err)
	require.ElementsMatch(t, []string{other.String(), fresh.String()}, blocksIn(b.files()), "the other block was just uploaded")
	_, _, err = b.run("cleanup", "--consistency-delay=0s", "--selector.relabel-config=[{source_labels: [seeded], regex: other, action: drop}]")
	require.NoError(t, err)
	require.Equal(t, []string{other.String()}, blocksIn(b.files()))
}

func TestCleanupNamesTheBlockThatFailsAndGoesOn(t *testing.T) {
	t.Parallel()
	b := newTestBucket(t)
	stuck, fine := b.markAt(b.add(0), 49*time.Hour), b.markAt(b.add(1), 49*time.Hour)
	text, err := os.ReadFile(b.config)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(b.config, append(text, "faults:\n  rules:\n    - {operations: [delete], name: "+stuck.String()+", error: error}\n"...), 0o600))
	out, _, err := b.run("cleanup", "--consistency-delay=0s", "--output=json")
	require.ErrorContains(t, err, stuck.String())
	require.ErrorContains(t, err, "injected fault")
	require.Contains(t, out, `{"block":"`+stuck.String()+`","action":"failed"`)
	require.Contains(t, out, `{"block":"`+fine.String()+`","action":"deleted"`)
	require.Equal(t, []string{stuck.String()}, blocksIn(b.files()))
}

func TestPartialBlocksAreDue(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(blocktest.DefaultMinTime)
	mark := func(ago time.Duration) *block.DeletionMark {
		return &block.DeletionMark{DeletionTime: now.Add(-ago).Unix()}
	}
	for name, test := range map[string]struct {
		p    partialBlock
		want bool
	}{
		"written to lately":                  {partialBlock{newest: now.Add(-47 * time.Hour)}, false},
		"not written to for long":            {partialBlock{newest: now.Add(-49 * time.Hour)}, true},
		"written to at an unknown time":      {partialBlock{id: blocktest.ID(now.Add(-49*time.Hour), 1)}, true},
		"made lately, at an unknown time":    {partialBlock{id: blocktest.ID(now.Add(-47*time.Hour), 1)}, false},
		"marked lately and not written to":   {partialBlock{mark: mark(time.Hour), newest: now.Add(-99 * time.Hour)}, false},
		"marked long ago, written to lately": {partialBlock{mark: mark(25 * time.Hour), newest: now}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, got := duePartial(test.p, 24*time.Hour, now)
			require.Equal(t, test.want, got)
		})
	}
}

func TestRetentionMarksExactlyWhatIsOver(t *testing.T) {
	t.Parallel()
	b := newTestBucket(t)
	// All data is from November 2025, so that any retention of seconds is over.
	raw := b.add(0)
	five := b.add(1, func(s *blocktest.Spec) { s.Resolution = block.Resolution5m })
	marked := b.add(2)
	b.markAt(marked, time.Hour)
	before := b.files()
	args := []string{"retention", "--consistency-delay=0s", "--retention.resolution-raw=1d", "--output=json"}

	out, _, err := b.run(append(args, "--dry-run")...)
	require.NoError(t, err)
	require.Equal(t, `{"block":"`+raw.ULID.String()+`","action":"would be marked","reason":"block exceeding retention of 1d"}`+"\n", out)
	require.Empty(t, cmp.Diff(before, b.files()), "a dry run changed the bucket")

	_, notes, err := b.run(args...)
	require.NoError(t, err)
	require.Contains(t, notes, "1 block marked for deletion of 1 that are over")
	mark, err := block.ReadDeletionMark(t.Context(), b, raw.ULID)
	require.NoError(t, err)
	require.Equal(t, "block exceeding retention of 1d", mark.Details)
	_, err = block.ReadDeletionMark(t.Context(), b, five.ULID)
	require.ErrorIs(t, err, block.ErrMarkNotFound)
	require.Len(t, b.files(), len(before)+1)

	out, _, err = b.run("retention", "--consistency-delay=0s", "--retention.resolution-5m=9999d")
	require.NoError(t, err)
	require.Empty(t, out)
}

func TestExpiredIsPerResolutionAndOldestFirst(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(1000 * hour)
	metas := map[ulid.ULID]*block.Meta{}
	id := func(n uint64) ulid.ULID { return blocktest.ID(now, n) }
	add := func(n uint64, until, resolution int64) {
		m := &block.Meta{}
		m.ULID, m.MaxTime, m.Thanos.Downsample.Resolution = id(n), until*hour, resolution
		metas[m.ULID] = m
	}
	add(1, 989, 0)
	add(2, 990, 0) // over only in a moment
	add(3, 980, 0)
	add(4, 100, block.Resolution1h) // kept for ever
	add(5, 979, block.Resolution5m)
	add(6, 970, 0) // marked
	add(7, 100, 12345)
	var got []ulid.ULID
	for _, d := range expired(metas, map[ulid.ULID]*block.DeletionMark{id(6): {}}, retentions{0: 10 * time.Hour, block.Resolution5m: 20 * time.Hour}, now) {
		got = append(got, d.id)
	}
	require.Equal(t, []ulid.ULID{id(5), id(3), id(1)}, got)
}

func TestUploadBlocks(t *testing.T) {
	t.Parallel()
	b, dir := newTestBucket(t), t.TempDir()
	plain := blocktest.Create(t, dir, blocktest.Spec{ID: blocktest.ID(time.UnixMilli(blocktest.DefaultMinTime), 1), Plain: true})
	compacted := blocktest.Create(t, dir, blocktest.Spec{
		ID: blocktest.ID(time.UnixMilli(blocktest.DefaultMinTime), 2), Plain: true, Level: 2,
		MinTime: blocktest.DefaultMinTime + 2*hour, MaxTime: blocktest.DefaultMinTime + 10*hour,
	})
	args := []string{"upload-blocks", "--path=" + dir, `--label=cluster="eu1"`, `--label=replica="0"`}

	out, _, err := b.run(append(args, "--dry-run")...)
	require.NoError(t, err)
	require.Contains(t, out, plain.ULID.String()+": would be uploaded")
	require.Contains(t, out, compacted.ULID.String()+": would be passed over: it was compacted locally")
	require.NoDirExists(t, b.dir)
	require.NoFileExists(t, filepath.Join(dir, ship.DefaultMetaFileName))

	out, notes, err := b.run(args...)
	require.NoError(t, err)
	require.Equal(t, plain.ULID.String()+": uploaded\n", out)
	require.Contains(t, notes, "1 block uploaded")
	m, err := block.FetchMeta(t.Context(), b, plain.ULID)
	require.NoError(t, err)
	require.Equal(t, map[string]string{"cluster": "eu1", "replica": "0"}, m.Thanos.Labels)
	require.Equal(t, block.SourceBucketUpload, m.Thanos.Source)

	out, _, err = b.run(append(args, "--shipper.upload-compacted")...)
	require.NoError(t, err)
	require.Equal(t, compacted.ULID.String()+": uploaded\n", out)
	out, _, err = b.run(append(args, "--dry-run")...)
	require.NoError(t, err)
	require.Equal(t, 2, strings.Count(out, "it is recorded as uploaded"))

	_, _, err = b.run("upload-blocks", "--path="+dir+"/nothing")
	require.ErrorContains(t, err, "--label")
	require.ErrorContains(t, err, "--path")
}
