package ship_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/thanos-io/objstore"
	"github.com/thanos-io/objstore/providers/filesystem"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/blocktest"
	"github.com/promontory-io/promontory/libs/block/ship"
)

// noLie fails if the bucket shows a block whose data is not all there.
func noLie(t testing.TB, bkt objstore.Bucket) {
	t.Helper()
	for n := 1; n <= 2; n++ {
		m, err := block.FetchMeta(context.Background(), bkt, id(n))
		if errors.Is(err, block.ErrMetaNotFound) || errors.Is(err, block.ErrMetaCorrupt) {
			continue
		}
		require.NoError(t, err)
		for _, f := range m.Thanos.Files {
			attrs, err := bkt.Attributes(context.Background(), block.ObjectName(id(n), f.RelPath))
			require.NoError(t, err, f.RelPath)
			if f.SizeBytes > 0 {
				require.Equal(t, f.SizeBytes, attrs.Size, f.RelPath)
			}
		}
	}
}

// converges syncs once more without faults and checks that all is as if nothing had happened.
func converges(t testing.TB, bkt objstore.Bucket, dir string) {
	t.Helper()
	s, _ := newShipper(t, bkt, ship.Config{Dir: dir})
	_, err := s.Sync(context.Background())
	require.NoError(t, err)
	for n := 1; n <= 2; n++ {
		inBucket(t, bkt, dir, n)
	}
	require.Len(t, uploadedBlocks(t, dir), 2)
	var names []string
	require.NoError(t, bkt.Iter(context.Background(), "", func(n string) error {
		names = append(names, n)
		return nil
	}, objstore.WithRecursiveIter()))
	require.Len(t, names, 6, "nothing else is left: %v", names)
	staged, err := filepath.Glob(filepath.Join(dir, "thanos", "upload", "*"))
	require.NoError(t, err)
	require.Empty(t, staged)
}

// twoBlocks makes a TSDB folder, and can make copies of it.
func twoBlocks(t testing.TB) (copyTo func() string) {
	t.Helper()
	dir := t.TempDir()
	local(t, dir, 1)
	local(t, dir, 2)
	return func() string {
		to := filepath.Join(t.TempDir(), "tsdb")
		require.NoError(t, os.CopyFS(to, os.DirFS(dir)))
		return to
	}
}

func TestFailureOfAnyCallIsRecoveredFrom(t *testing.T) {
	t.Parallel()
	fresh := twoBlocks(t)
	for n := int64(1); ; n++ {
		dir, inner := fresh(), newFS(t, t.TempDir())
		var calls atomic.Int64
		boom := errors.New("boom")
		bkt := &blocktest.Hooked{Bucket: inner, Cut: 50, Hook: func(blocktest.Call) error {
			if calls.Add(1) == n {
				return boom
			}
			return nil
		}}
		s, _ := newShipper(t, bkt, ship.Config{Dir: dir})
		_, err := s.Sync(t.Context())
		noLie(t, inner)
		converges(t, inner, dir)
		if err == nil {
			require.Greater(t, n, int64(15))
			return
		}
		require.ErrorIs(t, err, boom, "call %d", n)
	}
}

func TestCancellationAtAnyCallIsRecoveredFrom(t *testing.T) {
	t.Parallel()
	fresh := twoBlocks(t)
	for n := int64(1); ; n++ {
		dir, inner := fresh(), objstore.NewInMemBucket()
		ctx, cancel := context.WithCancel(t.Context())
		var calls atomic.Int64
		bkt := &blocktest.Hooked{Bucket: inner, Hook: func(blocktest.Call) error {
			if calls.Add(1) == n {
				cancel()
			}
			return nil
		}}
		s, _ := newShipper(t, bkt, ship.Config{Dir: dir})
		_, err := s.Sync(ctx)
		cancel()
		noLie(t, inner)
		converges(t, inner, dir)
		if err == nil {
			require.Greater(t, n, int64(15))
			return
		}
		require.ErrorIs(t, err, context.Canceled, "call %d", n)
	}
}

func newFS(t testing.TB, dir string) objstore.Bucket {
	t.Helper()
	bkt, err := filesystem.NewBucket(dir)
	require.NoError(t, err)
	return bkt
}

const (
	envKillAt  = "SHIP_TEST_KILL_AT"
	envTSDB    = "SHIP_TEST_TSDB"
	envBucket  = "SHIP_TEST_BUCKET"
	killedCode = 7
)

// TestKilledProcess runs in a process of its own, started by
// TestKillAtAnyCallIsRecoveredFrom: it ships and leaves in the middle, with no clean-up at all.
func TestKilledProcess(t *testing.T) {
	if os.Getenv(envKillAt) == "" {
		t.Skip("runs only as the child of another test")
	}
	n, err := strconv.ParseInt(os.Getenv(envKillAt), 10, 64)
	require.NoError(t, err)
	inner := newFS(t, os.Getenv(envBucket))
	var calls atomic.Int64
	bkt := &blocktest.Hooked{Bucket: inner, Cut: 50}
	bkt.Hook = func(c blocktest.Call) error {
		if calls.Add(1) < n {
			return nil
		}
		if c.Op == objstore.OpUpload {
			// A killed process leaves a beginning of what it was writing.
			name := filepath.Join(os.Getenv(envBucket), c.Name)
			if os.MkdirAll(filepath.Dir(name), 0o755) == nil {
				_ = os.WriteFile(name, []byte(`{"ulid":`), 0o644)
			}
		}
		os.Exit(killedCode)
		return nil
	}
	s, _ := newShipper(t, bkt, ship.Config{Dir: os.Getenv(envTSDB)})
	_, err = s.Sync(t.Context())
	require.NoError(t, err)
}

func TestKillAtAnyCallIsRecoveredFrom(t *testing.T) {
	t.Parallel()
	fresh := twoBlocks(t)
	for n := 1; ; n++ {
		dir, bucketDir := fresh(), t.TempDir()
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilledProcess$")
		cmd.Env = append(os.Environ(), envKillAt+"="+strconv.Itoa(n), envTSDB+"="+dir, envBucket+"="+bucketDir)
		out, err := cmd.CombinedOutput()
		bkt := newFS(t, bucketDir)
		noLie(t, bkt)
		converges(t, bkt, dir)
		if err == nil {
			require.Greater(t, n, 15)
			return
		}
		var exit *exec.ExitError
		require.ErrorAs(t, err, &exit)
		require.Equal(t, killedCode, exit.ExitCode(), "%s", out)
	}
}
