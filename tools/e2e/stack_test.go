package e2e

import (
	"fmt"
	"maps"
	"os"
	"slices"
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

// window is the length of a block.
const window = 2 * time.Hour

// pair is an HA pair with history: two Prometheus servers that scrape the same target of known values, a sidecar beside
// each, and three windows of blocks of known samples in a bucket, behind a store gateway and a querier. Of the blocks,
// replica a lacks the second window and b the first, so that only both together have all.
type pair struct {
	*harness.Stack

	prometheus, sidecars  []harness.Service
	storeGateway, querier harness.Service
	bucketConfig          string
	// history begins here; while the file failHalf or failAll exists, half or all of the bucket's reads fail.
	from              time.Time
	failHalf, failAll string
}

var pairReplicas = []string{"a", "b"}

func newPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{Stack: harness.New(t), from: time.Now().Add(-5 * window).Truncate(window)}
	p.failHalf, p.failAll = p.Dir("fail-half"), p.Dir("fail-all")
	var bucketDir string
	p.bucketConfig, bucketDir = p.FilesystemBucket("bucket", fmt.Sprintf(`faults:
  seed: 7
  rules:
  - {share: 0.5, operations: [get, get_range, attributes], error: error, while_file: %s}
  - {operations: [get, get_range, attributes], error: error, while_file: %s}
`, p.failHalf, p.failAll))
	p.fill(t, bucketDir)

	target := harness.Target(t)
	for _, replica := range pairReplicas {
		prometheus := p.Prometheus("prometheus-"+replica, harness.PrometheusConfig{
			ExternalLabels: pairLabels(replica), Scrape: map[string][]string{"demo": {target}},
		})
		p.prometheus = append(p.prometheus, prometheus.Service)
		p.sidecars = append(p.sidecars, p.Sidecar("sidecar-"+replica, prometheus, "--objstore.config-file="+p.bucketConfig))
	}
	p.storeGateway = p.StoreGateway("store-gateway", p.bucketConfig)
	p.querier = p.Querier("querier", append(slices.Clone(p.sidecars), p.storeGateway), "--store.response-timeout=5s")
	harness.Eventually(t, func() error {
		// Each replica has scraped, and the querier knows both.
		got, _, err := p.API(p.querier).With("dedup", "false").TryInstant("sum(demo_gauge)", time.Now())
		if err == nil && got["{}"] != 66 {
			err = fmt.Errorf("sum(demo_gauge) without dedup is %v, want 66", got)
		}
		return err
	})
	return p
}

func pairLabels(replica string) map[string]string {
	return map[string]string{"cluster": "e2e", "replica": replica}
}

func (p *pair) fill(t *testing.T, dir string) {
	t.Helper()
	bucket, err := filesystem.New(dir)
	require.NoError(t, err)
	for n, replicas := range [][]string{{"a"}, {"b"}, {"a", "b"}} {
		begin := p.from.Add(time.Duration(n) * window)
		for _, replica := range replicas {
			blocktest.Upload(t, bucket, blocktest.Spec{
				ExternalLabels: labels.FromMap(pairLabels(replica)), Floats: 5, Interval: 30 * time.Second,
				MinTime: begin.UnixMilli(), MaxTime: begin.Add(window).UnixMilli(),
			})
		}
	}
}

// ask returns the single value of an instant query at the querier.
func (p *pair) ask(query string, at time.Time) (float64, error) {
	values, _, err := p.API(p.querier).TryInstant(query, at)
	if err != nil {
		return 0, err
	}
	if len(values) != 1 {
		return 0, fmt.Errorf("query %s: got %v, want one value", query, values)
	}
	return slices.Collect(maps.Values(values))[0], nil
}

// steps are times five minutes after the edge of a window, and then every ten: there the choice between replicas has
// settled, and since both have the same samples the value is exact.
func (p *pair) steps() (start, end time.Time, step time.Duration) {
	return p.from.Add(5 * time.Minute), p.from.Add(3*window - 5*time.Minute), 10 * time.Minute
}

// truth is the answer to FloatMetric over the steps, by series, where has tells in which windows there are samples.
func (p *pair) truth(has func(window int) bool, extra string) map[string]map[int64]float64 {
	want := map[string]map[int64]float64{}
	start, end, step := p.steps()
	for n := range 5 {
		points := map[int64]float64{}
		for at := start; !at.After(end); at = at.Add(step) {
			if has(int(at.Sub(p.from) / window)) {
				points[at.UnixMilli()] = blocktest.FloatValue(n, at.UnixMilli())
			}
		}
		want[fmt.Sprintf(`%s{cluster="e2e"%s, series="%d"}`, blocktest.FloatMetric, extra, n)] = points
	}
	return want
}

func (p *pair) wholeTruth() map[string]map[int64]float64 {
	return p.truth(func(int) bool { return true }, "")
}

func TestHAPairWithHistory(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	api := p.API(p.querier)
	start, end, step := p.steps()

	t.Run("history is whole with replicas merged", func(t *testing.T) {
		for _, engine := range []string{"prometheus", "thanos"} {
			got := api.With("engine", engine).Range(blocktest.FloatMetric, start, end, step)
			require.Empty(t, cmp.Diff(p.wholeTruth(), got), "engine %s", engine)
		}
	})
	t.Run("history shows each replica's gap without dedup", func(t *testing.T) {
		got := api.With("dedup", "false").Range(blocktest.FloatMetric, start, end, step)
		want := p.truth(func(n int) bool { return n != 1 }, `, replica="a"`)
		maps.Copy(want, p.truth(func(n int) bool { return n != 0 }, `, replica="b"`))
		require.Empty(t, cmp.Diff(want, got))
	})
	t.Run("live data is merged", func(t *testing.T) {
		got := api.Instant("demo_gauge", time.Now())
		want := map[string]float64{}
		for n := range 3 {
			want[fmt.Sprintf(`demo_gauge{cluster="e2e", instance="%s", job="demo", n="%d"}`, instanceOf(t, got), n)] = float64(10 + n)
		}
		require.Empty(t, cmp.Diff(want, got))
		got = api.With("dedup", "false").Instant("sum by (replica) (demo_gauge)", time.Now())
		require.Equal(t, map[string]float64{`{replica="a"}`: 33, `{replica="b"}`: 33}, got)
	})
	t.Run("one query reaches from history to now", func(t *testing.T) {
		got := api.Range(`sum(`+blocktest.FloatMetric+` * 0 + 1) or sum(demo_gauge)`, start, time.Now(), step)
		values := map[float64]bool{}
		for _, points := range got {
			for _, v := range points {
				values[v] = true
			}
		}
		require.True(t, values[5], "five series in history: %v", got)
		live := api.Range("sum(demo_gauge)", time.Now().Add(-time.Minute), time.Now(), time.Second)
		for series, points := range live {
			for at, v := range points {
				require.InDelta(t, 33, v, 0, "%s at %d", series, at)
			}
		}
		require.NotEmpty(t, live)
	})
	t.Run("rates of live counters come", func(t *testing.T) {
		harness.Eventually(t, func() error {
			got, err := p.ask(`min(rate(prometheus_tsdb_head_samples_appended_total{type="float"}[1m]))`, time.Now())
			if err == nil && got <= 0 {
				err = fmt.Errorf("the rate is %v", got)
			}
			return err
		})
	})
	t.Run("label calls reach both", func(t *testing.T) {
		require.Equal(t, []string{"demo", "prometheus"}, api.LabelValues("job", "", start, time.Now()))
		require.Equal(t, []string{"0", "1", "2", "3", "4"}, api.LabelValues("series", "", start, time.Now()))
		require.Contains(t, api.LabelNames("", start, time.Now()), "cluster")
		require.Len(t, api.Series(blocktest.FloatMetric, start, end), 5)
		require.Len(t, api.With("dedup", "false").Series(`demo_gauge{n="1"}`, time.Now().Add(-time.Minute), time.Now()), 1)
	})
}

func instanceOf(t *testing.T, values map[string]float64) string {
	t.Helper()
	for series := range values {
		if _, rest, ok := strings.Cut(series, `instance="`); ok {
			instance, _, _ := strings.Cut(rest, `"`)
			return instance
		}
	}
	t.Fatalf("no series with an instance in %v", values)
	return ""
}

func TestKilledSidecarIsNamedAndStrictQueriesFail(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	api := p.API(p.querier)
	lost := p.sidecars[0]
	p.Process(lost.Name).Kill()

	// At once, and after the querier has found out by itself: a store that was lost is still missing.
	for range 3 {
		values, warnings, err := api.AllowPartial().TryInstant("sum(demo_gauge)", time.Now())
		require.NoError(t, err)
		require.Equal(t, map[string]float64{"{}": 33}, values, "the other replica has all of it")
		require.Contains(t, strings.Join(warnings, "\n"), lost.GRPC)

		_, _, err = api.With("partial_response", "false").TryInstant("sum(demo_gauge)", time.Now())
		require.ErrorContains(t, err, lost.GRPC)
		wait(t, 3*time.Second)
	}

	require.NoError(t, p.Process(lost.Name).Start(t.Context()))
	harness.Eventually(t, func() error {
		got, err := p.ask("count(count by (replica) (demo_gauge))", time.Now())
		if err == nil && got != 1 {
			err = fmt.Errorf("got %v replicas with dedup", got)
		}
		return err
	})
}

// wait lets time pass where the passing of time is what is tested.
func wait(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
	}
}

func TestBucketThatFailsNeverMakesAnAnswerSilentlyIncomplete(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	half := p.askWhileFailing(t, p.failHalf, 10)
	all := p.askWhileFailing(t, p.failAll, 2)
	t.Logf("answers whole, with a warning, and errors: %v with half of the reads failing, %v with all", half, all)
	require.Positive(t, p.Metric(p.storeGateway, "thanos_objstore_bucket_operation_failures_total"), "the bucket has failed reads")
	require.Zero(t, all[0], "nothing can be whole where nothing can be read")

	harness.Eventually(t, func() error {
		start, end, step := p.steps()
		got, _, err := p.API(p.querier).TryRange(blocktest.FloatMetric, start, end, step)
		if err == nil {
			if diff := cmp.Diff(p.wholeTruth(), got); diff != "" {
				err = fmt.Errorf("after the bucket works again: %s", diff)
			}
		}
		return err
	})
}

// askWhileFailing asks for all of history for some rounds while a file makes reads fail, demands that every answer is
// whole or says that it is not, and returns how many were whole, had a warning, and were errors.
func (p *pair) askWhileFailing(t *testing.T, file string, rounds int) (outcome [3]int) {
	t.Helper()
	api := p.API(p.querier)
	start, end, step := p.steps()
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	for range rounds {
		got, warnings, err := api.AllowPartial().TryRange(blocktest.FloatMetric, start, end, step)
		switch {
		case err != nil:
			outcome[2]++
		case len(warnings) > 0:
			require.Contains(t, strings.Join(warnings, "\n"), p.storeGateway.GRPC)
			outcome[1]++
		default:
			require.Empty(t, cmp.Diff(p.wholeTruth(), got), "an answer without a warning is whole")
			outcome[0]++
		}
		got, _, err = api.With("partial_response", "false").TryRange(blocktest.FloatMetric, start, end, step)
		if err == nil {
			require.Empty(t, cmp.Diff(p.wholeTruth(), got), "an answer without an error is whole")
		}
	}
	require.NoError(t, os.Remove(file))
	return outcome
}
