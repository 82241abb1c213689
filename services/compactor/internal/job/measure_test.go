package job

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/thanos-io/objstore"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/dedup"
	"github.com/promontory-io/promontory/libs/objstore/faults"
	"github.com/promontory-io/promontory/libs/objstore/filesystem"
)

func (s shape) writeTo(t *testing.T, dir string) {
	t.Helper()
	bkt, err := filesystem.New(dir)
	require.NoError(t, err)
	s.write(t, bkt)
}

func cpuSeconds(t *testing.T) (cpu float64, rssMB float64) {
	t.Helper()
	var u syscall.Rusage
	require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	sec := func(v syscall.Timeval) float64 { return float64(v.Sec) + float64(v.Usec)/1e6 }
	return sec(u.Utime) + sec(u.Stime), float64(u.Maxrss) / 1024
}

// measure compacts a copy of the bucket with nothing running beside it.
func measure(t *testing.T, source, work string) {
	t.Helper()
	require.NoError(t, os.RemoveAll(work))
	// Hard links: nobody changes an object in place.
	require.NoError(t, exec.Command("cp", "-al", source, filepath.Join(work)).Run())
	fs, err := filesystem.New(work)
	require.NoError(t, err)
	bkt, err := faults.Wrap(fs, faults.Config{})
	require.NoError(t, err)
	e := New(zap.NewNop(), bkt, Config{Dir: t.TempDir(), Dedup: dedup.Penalty})
	before, _ := cpuSeconds(t)
	begin := time.Now()
	results := compactAll(t.Context(), t, bkt, e, "replica")
	after, rss := cpuSeconds(t)
	var local int64
	for _, r := range results {
		local += r.LocalBytes
		t.Logf("job: %.1f s, %+v", r.Took.Seconds(), r.Stats)
		for _, m := range r.Made {
			t.Logf("  made %s, %d samples, %d chunks", m, m.Stats.NumSamples, m.Stats.NumChunks)
		}
	}
	t.Logf("%.1f CPU-s, %.1f s, peak RSS %.0f MB, %.0f MB written locally, requests: %s", after-before, time.Since(begin).Seconds(), rss, float64(local)/1e6, bkt.Requests())
	left := map[int64]int64{}
	for _, b := range view(t, bkt) {
		left[b.Meta.Thanos.Downsample.Resolution] += b.SizeBytes
	}
	t.Logf("left in MB: raw %.1f, 5m %.1f, 1h %.1f; before: %.1f", float64(left[0])/1e6, float64(left[300000])/1e6, float64(left[3600000])/1e6, treeMB(t, fs))
}

func treeMB(t *testing.T, bkt objstore.Bucket) float64 {
	t.Helper()
	var n int64
	err := bkt.IterWithAttributes(t.Context(), "", func(a objstore.IterObjectAttributes) error {
		if !strings.Contains(a.Name, "/chunks/") && !strings.HasSuffix(a.Name, "/index") {
			return nil
		}
		at, err := bkt.Attributes(t.Context(), a.Name)
		n += at.Size
		return err
	}, objstore.WithRecursiveIter())
	require.NoError(t, err)
	return float64(n) / 1e6
}
