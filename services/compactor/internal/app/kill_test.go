package app

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/blocktest"
	"github.com/promontory-io/promontory/libs/objstore/filesystem"
	"github.com/promontory-io/promontory/services/compactor/internal/read"
	"github.com/promontory-io/promontory/services/compactor/internal/write"
)

// asProcess makes the test binary behave as the compactor.
const asProcess = "PROMONTORY_TEST_COMPACTOR"

func TestMain(m *testing.M) {
	if os.Getenv(asProcess) != "" {
		if err := NewCommand().ExecuteContext(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func process(t *testing.T, dir, data string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], "compact", "--objstore.config={type: FILESYSTEM, config: {directory: "+dir+"}}", "--data-dir="+data,
		"--deduplication.func=penalty", "--deduplication.replica-label=replica", "--consistency-delay=0s", "--lease.disable", "--http-address=127.0.0.1:0")
	cmd.Env = append(os.Environ(), asProcess+"=1")
	return cmd
}

// contents are the sums of the blocks that are left.
func contents(t *testing.T, dir string) []string {
	t.Helper()
	bkt, err := filesystem.New(dir)
	require.NoError(t, err)
	var out []string
	for _, name := range unmarked(t, dir) {
		id, ok := block.ParseID(name)
		require.True(t, ok)
		m, err := block.FetchMeta(t.Context(), bkt, id)
		require.NoError(t, err)
		sum, _, err := write.ReadSum(t.Context(), bkt, m, read.DefaultOptions())
		require.NoError(t, err)
		out = append(out, fmt.Sprintf("%d-%d@%d %s", m.MinTime, m.MaxTime, m.Thanos.Downsample.Resolution, sum))
	}
	slices.Sort(out)
	return out
}

func TestProcessKilledAgainAndAgainComesToTheSameResult(t *testing.T) {
	t.Parallel()
	want := blocktest.RecordedBefore(t)
	out, err := process(t, want, t.TempDir()).CombinedOutput()
	require.NoError(t, err, string(out))

	dir, data := blocktest.RecordedBefore(t), t.TempDir()
	rng := rand.New(rand.NewPCG(1, 1))
	kills := 0
	for range 30 {
		cmd := process(t, dir, data)
		require.NoError(t, cmd.Start())
		done := make(chan error, 1)
		go func() { done <- cmd.Wait() }()
		select {
		case <-done:
		case <-time.After(time.Duration(50+rng.IntN(900)) * time.Millisecond):
			require.NoError(t, cmd.Process.Kill())
			<-done
			kills++
		}
	}
	require.Positive(t, kills)
	out, err = process(t, dir, data).CombinedOutput()
	require.NoError(t, err, string(out))
	require.Equal(t, contents(t, want), contents(t, dir))
	require.Len(t, contents(t, dir), 11)
}
