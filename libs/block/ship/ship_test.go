package ship_test

import (
	"context"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"github.com/thanos-io/objstore"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/blocktest"
	"github.com/promontory-io/promontory/libs/block/ship"
)

const hour = int64(3600_000)

var epoch = time.UnixMilli(blocktest.DefaultMinTime)

func lset() labels.Labels { return labels.FromStrings("cluster", "eu1", "replica", "r0") }

func id(n int) ulid.ULID { return blocktest.ID(epoch.Add(time.Duration(n)*time.Second), uint64(n)) }

// local makes the n-th local block of two hours, as Prometheus does.
func local(t testing.TB, dir string, n int, change ...func(*blocktest.Spec)) *block.Meta {
	t.Helper()
	spec := blocktest.Spec{
		ID: id(n), Plain: true, Floats: 2, Interval: 10 * time.Minute,
		MinTime: blocktest.DefaultMinTime + int64(n)*2*hour, MaxTime: blocktest.DefaultMinTime + int64(n+1)*2*hour,
	}
	for _, c := range change {
		c(&spec)
	}
	return blocktest.Create(t, dir, spec)
}

func level(l int) func(*blocktest.Spec) { return func(s *blocktest.Spec) { s.Level = l } }

func newShipper(t testing.TB, bkt objstore.Bucket, cfg ship.Config) (*ship.Shipper, *prometheus.Registry) {
	t.Helper()
	if cfg.Labels == nil {
		cfg.Labels = lset
	}
	if cfg.Source == "" {
		cfg.Source = block.SourceSidecar
	}
	reg := prometheus.NewRegistry()
	s, err := ship.New(nil, bkt, cfg, reg)
	require.NoError(t, err)
	return s, reg
}

func metric(t testing.TB, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() == name {
			m := f.GetMetric()[0]
			return m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	t.Fatalf("metric %s is not exposed", name)
	return 0
}

// inBucket fails unless the bucket holds the block whole, as the shipper sends it.
func inBucket(t testing.TB, bkt objstore.Bucket, dir string, n int) *block.Meta {
	t.Helper()
	m, err := block.FetchMeta(context.Background(), bkt, id(n))
	require.NoError(t, err)
	require.Equal(t, lset().Map(), m.Thanos.Labels)
	require.Equal(t, block.SourceSidecar, m.Thanos.Source)
	require.False(t, m.Thanos.UploadTime.IsZero())
	files, err := block.ListFiles(filepath.Join(dir, id(n).String()), block.HashNone)
	require.NoError(t, err)
	require.Equal(t, files, m.Thanos.Files)
	for _, f := range files {
		attrs, err := bkt.Attributes(context.Background(), block.ObjectName(id(n), f.RelPath))
		require.NoError(t, err)
		if f.SizeBytes > 0 {
			require.Equal(t, f.SizeBytes, attrs.Size)
		}
	}
	return m
}

func notInBucket(t testing.TB, bkt objstore.Bucket, n int) {
	t.Helper()
	require.NoError(t, bkt.Iter(context.Background(), id(n).String()+"/", func(name string) error {
		return errors.New("found " + name)
	}))
}

func uploadedBlocks(t testing.TB, dir string) []ulid.ULID {
	t.Helper()
	s, err := ship.ReadState(dir, ship.DefaultMetaFileName)
	require.NoError(t, err)
	return s.Uploaded
}

func TestSyncUploadsOldestFirstAndRecordsIt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, n := range []int{3, 1, 2} {
		local(t, dir, n)
	}
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "wal"), 0o755))
	require.NoError(t, os.MkdirAll(filepath.Join(dir, id(9).String()+".tmp-for-creation"), 0o755))
	bkt := &blocktest.Hooked{Bucket: objstore.NewInMemBucket()}
	s, reg := newShipper(t, bkt, ship.Config{Dir: dir})

	n, err := s.Sync(t.Context())
	require.NoError(t, err)
	require.Equal(t, 3, n)
	var order []string
	for _, c := range bkt.Calls() {
		if c.Op == objstore.OpUpload && strings.HasSuffix(c.Name, block.MetaFilename) {
			order = append(order, strings.TrimSuffix(c.Name, "/meta.json"))
		}
	}
	require.Equal(t, []string{id(1).String(), id(2).String(), id(3).String()}, order)
	for n := 1; n <= 3; n++ {
		inBucket(t, bkt, dir, n)
	}
	state, err := os.ReadFile(filepath.Join(dir, "thanos.shipper.json"))
	require.NoError(t, err)
	require.Equal(t, "{\n\t\"version\": 1,\n\t\"uploaded\": [\n\t\t\""+id(1).String()+"\",\n\t\t\""+id(2).String()+"\",\n\t\t\""+id(3).String()+"\"\n\t]\n}", string(state))

	// The local blocks stay as Prometheus made them, and nothing stays in staging.
	m, err := block.ReadMetaDir(filepath.Join(dir, id(1).String()))
	require.NoError(t, err)
	require.Empty(t, m.Thanos.Labels)
	entries, err := os.ReadDir(filepath.Join(dir, "thanos", "upload"))
	require.NoError(t, err)
	require.Empty(t, entries)

	bkt.Reset()
	n, err = s.Sync(t.Context())
	require.NoError(t, err)
	require.Zero(t, n)
	require.Empty(t, bkt.Calls(), "what is recorded is not asked for")

	require.NoError(t, os.RemoveAll(filepath.Join(dir, id(1).String())))
	_, err = s.Sync(t.Context())
	require.NoError(t, err)
	require.Equal(t, []ulid.ULID{id(2), id(3)}, uploadedBlocks(t, dir), "only blocks on disk are listed")

	for name, want := range map[string]float64{
		"thanos_shipper_dir_syncs_total": 3, "thanos_shipper_dir_sync_failures_total": 0,
		"thanos_shipper_uploads_total": 3, "thanos_shipper_upload_failures_total": 0,
		"thanos_shipper_corrupted_blocks_total": 0, "thanos_shipper_upload_compacted_done": 0,
	} {
		require.Equal(t, want, metric(t, reg, name), name)
	}
	problems, err := testutil.GatherAndLint(reg)
	require.NoError(t, err)
	require.Empty(t, problems)
}

func TestSyncPassesOver(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	local(t, dir, 1, level(2))
	empty := local(t, dir, 2)
	empty.Stats.NumSamples = 0
	require.NoError(t, block.WriteMetaDir(filepath.Join(dir, id(2).String()), empty))
	local(t, dir, 3)
	bkt := objstore.NewInMemBucket()
	s, _ := newShipper(t, bkt, ship.Config{Dir: dir})
	n, err := s.Sync(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, n)
	notInBucket(t, bkt, 1)
	notInBucket(t, bkt, 2)
	inBucket(t, bkt, dir, 3)
	require.Equal(t, []ulid.ULID{id(3)}, uploadedBlocks(t, dir))
}

func TestBlocksInTheBucketAreRecordedNotSent(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	local(t, dir, 1)
	inner := objstore.NewInMemBucket()
	s, _ := newShipper(t, inner, ship.Config{Dir: dir})
	_, err := s.Sync(t.Context())
	require.NoError(t, err)

	for _, content := range []string{"", "{", `{"version":2}`} {
		if content == "" {
			require.NoError(t, os.Remove(filepath.Join(dir, ship.DefaultMetaFileName)))
		} else {
			require.NoError(t, os.WriteFile(filepath.Join(dir, ship.DefaultMetaFileName), []byte(content), 0o644))
		}
		bkt := &blocktest.Hooked{Bucket: inner}
		s, _ := newShipper(t, bkt, ship.Config{Dir: dir})
		n, err := s.Sync(t.Context())
		require.NoError(t, err)
		require.Zero(t, n)
		require.Len(t, bkt.Calls(), 1)
		require.Equal(t, []ulid.ULID{id(1)}, uploadedBlocks(t, dir))
	}
}

func TestMetaCutOffInTheBucketIsSentAnew(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	local(t, dir, 1)
	bkt := objstore.NewInMemBucket()
	require.NoError(t, bkt.Upload(t.Context(), block.ObjectName(id(1), block.MetaFilename), strings.NewReader(`{"ulid":`)))
	s, _ := newShipper(t, bkt, ship.Config{Dir: dir})
	n, err := s.Sync(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, n)
	inBucket(t, bkt, dir, 1)
}

func failUploadsOf(n int, err error) func(blocktest.Call) error {
	return func(c blocktest.Call) error {
		if c.Op == objstore.OpUpload && strings.HasPrefix(c.Name, id(n).String()) {
			return err
		}
		return nil
	}
}

func TestFirstFailureEndsTheSyncUnlessOrderDoesNotMatter(t *testing.T) {
	t.Parallel()
	down := errors.New("down")
	for _, outOfOrder := range []bool{false, true} {
		dir := t.TempDir()
		for n := 1; n <= 3; n++ {
			local(t, dir, n)
		}
		bkt := &blocktest.Hooked{Bucket: objstore.NewInMemBucket(), Hook: failUploadsOf(2, down)}
		s, reg := newShipper(t, bkt, ship.Config{Dir: dir, AllowOutOfOrder: outOfOrder})
		n, err := s.Sync(t.Context())
		require.ErrorIs(t, err, down)
		require.ErrorContains(t, err, id(2).String())
		inBucket(t, bkt, dir, 1)
		notInBucket(t, bkt, 2)
		if outOfOrder {
			require.Equal(t, 2, n)
			inBucket(t, bkt, dir, 3)
		} else {
			require.Equal(t, 1, n)
			notInBucket(t, bkt, 3)
			require.Equal(t, []ulid.ULID{id(1)}, uploadedBlocks(t, dir))
		}
		require.EqualValues(t, 1, metric(t, reg, "thanos_shipper_upload_failures_total"))
		require.EqualValues(t, 1, metric(t, reg, "thanos_shipper_dir_sync_failures_total"))

		bkt.Hook = nil
		_, err = s.Sync(t.Context())
		require.NoError(t, err)
		require.Len(t, uploadedBlocks(t, dir), 3)
	}
}

func TestUnreadableBlocks(t *testing.T) {
	t.Parallel()
	breaks := map[string]func(t *testing.T, blockDir string){
		"meta": func(t *testing.T, d string) {
			require.NoError(t, os.Truncate(filepath.Join(d, block.MetaFilename), 20))
		},
		"no meta": func(t *testing.T, d string) { require.NoError(t, os.Remove(filepath.Join(d, block.MetaFilename))) },
		"index":   func(t *testing.T, d string) { require.NoError(t, os.Truncate(filepath.Join(d, "index"), 100)) },
		"segment": func(t *testing.T, d string) { require.NoError(t, os.Remove(filepath.Join(d, "chunks", "000001"))) },
	}
	for name, breakIt := range breaks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, skip := range []bool{false, true} {
				dir := t.TempDir()
				for n := 1; n <= 3; n++ {
					local(t, dir, n)
				}
				breakIt(t, filepath.Join(dir, id(2).String()))
				bkt := objstore.NewInMemBucket()
				s, reg := newShipper(t, bkt, ship.Config{Dir: dir, SkipCorrupted: skip})
				n, err := s.Sync(t.Context())
				inBucket(t, bkt, dir, 1)
				notInBucket(t, bkt, 2)
				if skip {
					require.NoError(t, err)
					require.Equal(t, 2, n)
					inBucket(t, bkt, dir, 3)
				} else {
					require.ErrorContains(t, err, id(2).String())
					require.Equal(t, 1, n)
					notInBucket(t, bkt, 3)
				}
				require.EqualValues(t, 1, metric(t, reg, "thanos_shipper_corrupted_blocks_total"))
			}
		})
	}
}

func TestBlocksWithoutExternalLabelsStayHere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	local(t, dir, 1)
	bkt := objstore.NewInMemBucket()
	current := labels.EmptyLabels()
	s, _ := newShipper(t, bkt, ship.Config{Dir: dir, Labels: func() labels.Labels { return current }})
	_, err := s.Sync(t.Context())
	require.ErrorIs(t, err, block.ErrNoLabels)
	require.Empty(t, bkt.Objects())
	current = lset()
	_, err = s.Sync(t.Context())
	require.NoError(t, err)
	inBucket(t, bkt, dir, 1)
}

func TestCompactedBlocksAreUploadedUnlessTheyOverlap(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg := ship.Config{Dir: dir, UploadCompacted: true}
	bkt := objstore.NewInMemBucket()
	twice := func(s *blocktest.Spec) { s.MaxTime += 2 * hour; s.Level = 2 }

	// Other labels, or none of the time: no reason to refuse.
	blocktest.Upload(t, bkt, blocktest.Spec{ExternalLabels: labels.FromStrings("cluster", "us1"), MinTime: blocktest.DefaultMinTime, MaxTime: blocktest.DefaultMinTime + 24*hour, Interval: time.Hour})
	local(t, dir, 1, twice)
	local(t, dir, 3)
	s, reg := newShipper(t, bkt, cfg)
	n, err := s.Sync(t.Context())
	require.NoError(t, err)
	require.Equal(t, 2, n)
	inBucket(t, bkt, dir, 1)
	require.EqualValues(t, 1, metric(t, reg, "thanos_shipper_upload_compacted_done"))

	// Covers the hours of block 3, which is in the bucket.
	local(t, dir, 4, func(s *blocktest.Spec) { s.MinTime -= 2 * hour; s.Level = 2 })
	n, err = s.Sync(t.Context())
	require.ErrorIs(t, err, ship.ErrOverlap)
	require.ErrorContains(t, err, id(4).String())
	require.ErrorContains(t, err, id(3).String())
	require.Zero(t, n)
	notInBucket(t, bkt, 4)
	require.EqualValues(t, 0, metric(t, reg, "thanos_shipper_upload_compacted_done"))
}

func TestTwoLocalCompactedBlocksThatOverlapAreNotBothUploaded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	local(t, dir, 1, level(2))
	local(t, dir, 2, func(s *blocktest.Spec) { s.MinTime -= hour; s.Level = 2 })
	s, _ := newShipper(t, objstore.NewInMemBucket(), ship.Config{Dir: dir, UploadCompacted: true})
	n, err := s.Sync(t.Context())
	require.ErrorIs(t, err, ship.ErrOverlap)
	require.Equal(t, 1, n)
}

func TestBlockDeletedWhileShippingIsNoFailure(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	local(t, dir, 1)
	local(t, dir, 2)
	bkt := &blocktest.Hooked{Bucket: objstore.NewInMemBucket(), Hook: func(c blocktest.Call) error {
		if c.Op == objstore.OpGet && strings.HasPrefix(c.Name, id(1).String()) {
			return os.RemoveAll(filepath.Join(dir, id(1).String()))
		}
		return nil
	}}
	s, reg := newShipper(t, bkt, ship.Config{Dir: dir})
	n, err := s.Sync(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, n)
	inBucket(t, bkt, dir, 2)
	require.Zero(t, metric(t, reg, "thanos_shipper_upload_failures_total"))
}

func TestStagingOutlivesTheTSDBsDeletion(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	local(t, dir, 1)
	files, err := block.ListFiles(filepath.Join(dir, id(1).String()), block.HashNone)
	require.NoError(t, err)
	bkt := &blocktest.Hooked{Bucket: objstore.NewInMemBucket(), Hook: func(c blocktest.Call) error {
		if c.Op == objstore.OpUpload {
			return os.RemoveAll(filepath.Join(dir, id(1).String()))
		}
		return nil
	}}
	s, _ := newShipper(t, bkt, ship.Config{Dir: dir})
	n, err := s.Sync(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, n)
	m, err := block.FetchMeta(t.Context(), bkt, id(1))
	require.NoError(t, err)
	require.Equal(t, files, m.Thanos.Files)
}

func TestTimestamps(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	bkt := &blocktest.Hooked{Bucket: objstore.NewInMemBucket(), Hook: failUploadsOf(3, errors.New("down"))}
	s, _ := newShipper(t, bkt, ship.Config{Dir: dir, MetaFileName: "other.json"})
	minTime, synced, err := s.Timestamps()
	require.NoError(t, err)
	require.Equal(t, [2]int64{math.MaxInt64, math.MinInt64}, [2]int64{minTime, synced})
	var metas []*block.Meta
	for n := 1; n <= 3; n++ {
		metas = append(metas, local(t, dir, n))
	}
	_, err = s.Sync(t.Context())
	require.Error(t, err)
	minTime, synced, err = s.Timestamps()
	require.NoError(t, err)
	require.Equal(t, [2]int64{metas[0].MinTime, metas[1].MaxTime}, [2]int64{minTime, synced})
	require.FileExists(t, filepath.Join(dir, "other.json"))
}

func TestHashesAreRecorded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	local(t, dir, 1)
	bkt := objstore.NewInMemBucket()
	s, _ := newShipper(t, bkt, ship.Config{Dir: dir, HashFunc: block.HashSHA256, UploadConcurrency: 4})
	_, err := s.Sync(t.Context())
	require.NoError(t, err)
	m, err := block.FetchMeta(t.Context(), bkt, id(1))
	require.NoError(t, err)
	require.Equal(t, block.HashSHA256, m.Thanos.Files[0].Hash.Func)
}

func TestMissingFolderIsNamed(t *testing.T) {
	t.Parallel()
	s, _ := newShipper(t, objstore.NewInMemBucket(), ship.Config{Dir: filepath.Join(t.TempDir(), "nowhere")})
	_, err := s.Sync(t.Context())
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "nowhere")
}

func TestUnusableConfigurationIsRefused(t *testing.T) {
	t.Parallel()
	for want, cfg := range map[string]ship.Config{
		"no TSDB folder":   {Labels: lset},
		"external labels":  {Dir: "x"},
		`"MD5" is unknown`: {Dir: "x", Labels: lset, HashFunc: "MD5"},
	} {
		_, err := ship.New(nil, objstore.NewInMemBucket(), cfg, nil)
		require.ErrorContains(t, err, want)
	}
}

func FuzzReadState(f *testing.F) {
	f.Add([]byte(`{"version":1,"uploaded":["01M83WSTYAPSSY2NT7K45FA41G"]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, "s.json"), b, 0o644))
		if s, err := ship.ReadState(dir, "s.json"); err == nil {
			require.Equal(t, 1, s.Version)
		}
	})
}
