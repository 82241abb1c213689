package app

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/ship"
	"github.com/promontory-io/promontory/libs/procs"
	"github.com/promontory-io/promontory/libs/storeapi/storeapitest"
	"github.com/promontory-io/promontory/services/sidecar/internal/promtest"
)

// someData is a small TSDB's content.
func someData() storeapitest.Data {
	d := storeapitest.Data{External: testLabels}
	for i := range 20 {
		s := storeapitest.Series{Labels: named("m", "i", fmt.Sprintf("%02d", i))}
		for k := range int64(200) {
			s.Samples = append(s.Samples, storeapitest.Sample{T: storeapitest.Start + k*15_000, V: float64(k)})
		}
		d.Series = append(d.Series, s)
	}
	return d
}

// onlyBlock is the one block in a folder.
func onlyBlock(t *testing.T, dir string) (id ulid.ULID) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		if found, ok := block.ParseID(e.Name()); ok {
			require.Zero(t, id, "more than one block")
			id = found
		}
	}
	require.NotZero(t, id)
	return id
}

// requireUploaded waits for the block in the bucket and compares it with the local one.
func requireUploaded(t *testing.T, bucket, dataDir string, id ulid.ULID) {
	t.Helper()
	remote, local := filepath.Join(bucket, id.String()), filepath.Join(dataDir, id.String())
	require.Eventually(t, func() bool {
		state, err := ship.ReadState(dataDir, ship.DefaultMetaFileName)
		return err == nil && len(state.Uploaded) == 1 && state.Uploaded[0] == id
	}, promtest.Wait, 20*time.Millisecond)
	meta, err := block.ReadMetaDir(remote)
	require.NoError(t, err)
	require.Equal(t, map[string]string{"cluster": "eu1", "replica": "a"}, meta.Thanos.Labels)
	require.Equal(t, block.SourceSidecar, meta.Thanos.Source)
	require.NotEmpty(t, meta.Thanos.SegmentFiles)
	for _, name := range []string{"index", filepath.Join("chunks", "000001")} {
		want, err := os.ReadFile(filepath.Join(local, name))
		require.NoError(t, err)
		got, err := os.ReadFile(filepath.Join(remote, name))
		require.NoError(t, err)
		require.Equal(t, want, got, name)
	}
	entries, err := os.ReadDir(filepath.Join(dataDir, "thanos", "upload"))
	if err == nil {
		require.Empty(t, entries, "nothing is left staged")
	}
}

func TestABlockIsUploadedHoweverOftenTheSidecarIsKilled(t *testing.T) {
	t.Parallel()
	prom := promtest.Start(t, promtest.Options{
		External: testLabels,
		Prepare:  func(dir string) { writeTSDB(t, dir, someData(), true) },
	})
	id := onlyBlock(t, prom.DataDir())
	bucket, dir := t.TempDir(), t.TempDir()
	// Each object can be made to hang while its file is there.
	points := []struct{ name, object string }{
		{"chunks", "/chunks/"}, {"index", "/index$"}, {"meta", "/meta.json$"},
	}
	config := fmt.Sprintf("type: FILESYSTEM\nconfig: {directory: %s}\nfaults:\n  rules:\n", bucket)
	for _, p := range points {
		config += fmt.Sprintf("  - {operations: [upload], name: %q, hang: true, while_file: %s}\n", p.object, filepath.Join(dir, p.name))
	}
	configFile := filepath.Join(dir, "bucket.yml")
	require.NoError(t, os.WriteFile(configFile, []byte(config), 0o644))

	addrs, err := procs.FreeAddrs(2)
	require.NoError(t, err)
	s := &sidecar{grpcAddr: addrs[0], httpAddr: addrs[1]}
	group := procs.New(procs.Config{LogDir: dir})
	t.Cleanup(func() { require.NoError(t, group.Stop()) })
	spec := procs.Spec{
		Name: "sidecar", Binary: os.Args[0], Env: []string{asSidecar + "=1"},
		Args:  append(s.args(prom.URL.String(), prom.DataDir()), "--objstore.config-file="+configFile),
		Ready: "http://" + s.httpAddr + "/-/ready", StartTimeout: promtest.Wait, StopTimeout: promtest.Wait,
	}
	hang := func(name string) { require.NoError(t, os.WriteFile(filepath.Join(dir, name), nil, 0o644)) }
	hang(points[0].name)
	require.NoError(t, group.Start(t.Context(), spec))
	p := group.Process("sidecar")
	staged := filepath.Join(prom.DataDir(), "thanos", "upload", id.String())
	exists := func(path string) func() bool {
		return func() bool { _, err := os.Stat(path); return err == nil }
	}
	before := []string{staged, filepath.Join(bucket, id.String(), "chunks", "000001"), filepath.Join(bucket, id.String(), "index")}
	for i, point := range points {
		require.Eventually(t, exists(before[i]), promtest.Wait, 10*time.Millisecond, "stops at %s", point.name)
		// It serves all the same.
		code, _ := s.get("/-/ready")
		require.Equal(t, http.StatusOK, code)
		p.Kill()
		require.False(t, exists(filepath.Join(bucket, id.String(), "meta.json"))(), "a block is visible only when whole")
		if i+1 < len(points) {
			hang(points[i+1].name)
		}
		require.NoError(t, os.Remove(filepath.Join(dir, point.name)))
		require.NoError(t, p.Start(t.Context()))
	}
	requireUploaded(t, bucket, prom.DataDir(), id)
	require.Equal(t, "1", s.metric(t, "thanos_shipper_uploads_total"))

	// Another start does not upload it again.
	p.Kill()
	require.NoError(t, p.Start(t.Context()))
	require.Eventually(t, func() bool { return s.metric(t, "thanos_shipper_dir_syncs_total") == "1" }, promtest.Wait, 20*time.Millisecond)
	require.Equal(t, "0", s.metric(t, "thanos_shipper_uploads_total"))
	http.DefaultClient.CloseIdleConnections()
}

func TestABucketThatCannotBeReachedDelaysUploadsOnly(t *testing.T) {
	t.Parallel()
	prom := promtest.Start(t, promtest.Options{
		External: testLabels,
		Prepare:  func(dir string) { writeTSDB(t, dir, someData(), true) },
	})
	s := start(t, prom, `--objstore.config={type: S3, config: {bucket: blocks, endpoint: "127.0.0.1:1", access_key: a, secret_key: s, insecure: true, max_retries: 1, region: x}}`)
	require.Eventually(t, func() bool { return s.metric(t, "thanos_shipper_dir_sync_failures_total") == "1" }, promtest.Wait, 20*time.Millisecond)
	require.Contains(t, s.logs.String(), "upload of blocks failed")
	require.Contains(t, s.logs.String(), "127.0.0.1:1")
	s.waitReady(t, http.StatusOK)
}
