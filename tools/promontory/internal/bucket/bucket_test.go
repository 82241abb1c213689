package bucket

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/blocktest"
	"github.com/promontory-io/promontory/libs/objstore/filesystem"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/baidubce/bce-sdk-go/util/log.NewLogger.func1"))
}

const hour = int64(time.Hour / time.Millisecond)

// testBucket is a FILESYSTEM bucket and its configuration.
type testBucket struct {
	*filesystem.Bucket

	tb     testing.TB
	dir    string
	config string
}

func newTestBucket(tb testing.TB) *testBucket {
	tb.Helper()
	return bucketIn(tb, filepath.Join(tb.TempDir(), "bucket"))
}

func bucketIn(tb testing.TB, dir string) *testBucket {
	tb.Helper()
	bkt, err := filesystem.New(dir)
	require.NoError(tb, err)
	config := filepath.Join(tb.TempDir(), "bucket.yaml")
	require.NoError(tb, os.WriteFile(config, []byte("type: FILESYSTEM\nconfig:\n  directory: "+dir+"\n"), 0o600))
	return &testBucket{Bucket: bkt, tb: tb, dir: dir, config: config}
}

// add uploads a small block of two hours, n of them after the default time.
func (b *testBucket) add(n int64, change ...func(*blocktest.Spec)) *block.Meta {
	b.tb.Helper()
	from := blocktest.DefaultMinTime + 2*n*hour
	spec := blocktest.Spec{
		ID: blocktest.ID(time.UnixMilli(from+2*hour), uint64(n)), MinTime: from, MaxTime: from + 2*hour,
		Floats: 3, ExternalLabels: labels.FromStrings("cluster", "eu1", "replica", "r0"),
	}
	for _, c := range change {
		c(&spec)
	}
	return blocktest.Upload(b.tb, b.Bucket, spec)
}

// path returns where an object of a block lies on disk.
func (b *testBucket) path(id ulid.ULID, rel string) string {
	return filepath.Join(b.dir, id.String(), filepath.FromSlash(rel))
}

// files returns all objects of the bucket with their content.
func (b *testBucket) files() map[string]string {
	b.tb.Helper()
	out := map[string]string{}
	require.NoError(b.tb, filepath.WalkDir(b.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		rel, _ := filepath.Rel(b.dir, path)
		out[filepath.ToSlash(rel)] = string(content)
		return err
	}))
	return out
}

// run runs `bucket <args>` over b and returns standard output and standard error.
func (b *testBucket) run(args ...string) (out, notes string, err error) {
	b.tb.Helper()
	return runArgs(b.tb.Context(), append(args, "--objstore.config-file="+b.config, "--log.level=error")...)
}

func runArgs(ctx context.Context, args ...string) (out, notes string, err error) {
	var stdout, stderr bytes.Buffer
	cmd := NewCommand()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetOut(&stdout)
	cmd.SetErr(&stderr)
	cmd.SetArgs(args)
	err = cmd.ExecuteContext(ctx)
	return stdout.String(), stderr.String(), err
}

func spoil(tb testing.TB, path string, change func([]byte) []byte) {
	tb.Helper()
	content, err := os.ReadFile(path)
	require.NoError(tb, err)
	require.NoError(tb, os.WriteFile(path, change(content), 0o600))
}
