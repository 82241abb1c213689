package job

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/stretchr/testify/require"
	"github.com/thanos-io/objstore"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/blocktest"
	"github.com/promontory-io/promontory/libs/dedup"
	"github.com/promontory-io/promontory/services/compactor/internal/compacttest"
)

const (
	promqlStart = int64(1762387200000)
	promqlHours = 52
)

// history uploads 2h blocks of replicas. lag is by how much each replica scrapes after the one
// before it. Every third block of a replica begins late, and every seventh is missing.
func history(t *testing.T, bkt objstore.Bucket, replicas int, lag time.Duration) {
	t.Helper()
	hour := time.Hour.Milliseconds()
	for n := range int64(promqlHours / 2) {
		for r := range replicas {
			mint := promqlStart + 2*n*hour + int64(r)*lag.Milliseconds()
			if replicas > 1 && (int(n)+r)%7 == 3 {
				continue
			}
			if replicas > 1 && (int(n)+2*r)%3 == 0 {
				mint += 25 * time.Minute.Milliseconds()
			}
			blocktest.Upload(t, bkt, blocktest.Spec{
				ID:             blocktest.ID(time.UnixMilli(promqlStart+2*(n+1)*hour), uint64(10*int(n)+r)),
				ExternalLabels: labels.FromStrings("cluster", "a", "replica", fmt.Sprint("r", r)),
				MinTime:        mint, MaxTime: promqlStart + 2*(n+1)*hour, Interval: 30 * time.Second,
				Floats: 3, Histograms: 2, FloatHistograms: 1,
			})
		}
	}
}

// queryable downloads the blocks of one resolution that are not marked.
func queryable(t *testing.T, bkt objstore.Bucket, fn dedup.Func, resolution int64) *compacttest.Queryable {
	t.Helper()
	var dirs []string
	for _, b := range view(t, bkt) {
		if b.Meta.Thanos.Downsample.Resolution != resolution {
			continue
		}
		dir := filepath.Join(t.TempDir(), b.ID().String())
		_, err := block.Download(t.Context(), bkt, b.ID(), dir, block.DownloadOptions{})
		require.NoError(t, err)
		dirs = append(dirs, dir)
	}
	return compacttest.NewQueryable(t, fn, []string{"replica"}, dirs...)
}

var promqlQueries = []string{
	`test_float`,
	`sum by (cluster) (test_float)`,
	`rate(test_float[5m])`,
	`increase(test_float[1h])`,
	`irate(test_float[3m])`,
	`resets(test_float[6h])`,
	`delta(test_float[10m])`,
	`deriv(test_float[10m])`,
	`avg_over_time(test_float[17m])`,
	`sum_over_time(test_float[17m])`,
	`count_over_time(test_float[17m])`,
	`min_over_time(test_float[17m])`,
	`max_over_time(test_float[17m])`,
	`quantile_over_time(0.9, test_float[1h])`,
	`changes(test_float[1h])`,
	`absent_over_time(test_float{series="0"}[2m])`,
	`timestamp(test_float)`,
	`test_histogram`,
	`histogram_quantile(0.9, rate(test_histogram[5m]))`,
	`histogram_quantile(0.5, sum by (cluster) (rate(test_float_histogram[10m])))`,
	`histogram_count(increase(test_histogram[1h]))`,
	`histogram_sum(sum_over_time(test_float_histogram[10m]))`,
	`sum by (cluster) (rate(test_histogram[5m]))`,
	`resets(test_histogram[6h])`,
	`max_over_time(rate(test_float[5m])[1h:7m])`,
}

// answers evaluates the queries over the whole history, and a bit before and behind it.
func answers(t *testing.T, q *compacttest.Queryable, step time.Duration) map[string]string {
	t.Helper()
	e := promql.NewEngine(promql.EngineOpts{MaxSamples: 1e8, Timeout: time.Minute, LookbackDelta: 5 * time.Minute, EnableAtModifier: true})
	defer func() { require.NoError(t, e.Close()) }()
	out := map[string]string{}
	for _, query := range promqlQueries {
		begin := time.UnixMilli(promqlStart).Add(-10 * time.Minute)
		qry, err := e.NewRangeQuery(t.Context(), q, nil, query, begin, begin.Add(promqlHours*time.Hour+20*time.Minute), step)
		require.NoError(t, err)
		res := qry.Exec(t.Context())
		require.NoError(t, res.Err, query)
		// The engine uses its memory again after Close; text has all digits.
		out[query] = res.String()
		qry.Close()
	}
	return out
}

// weighing are functions whose result depends on how many samples there are.
var weighing = []string{"avg_over_time", "sum_over_time", "count_over_time", "quantile_over_time", "changes", "deriv", "test_float_histogram"}

// differences counts the lines, which are values, in which two answers differ.
func differences(want, got string) (differ, n int, first string) {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(w), len(g)) {
		n++
		var a, b string
		if i < len(w) {
			a = w[i]
		}
		if i < len(g) {
			b = g[i]
		}
		if a != b {
			if differ == 0 {
				first = fmt.Sprintf("want %s, got %s", a, b)
			}
			differ++
		}
	}
	return differ, n, first
}

// TestPromQLAnswersAreTheSameBeforeAndAfter compares what the engine makes of the blocks.
//
// Of replicas that scrape at different times, penalty takes a sample more wherever it begins anew, and so
// one more in a compaction, where that is each stretch of overlapping chunks, than in
// a query. Functions that weigh samples see it; that is the rule of penalty, not of compaction.
func TestPromQLAnswersAreTheSameBeforeAndAfter(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name     string
		replicas int
		lag      time.Duration
		funcs    []dedup.Func
	}{
		{"no replicas", 1, 0, []dedup.Func{dedup.Chain, dedup.Penalty, dedup.Exact}},
		{"replicas in step", 2, 0, []dedup.Func{dedup.Chain, dedup.Exact, dedup.Penalty}},
		{"three replicas in step", 3, 0, []dedup.Func{dedup.Chain, dedup.Exact}},
		{"replicas out of step", 2, 7 * time.Second, []dedup.Func{dedup.Chain, dedup.Exact, dedup.Penalty}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			origin := objstore.NewInMemBucket()
			history(t, origin, tc.replicas, tc.lag)
			for _, fn := range tc.funcs {
				t.Run(string(fn), func(t *testing.T) {
					bkt := objstore.NewInMemBucket()
					for name, content := range origin.Objects() {
						require.NoError(t, bkt.Upload(t.Context(), name, bytes.NewReader(content)))
					}
					compareAnswers(t, bkt, fn, fn == dedup.Penalty && tc.lag > 0)
				})
			}
		})
	}
}

// compareAnswers compacts bkt. lenient says that functions that weigh samples may differ a little.
func compareAnswers(t *testing.T, bkt objstore.Bucket, fn dedup.Func, lenient bool) {
	t.Helper()
	const step = 13*time.Minute + 17*time.Second
	before := answers(t, queryable(t, bkt, fn, 0), step)
	e := New(zap.NewNop(), bkt, Config{Dir: t.TempDir(), Dedup: fn})
	require.NotEmpty(t, compactAll(t.Context(), t, bkt, e, "replica"))
	after := answers(t, queryable(t, bkt, fn, 0), step)
	for _, query := range promqlQueries {
		require.NotEmpty(t, before[query], query)
		differ, n, first := differences(before[query], after[query])
		if lenient && slices.ContainsFunc(weighing, func(f string) bool { return strings.Contains(query, f) }) {
			require.Less(t, differ, n/10, query)
			continue
		}
		if differ > 0 {
			t.Errorf("%s: %d of %d values differ, the first: %s", query, differ, n, first)
		}
	}
	require.Empty(t, compactAll(t.Context(), t, bkt, e, "replica"), "nothing is left to do")
}
