package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/promontory-io/promontory/libs/block/blocktest"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/tools/e2e/harness"
)

// TestTwoPrometheusWithHistoryAnswerForThemselves checks the ground that the other tests stand on: real servers that
// hold blocks of known samples and scrape a target of known values.
func TestTwoPrometheusWithHistoryAnswerForThemselves(t *testing.T) {
	t.Parallel()
	s := harness.New(t)
	target := harness.Target(t)
	from := time.Now().Add(-6 * time.Hour).Truncate(2 * time.Hour)
	for _, replica := range []string{"a", "b"} {
		name := "prometheus-" + replica
		blocktest.Create(t, s.Dir(name), blocktest.Spec{
			MinTime: from.UnixMilli(), MaxTime: from.Add(2 * time.Hour).UnixMilli(), Interval: 30 * time.Second, Floats: 3, Plain: true,
		})
		p := s.Prometheus(name, harness.PrometheusConfig{
			ExternalLabels: map[string]string{"replica": replica},
			Scrape:         map[string][]string{"demo": {target}},
			DataDir:        s.Dir(name),
		})
		api := s.API(p.Service)

		start, end := from.Add(10*time.Minute), from.Add(20*time.Minute)
		got := api.Range(blocktest.FloatMetric, start, end, time.Minute)
		want := map[string]map[int64]float64{}
		for n := range 3 {
			points := map[int64]float64{}
			for at := start; !at.After(end); at = at.Add(time.Minute) {
				points[at.UnixMilli()] = blocktest.FloatValue(n, at.UnixMilli())
			}
			want[fmt.Sprintf(`%s{series="%d"}`, blocktest.FloatMetric, n)] = points
		}
		require.Empty(t, cmp.Diff(want, got), name)

		harness.Eventually(t, func() error {
			got, _, err := api.TryInstant("sum(demo_gauge)", time.Now())
			if err == nil && got["{}"] != 33 {
				err = fmt.Errorf("sum(demo_gauge) is %v, want 33", got)
			}
			return err
		})
		harness.Eventually(t, func() error {
			jobs := api.LabelValues("job", "up", time.Now().Add(-time.Minute), time.Now())
			if diff := cmp.Diff([]string{"demo", "prometheus"}, jobs); diff != "" {
				return fmt.Errorf("jobs: %s", diff)
			}
			return nil
		})
		require.Len(t, api.Series(`demo_gauge{n=~"0|1"}`, time.Now().Add(-time.Minute), time.Now()), 2)
		require.Contains(t, api.LabelNames("demo_gauge", time.Now().Add(-time.Minute), time.Now()), "n")
	}
}
