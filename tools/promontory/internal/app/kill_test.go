package app

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/blocktest"
	"github.com/promontory-io/promontory/libs/objstore/filesystem"
)

// blocksToWorkOn is how many blocks each command has to deal with.
const blocksToWorkOn = 3

// long uploads blocks that are long enough to be downsampled.
func long(t *testing.T, dir string) {
	t.Helper()
	bkt, err := filesystem.New(dir)
	require.NoError(t, err)
	for n := range int64(blocksToWorkOn) {
		from := blocktest.DefaultMinTime + n*48*time.Hour.Milliseconds()
		blocktest.Upload(t, bkt, blocktest.Spec{
			ID: blocktest.ID(time.UnixMilli(from), uint64(n)), MinTime: from, MaxTime: from + 41*time.Hour.Milliseconds(),
			Interval: 5 * time.Minute, Floats: 3, ExternalLabels: labels.FromStrings("cluster", "eu1"),
		})
	}
}

// seen describes what readers of a bucket see, without the names of blocks, and counts what they do not: blocks
// without meta.json.
func seen(t *testing.T, dir string) (whole []string, partial int) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if !os.IsNotExist(err) {
		require.NoError(t, err)
	}
	for _, entry := range entries {
		if _, ok := block.ParseID(entry.Name()); !ok {
			continue
		}
		m, err := block.ReadMetaDir(filepath.Join(dir, entry.Name()))
		if err != nil {
			partial++
			continue
		}
		_, err = os.Stat(filepath.Join(dir, entry.Name(), block.DeletionMarkFilename))
		whole = append(whole, fmt.Sprintf("%d-%d@%d %v %s series=%d samples=%d marked=%t", m.MinTime, m.MaxTime, m.Thanos.Downsample.Resolution,
			m.Thanos.Labels, m.Thanos.Source, m.Stats.NumSeries, m.Stats.NumSamples, err == nil))
	}
	slices.Sort(whole)
	return whole, partial
}

// A command that is killed in the middle of its second block goes on where it was: in the end the bucket shows what it
// shows after a run that was never disturbed, and the block that was done is not done again.
func TestAKilledCommandGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	path := binary(t)
	for name, tt := range map[string]struct {
		// args are the command, with the bucket into which it writes as %s.
		args func(t *testing.T, target string) []string
		// source fills the bucket at first, nil if it is empty.
		source func(t *testing.T, dir string)
		// said is what the command prints of each block it has done.
		said string
		// remains is how many blocks without meta.json stay, for bucket cleanup.
		remains int
	}{
		"replicate": {func(t *testing.T, target string) []string {
			from := t.TempDir()
			long(t, from)
			return []string{"replicate", "--single-run", "--http-address=127.0.0.1:0", "--objstore.config-file=" + configOf(t, from), "--objstore-to.config-file=" + target}
		}, nil, ": copied", 0},
		"upload-blocks": {func(t *testing.T, target string) []string {
			from := t.TempDir()
			for n := range int64(blocksToWorkOn) {
				mint := blocktest.DefaultMinTime + n*2*time.Hour.Milliseconds()
				blocktest.Create(t, from, blocktest.Spec{MinTime: mint, MaxTime: mint + 2*time.Hour.Milliseconds(), Plain: true})
			}
			return []string{"upload-blocks", "--path=" + from, `--label=cluster="eu1"`, "--objstore.config-file=" + target}
		}, nil, ": uploaded", 0},
		"rewrite": {func(t *testing.T, target string) []string {
			return []string{
				"rewrite", "--all", "--no-dry-run", "--delete-blocks", "--tmp.dir=" + t.TempDir(),
				`--rewrite.to-delete-config=[{matchers: '{series="0"}'}]`, "--objstore.config-file=" + target,
			}
		}, long, ": rewritten as", 1},
		"downsample": {func(t *testing.T, target string) []string {
			return []string{"downsample", "--single-run", "--http-address=127.0.0.1:0", "--data-dir=" + t.TempDir(), "--objstore.config-file=" + target}
		}, long, ": downsampled to", 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			begin := func() string {
				dir := filepath.Join(t.TempDir(), "bucket")
				if tt.source != nil {
					tt.source(t, dir)
				}
				return dir
			}
			undisturbed := begin()
			first := run(t, path, append([]string{"bucket"}, tt.args(t, configOf(t, undisturbed))...)...)
			require.Zero(t, first.exit, first.notes)
			require.Equal(t, blocksToWorkOn, strings.Count(first.out, tt.said), first.out)
			want, partial := seen(t, undisturbed)
			require.Zero(t, partial)

			dir := begin()
			before, _ := seen(t, dir)
			stuck := configOf(t, dir)
			text, err := os.ReadFile(stuck)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(stuck, append(text, "faults:\n  rules:\n  - {operations: [upload], name: index, after: 1, hang: true}\n"...), 0o600))
			args := append([]string{"bucket"}, tt.args(t, stuck)...)
			cmd := exec.CommandContext(t.Context(), path, args...)
			require.NoError(t, cmd.Start())
			require.Eventually(t, func() bool {
				whole, partial := seen(t, dir)
				return len(whole) > len(before) && partial == 1
			}, time.Minute, 20*time.Millisecond, "one block is done, and the chunks of the second are there")
			require.NoError(t, cmd.Process.Kill())
			require.Error(t, cmd.Wait())
			require.NoError(t, os.WriteFile(stuck, text, 0o600))

			second := run(t, path, args...)
			require.Zero(t, second.exit, second.notes)
			require.Equal(t, blocksToWorkOn-1, strings.Count(second.out, tt.said), second.out)
			got, partial := seen(t, dir)
			require.Equal(t, want, got)
			require.Equal(t, tt.remains, partial)
		})
	}
}
