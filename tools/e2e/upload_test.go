package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/promontory-io/promontory/libs/block/blocktest"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/tools/e2e/harness"
)

// A sidecar is killed again and again while it uploads the blocks of a real Prometheus to a slow bucket. Whoever reads
// the bucket sees whole blocks or none.
func TestHistoryAppearsWholeHoweverOftenTheSidecarIsKilled(t *testing.T) {
	t.Parallel()
	for name, newBucket := range map[string]func(s *harness.Stack, name, extra string) (config, dir string){
		"folder": (*harness.Stack).FilesystemBucket, "S3": (*harness.Stack).S3Bucket,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			uploadUnderKills(t, newBucket)
		})
	}
}

func uploadUnderKills(t *testing.T, newBucket func(s *harness.Stack, name, extra string) (config, dir string)) {
	t.Helper()
	s := harness.New(t)
	slow := s.Dir("slow")
	require.NoError(t, os.WriteFile(slow, nil, 0o600))
	config, dir := newBucket(s, "bucket", fmt.Sprintf("faults:\n  rules:\n  - {operations: [upload], latency: 150ms, while_file: %s}\n", slow))
	data := s.Dir("prometheus")
	from := time.Now().Add(-8 * window).Truncate(window)
	const blocks, series = 3, 2
	for n := range blocks {
		begin := from.Add(time.Duration(n) * window)
		blocktest.Create(t, data, blocktest.Spec{
			MinTime: begin.UnixMilli(), MaxTime: begin.Add(window).UnixMilli(), Interval: 30 * time.Second, Floats: series, Plain: true,
		})
	}
	p := s.Prometheus("prometheus", harness.PrometheusConfig{ExternalLabels: pairLabels("a"), DataDir: data})
	side := s.Sidecar("sidecar", p, "--objstore.config-file="+config)
	api := s.API(s.Querier("querier", []harness.Service{s.StoreGateway("store-gateway", config)}))

	// wholeBlocks demands that each window is there with all its samples or not at all, and counts those that are.
	wholeBlocks := func() (whole int) {
		t.Helper()
		for n := range blocks {
			start, end := from.Add(time.Duration(n)*window+5*time.Minute), from.Add(time.Duration(n+1)*window-5*time.Minute)
			got := api.Range(blocktest.FloatMetric, start, end, 10*time.Minute) // without a warning
			if len(got) == 0 {
				continue
			}
			want := map[string]map[int64]float64{}
			for i := range series {
				points := map[int64]float64{}
				for at := start; !at.After(end); at = at.Add(10 * time.Minute) {
					points[at.UnixMilli()] = blocktest.FloatValue(i, at.UnixMilli())
				}
				want[fmt.Sprintf(`%s{cluster="e2e", series="%d"}`, blocktest.FloatMetric, i)] = points
			}
			require.Empty(t, cmp.Diff(want, got), "window %d", n)
			whole++
		}
		return whole
	}
	process := s.Process(side.Name)
	for kill := range 8 {
		// A block takes about half a second: the ends fall into its different objects.
		wait(t, time.Duration(100+kill*110)*time.Millisecond)
		process.Kill()
		wholeBlocks()
		require.NoError(t, process.Start(t.Context()))
	}
	require.NoError(t, os.Remove(slow))
	harness.Eventually(t, func() error {
		if whole := wholeBlocks(); whole != blocks {
			return fmt.Errorf("%d of %d blocks are in the answers", whole, blocks)
		}
		return nil
	})
	found, err := filepath.Glob(filepath.Join(dir, "*", "meta.json"))
	require.NoError(t, err)
	require.Len(t, found, blocks, "no block is uploaded under two names")
	state, err := os.ReadFile(filepath.Join(data, "thanos.shipper.json"))
	require.NoError(t, err)
	for _, meta := range found {
		require.Contains(t, string(state), filepath.Base(filepath.Dir(meta)), "what is in the bucket is known to be")
	}
}
