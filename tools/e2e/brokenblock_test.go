package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/promontory-io/promontory/libs/block/blocktest"
	"github.com/promontory-io/promontory/libs/objstore/filesystem"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/tools/e2e/harness"
)

// Three windows of history lie in one block each; the second is damaged.
func TestABrokenBlockIsNamedByTheQuerierAndTakesNoOtherBlockDown(t *testing.T) {
	t.Parallel()
	edit := func(t *testing.T, path string, change func([]byte) []byte) {
		t.Helper()
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(path, change(text), 0o600))
	}
	for name, damage := range map[string]func(t *testing.T, dir string){
		"truncated index": func(t *testing.T, dir string) {
			edit(t, filepath.Join(dir, "index"), func(b []byte) []byte { return b[:len(b)/2] })
		},
		"missing chunk file": func(t *testing.T, dir string) {
			require.NoError(t, os.Remove(filepath.Join(dir, "chunks", "000001")))
		},
		"meta.json from the future": func(t *testing.T, dir string) {
			edit(t, filepath.Join(dir, "meta.json"), func(b []byte) []byte {
				after := bytes.Replace(b, []byte(`"version": 1`), []byte(`"version": 9`), 1)
				require.NotEqual(t, b, after)
				return after
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := harness.New(t)
			config, dir := s.FilesystemBucket("bucket", "")
			bucket, err := filesystem.New(dir)
			require.NoError(t, err)
			from := time.Now().Add(-5 * window).Truncate(window)
			var blocks []string
			for n := range 3 {
				begin := from.Add(time.Duration(n) * window)
				meta := blocktest.Upload(t, bucket, blocktest.Spec{
					ExternalLabels: labels.FromStrings("cluster", "e2e"), Floats: 1, Interval: 30 * time.Second,
					MinTime: begin.UnixMilli(), MaxTime: begin.Add(window).UnixMilli(),
				})
				blocks = append(blocks, meta.ULID.String())
			}
			damage(t, filepath.Join(dir, blocks[1]))
			gateway := s.StoreGateway("store-gateway", config)
			api := s.API(s.Querier("querier", []harness.Service{gateway}))
			wait := func(begin time.Time) {
				harness.Eventually(t, func() error {
					got, _, err := api.AllowPartial().TryInstant("count("+blocktest.FloatMetric+")", begin)
					if err == nil && got["{}"] != 1 {
						err = fmt.Errorf("got %v", got)
					}
					return err
				})
			}
			wait(from.Add(time.Hour))

			whole := func(n int) map[int64]float64 {
				points := map[int64]float64{}
				for at := from.Add(time.Duration(n)*window + 10*time.Minute); at.Before(from.Add(time.Duration(n+1)*window - 5*time.Minute)); at = at.Add(10 * time.Minute) {
					points[at.UnixMilli()] = blocktest.FloatValue(0, at.UnixMilli())
				}
				return points
			}
			series := fmt.Sprintf(`%s{cluster="e2e", series="0"}`, blocktest.FloatMetric)
			for n := range 3 {
				start, end := from.Add(time.Duration(n)*window+10*time.Minute), from.Add(time.Duration(n+1)*window-6*time.Minute)
				got, warnings, err := api.AllowPartial().TryRange(blocktest.FloatMetric, start, end, 10*time.Minute)
				require.NoError(t, err)
				if n != 1 {
					require.Empty(t, warnings, "window %d does not need the broken block", n)
					require.Empty(t, cmp.Diff(map[string]map[int64]float64{series: whole(n)}, got))
					continue
				}
				require.Empty(t, got)
				text := strings.Join(warnings, "\n")
				require.Contains(t, text, blocks[1])
				require.Contains(t, text, gateway.GRPC)
				_, _, err = api.With("partial_response", "false").TryRange(blocktest.FloatMetric, start, end, 10*time.Minute)
				require.ErrorContains(t, err, blocks[1])
			}
			got, warnings, err := api.AllowPartial().TryRange(blocktest.FloatMetric, from.Add(10*time.Minute), from.Add(3*window), 10*time.Minute)
			require.NoError(t, err)
			require.Contains(t, strings.Join(warnings, "\n"), blocks[1])
			for _, n := range []int{0, 2} {
				for at, want := range whole(n) {
					require.InDelta(t, want, got[series][at], 0, "window %d at %d", n, at)
				}
			}
		})
	}
}
