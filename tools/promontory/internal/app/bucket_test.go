package app

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/blocktest"
	"github.com/promontory-io/promontory/libs/objstore/filesystem"
)

// binary builds the real program once for a test.
func binary(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("builds the program")
	}
	path := filepath.Join(t.TempDir(), "promontory")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", path, "../../cmd/promontory").CombinedOutput()
	require.NoError(t, err, "%s", out)
	return path
}

// result is what a process left behind.
type result struct {
	out, notes string
	exit       int
}

func run(t *testing.T, path string, args ...string) result {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), path, args...)
	var out, notes bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &notes
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("run %q: %v", args, err)
	}
	return result{out.String(), notes.String(), cmd.ProcessState.ExitCode()}
}

func configOf(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bucket.yaml")
	require.NoError(t, os.WriteFile(path, []byte("type: FILESYSTEM\nconfig:\n  directory: "+dir+"\n"), 0o600))
	return path
}

// The real program over a recorded bucket with faults put in: each command does its part, under both sets of words.
func TestTheProgramLooksAfterABucket(t *testing.T) {
	t.Parallel()
	path := binary(t)
	dir := blocktest.RecordedAfter(t)
	bkt, err := filesystem.New(dir)
	require.NoError(t, err)
	config := configOf(t, dir)
	with := func(args ...string) []string { return append(args, "--objstore.config-file="+config) }

	ls := run(t, path, with("tools", "bucket", "ls")...)
	require.Zero(t, ls.exit, ls.notes)
	ids := strings.Fields(ls.out)
	require.Len(t, ids, 11)
	require.Equal(t, ls.out, run(t, path, with("bucket", "ls")...).out)
	clean := run(t, path, with("bucket", "verify", "-i", "index_known_issues", "-i", "overlapped_blocks", "-i", "block_files", "--exit-code")...)
	require.Zero(t, clean.exit, clean.notes)
	require.Empty(t, clean.out)

	// Three faults: a cut index, a block twice over the same time, an upload that was cut off long ago.
	require.NoError(t, os.Truncate(filepath.Join(dir, ids[0], block.IndexFilename), 200))
	first := blocktest.Upload(t, bkt, blocktest.Spec{ID: blocktest.ID(time.UnixMilli(blocktest.DefaultMinTime), 1)})
	second := blocktest.Upload(t, bkt, blocktest.Spec{ID: blocktest.ID(time.UnixMilli(blocktest.DefaultMinTime), 2)})
	abandoned := blocktest.Upload(t, bkt, blocktest.Spec{ID: blocktest.ID(time.UnixMilli(blocktest.DefaultMinTime), 3)})
	require.NoError(t, os.Remove(filepath.Join(dir, abandoned.ULID.String(), block.MetaFilename)))
	then := time.Now().Add(-72 * time.Hour)
	for _, rel := range []string{"index", "chunks/000001"} {
		require.NoError(t, os.Chtimes(filepath.Join(dir, abandoned.ULID.String(), rel), then, then))
	}

	found := run(t, path, with("tools", "bucket", "verify", "--issues=index_known_issues", "--issues=overlapped_blocks", "--issues=block_meta", "--output=json", "--exit-code")...)
	require.Equal(t, 1, found.exit)
	require.Equal(t, []string{
		"block_meta " + abandoned.ULID.String(), "index_known_issues " + ids[0], "overlapped_blocks " + second.ULID.String(),
	}, findings(t, found.out))

	marked := run(t, path, with("tools", "bucket", "mark", "--id="+second.ULID.String(), "--marker=deletion-mark.json", "--details=twice")...)
	require.Zero(t, marked.exit, marked.notes)
	cleaned := run(t, path, with("tools", "bucket", "cleanup", "--delete-delay=0s", "--consistency-delay=0s")...)
	require.Zero(t, cleaned.exit, cleaned.notes)
	for id, want := range map[ulid.ULID]bool{first.ULID: true, second.ULID: false, abandoned.ULID: false} {
		_, err := os.Stat(filepath.Join(dir, id.String()))
		require.Equal(t, want, err == nil, "%s", id)
	}

	target := filepath.Join(t.TempDir(), "target")
	copied := run(t, path, with("tools", "bucket", "replicate", "--single-run", "--http-address=127.0.0.1:0", "--compaction-max=5", "--objstore-to.config-file="+configOf(t, target))...)
	require.Zero(t, copied.exit, copied.notes)
	there := run(t, path, "bucket", "ls", "--objstore.config-file="+configOf(t, target))
	require.Equal(t, run(t, path, with("bucket", "ls")...).out, there.out)

	over := run(t, path, with("tools", "bucket", "retention", "--retention.resolution-raw=1d", "--consistency-delay=0s", "--dry-run")...)
	require.Zero(t, over.exit, over.notes)
	require.Equal(t, 9, strings.Count(over.out, "would be marked"), over.out)

	missing := run(t, path, "bucket", "ls")
	require.Equal(t, 1, missing.exit)
	require.Contains(t, missing.notes, "--objstore.config")
}

// What can be repaired is, with a copy kept, and nothing else is touched; what cannot be read is named, and the rest is shown and counted.
func TestTheProgramShowsCountsAndRepairsABucketWithFaults(t *testing.T) {
	t.Parallel()
	path := binary(t)
	dir, backup := blocktest.RecordedAfter(t), filepath.Join(t.TempDir(), "backup")
	config, backupConfig := "--objstore.config-file="+configOf(t, dir), "--objstore-backup.config-file="+configOf(t, backup)
	ids := strings.Fields(run(t, path, "bucket", "ls", config).out)

	// Two faults: an index that is cut off, and a copy of another block.
	broken, original, twin := ids[0], ids[1], blocktest.ID(time.Now(), 7).String() // the older one is kept
	require.NoError(t, os.Truncate(filepath.Join(dir, broken, block.IndexFilename), 200))
	require.NoError(t, os.CopyFS(filepath.Join(dir, twin), os.DirFS(filepath.Join(dir, original))))
	meta, err := os.ReadFile(filepath.Join(dir, twin, block.MetaFilename))
	require.NoError(t, err)
	meta = bytes.Replace(meta, []byte(original), []byte(twin), 1)
	require.NoError(t, os.WriteFile(filepath.Join(dir, twin, block.MetaFilename), meta, 0o644))

	shown := run(t, path, "bucket", "inspect", "--output=tsv", config)
	require.Zero(t, shown.exit, shown.notes)
	for _, id := range append(ids, twin) {
		require.Contains(t, shown.out, id)
	}
	counted := run(t, path, "bucket", "analyze", config)
	require.Equal(t, 1, counted.exit)
	require.Contains(t, counted.notes, broken)
	require.Contains(t, counted.out, "http_requests_total")

	would := run(t, path, "bucket", "repair", "--dry-run", config, backupConfig)
	require.Contains(t, would.out, twin)
	require.DirExists(t, filepath.Join(dir, twin))
	require.NoDirExists(t, backup)

	none := run(t, path, "bucket", "repair", config)
	require.Equal(t, 1, none.exit)
	require.Contains(t, none.notes, "--objstore-backup.config")
	done := run(t, path, "bucket", "repair", "--output=json", "--exit-code", config, backupConfig)
	require.Equal(t, 1, done.exit, "an index that is cut off is beyond repair: %s", done.notes)
	require.Equal(t, []string{"duplicated_compaction " + twin, "index_known_issues " + broken}, findings(t, done.out))
	require.NoDirExists(t, filepath.Join(dir, twin))
	for _, id := range ids {
		require.DirExists(t, filepath.Join(dir, id))
	}
	require.FileExists(t, filepath.Join(backup, twin, block.MetaFilename))
	again := run(t, path, "bucket", "repair", "--output=json", config, backupConfig)
	require.Equal(t, []string{"index_known_issues " + broken}, findings(t, again.out))
}

func findings(t *testing.T, out string) []string {
	t.Helper()
	var keys []string
	for line := range strings.Lines(out) {
		var f struct{ Issue, Block string }
		require.NoError(t, json.Unmarshal([]byte(line), &f))
		keys = append(keys, f.Issue+" "+f.Block)
	}
	slices.Sort(keys)
	return keys
}

func TestEveryCommandHasHelpWithExamples(t *testing.T) {
	t.Parallel()
	for _, words := range []string{
		"bucket ls", "bucket inspect", "bucket mark", "bucket verify", "bucket repair", "bucket replicate", "bucket cleanup", "bucket retention", "bucket upload-blocks", "bucket downsample", "bucket rewrite", "check rules",
	} {
		for _, prefix := range []string{"", "tools "} {
			if prefix != "" && words == "check rules" {
				words, prefix = "rules-check", "tools "
			}
			var out bytes.Buffer
			root := NewCommand()
			root.SetOut(&out)
			root.SetErr(&out)
			root.SetArgs(append(strings.Fields(prefix+words), "--help"))
			require.NoError(t, root.ExecuteContext(t.Context()), words)
			require.Contains(t, out.String(), "Examples:", words)
			require.Contains(t, out.String(), "--log.level", words)
		}
	}
}
