package rules

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/promapi"
	"github.com/promontory-io/promontory/libs/rulefile"
)

// zero is where the samples of tests begin, at the edge of a block.
var zero = time.Unix(1_699_992_000, 0).UTC()

// ruleText has what makes results differ: rules that read others, before and behind them; series that come and go;
// native histograms.
const ruleText = `groups:
- name: b
  interval: 30s
  rules:
  - {record: job:x:rate, expr: 'sum by (job) (rate(x_total[5m]))', labels: {team: a}}
  - {record: job:x:rate:max10m, expr: 'max_over_time(job:x:rate[10m]) + on (job, team) group_left () job:x:rate'}
  - {record: latency:sum, expr: 'sum(latency)'}
- name: a
  interval: 1m
  query_offset: 2m
  rules:
  - {record: present, expr: 'flap'}
  - {record: constant, expr: '7'}
  - {record: all:rate, expr: 'sum({__name__="job:x:rate"})'}
  - {alert: Never, expr: 'x_total > 5'}
`

// input fills a database with five hours of samples.
func input(t *testing.T) *tsdb.DB {
	t.Helper()
	db := database(t)
	histograms, err := histogramSeries("{{schema:1 sum:4 count:6 z_bucket_w:2.938735877055719e-39 buckets:[1 2 3]}}+{{schema:1 sum:2 count:3 z_bucket_w:2.938735877055719e-39 buckets:[1 1 1]}}x1200")
	require.NoError(t, err)
	for i := range 1200 {
		at := zero.Add(time.Duration(i) * 15 * time.Second).UnixMilli()
		app := db.Appender(t.Context())
		for j := range 3 {
			_, err := app.Append(0, labels.FromStrings("__name__", "x_total", "job", fmt.Sprint("j", j%2), "i", fmt.Sprint(j)), at, float64(i*(j+1)))
			require.NoError(t, err)
		}
		switch { // it is there for five of every ten minutes
		case i%40 < 20:
			_, err = app.Append(0, labels.FromStrings("__name__", "flap", "i", "0"), at, float64(i))
		case i%40 == 20:
			_, err = app.Append(0, labels.FromStrings("__name__", "flap", "i", "0"), at, math.Float64frombits(value.StaleNaN))
		}
		require.NoError(t, err)
		_, err = app.AppendHistogram(0, labels.FromStrings("__name__", "latency"), at, nil, histograms[i].Histogram)
		require.NoError(t, err)
		require.NoError(t, app.Commit())
	}
	return db
}

func histogramSeries(text string) ([]parser.SequenceValue, error) {
	_, values, err := parser.ParseSeriesDesc("{} " + text)
	return values, err
}

func database(t *testing.T) *tsdb.DB {
	t.Helper()
	o := tsdb.DefaultOptions()
	o.RetentionDuration, o.MinBlockDuration, o.MaxBlockDuration = 0, (48 * time.Hour).Milliseconds(), (48 * time.Hour).Milliseconds()
	db, err := tsdb.Open(t.TempDir(), slog.New(slog.DiscardHandler), nil, o, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

func engine() *promql.Engine {
	return promql.NewEngine(promql.EngineOpts{MaxSamples: 1e7, Timeout: time.Minute, EnableAtModifier: true, EnableNegativeOffset: true})
}

// live evaluates the rules as a ruler does, from the first to the last time at which samples are recorded, into a copy
// of the input, and returns it.
func live(t *testing.T, file string, from, to time.Time) *tsdb.DB {
	t.Helper()
	db := input(t)
	set, err := rulefile.Read([]string{file})
	require.NoError(t, err)
	recorded := database(t)
	both := storage.NewFanout(slog.New(slog.DiscardHandler), recorded, db)
	m := rules.NewManager(&rules.ManagerOptions{
		NameValidationScheme: model.UTF8Validation, Context: t.Context(), Logger: slog.New(slog.DiscardHandler), GroupLoader: set.Loader(""),
		QueryFunc: rules.EngineQueryFunc(engine(), both), Appendable: recorded, Queryable: both,
		NotifyFunc: func(context.Context, string, ...*rules.Alert) {},
	})
	groups, errs := m.LoadGroups(time.Minute, labels.EmptyLabels(), "", nil, false, file)
	require.Empty(t, errs)
	type evaluation struct {
		at    time.Time
		group *rules.Group
	}
	var all []evaluation
	for _, g := range groups {
		for at := g.EvalTimestamp(from.UnixNano()); !at.After(to); at = at.Add(g.Interval()) {
			if !at.Before(from) {
				all = append(all, evaluation{at, g})
			}
		}
	}
	slices.SortFunc(all, func(a, b evaluation) int { return a.at.Compare(b.at) })
	for _, e := range all {
		e.group.Eval(t.Context(), e.at)
		for _, r := range e.group.Rules() {
			require.NoError(t, r.LastError())
		}
	}
	return recorded
}

// querier answers queries over a storage; as long as broken is set, not.
func querier(t *testing.T, q storage.Queryable, broken *atomic.Int64) *httptest.Server {
	t.Helper()
	e := engine()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if broken != nil && broken.Add(-1) < 0 {
			http.Error(w, "broken", http.StatusServiceUnavailable)
			return
		}
		form, err := promapi.ParseForm(r)
		require.NoError(t, err)
		var query promql.Query
		if strings.HasSuffix(r.URL.Path, "/query_range") {
			req, err := form.RangeQuery(promapi.Defaults{Engine: promapi.EnginePrometheus})
			require.NoError(t, err)
			query, err = e.NewRangeQuery(r.Context(), q, nil, req.Query, req.Start, req.End, req.Step)
			require.NoError(t, err)
		} else {
			req, err := form.InstantQuery(promapi.Defaults{Engine: promapi.EnginePrometheus}, time.Now())
			require.NoError(t, err)
			query, err = e.NewInstantQuery(r.Context(), q, nil, req.Query, req.Time)
			require.NoError(t, err)
		}
		defer query.Close()
		result := query.Exec(r.Context())
		if result.Err != nil {
			_ = promapi.RespondError(w, result.Err)
			return
		}
		_ = promapi.Respond(w, &promapi.QueryData{Result: result.Value}, promapi.Notes{})
	}))
	t.Cleanup(s.Close)
	return s
}

// samples reads all series of recording rules.
func samples(t *testing.T, q storage.Querier) map[string]map[int64]string {
	t.Helper()
	defer q.Close()
	out := map[string]map[int64]string{}
	set := q.Select(t.Context(), true, nil, labels.MustNewMatcher(labels.MatchNotRegexp, "__name__", "x_total|flap|latency|ALERTS.*"))
	for set.Next() {
		points := map[int64]string{}
		it := set.At().Iterator(nil)
		for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
			if typ == chunkenc.ValFloat {
				at, v := it.At()
				points[at] = fmt.Sprint(v)
				if value.IsStaleNaN(v) {
					points[at] = "stale"
				}
				continue
			}
			at, h := it.AtFloatHistogram(nil)
			h.CounterResetHint = 0
			points[at] = h.TestExpression()
		}
		require.NoError(t, it.Err())
		out[set.At().Labels().String()] = points
	}
	require.NoError(t, set.Err())
	return out
}

// inBlocks reads all blocks of a folder.
func inBlocks(t *testing.T, dir string) map[string]map[int64]string {
	t.Helper()
	out := map[string]map[int64]string{}
	for _, id := range blocksIn(t, dir) {
		b, err := tsdb.OpenBlock(slog.New(slog.DiscardHandler), filepath.Join(dir, id), nil, nil)
		require.NoError(t, err)
		q, err := tsdb.NewBlockQuerier(b, math.MinInt64, math.MaxInt64)
		require.NoError(t, err)
		for lset, points := range samples(t, q) {
			if out[lset] == nil {
				out[lset] = map[int64]string{}
			}
			for at, v := range points {
				require.NotContains(t, out[lset], at, "%s is twice in the blocks", lset)
				out[lset][at] = v
			}
		}
		require.NoError(t, b.Close())
	}
	return out
}

func blocksIn(t *testing.T, dir string) (out []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		if _, ok := block.ParseID(e.Name()); ok {
			out = append(out, e.Name())
		}
	}
	return out
}

func runBackfill(t *testing.T, args ...string) (out, notes string, err error) {
	t.Helper()
	var o, n bytes.Buffer
	cmd := newBackfill()
	cmd.SetOut(&o)
	cmd.SetErr(&n)
	cmd.SetArgs(args)
	err = cmd.ExecuteContext(t.Context())
	return o.String(), n.String(), err
}

func writeRules(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "rules.yml")
	require.NoError(t, os.WriteFile(file, []byte(ruleText), 0o600))
	return file
}

func TestNewRulesRecordOverThePastWhatTheyWouldHaveRecorded(t *testing.T) {
	t.Parallel()
	file := writeRules(t)
	from, to := zero.Add(20*time.Minute), zero.Add(4*time.Hour+10*time.Minute)
	recorded := live(t, file, from, to)
	db := input(t)

	// Cut off now and then, it goes on until it is done, and writes nothing twice.
	var broken atomic.Int64
	q := querier(t, db, &broken)
	dir := filepath.Join(t.TempDir(), "out")
	args := []string{"--rule-file=" + file, "--start=" + from.Format(time.RFC3339), "--end=" + to.Format(time.RFC3339), "--output=" + dir}
	out, _, err := runBackfill(t, append(args, "--dry-run")...)
	require.NoError(t, err)
	require.Contains(t, out, `b/job:x:rate{team="a"}: 460 evaluations every 30s`)
	require.NoDirExists(t, dir)
	args = append(args, "--query="+q.URL)
	runs := 0
	for ; ; runs++ {
		require.Less(t, runs, 50)
		broken.Store(int64(400 + 200*runs))
		_, notes, err := runBackfill(t, args...)
		if err == nil {
			require.Contains(t, notes, "windows filled")
			break
		}
		require.ErrorContains(t, err, "broken")
	}
	require.Positive(t, runs, "it was cut off at least once")
	require.Len(t, blocksIn(t, dir), 3)
	for _, id := range blocksIn(t, dir) {
		meta, err := block.ReadMetaDir(filepath.Join(dir, id))
		require.NoError(t, err)
		size := (2 * time.Hour).Milliseconds()
		require.Equal(t, meta.MinTime/size, (meta.MaxTime-1)/size, "no block crosses the edge of one")
	}
	queryable, err := recorded.Querier(math.MinInt64, math.MaxInt64)
	require.NoError(t, err)
	want, got := samples(t, queryable), inBlocks(t, dir)
	// One end is told that a ruler finds out only at its next evaluation.
	for lset, points := range got {
		for at, v := range points {
			if _, there := want[lset][at]; v == "stale" && !there && at > to.Add(-3*time.Minute).UnixMilli() {
				delete(points, at)
			}
		}
	}
	require.Empty(t, cmp.Diff(want, got))

	_, notes, err := runBackfill(t, args...)
	require.NoError(t, err)
	require.Contains(t, notes, "0 windows filled, 3 were already")
}

func TestWhatIsThereAlreadyIsNotWrittenAgain(t *testing.T) {
	t.Parallel()
	file := writeRules(t)
	from, to := zero.Add(20*time.Minute), zero.Add(100*time.Minute)
	recorded := live(t, file, from, to)
	db := input(t)
	q := querier(t, storage.NewFanout(slog.New(slog.DiscardHandler), recorded, db), nil)
	dir := filepath.Join(t.TempDir(), "out")
	_, notes, err := runBackfill(t, "--rule-file="+file, "--start="+from.Format(time.RFC3339), "--end="+to.Add(10*time.Minute).Format(time.RFC3339),
		"--output="+dir, "--query="+q.URL, "--rule=job:x:rate")
	require.NoError(t, err)
	require.Contains(t, notes, "1 rules: 1 windows filled")
	got := inBlocks(t, dir)[`{__name__="job:x:rate", job="j0", team="a"}`]
	require.Len(t, got, 20, "ten minutes, the rest was there")
	for at := range got {
		require.Greater(t, at, to.Add(-time.Minute).UnixMilli())
	}
}

func TestAnIncompleteAnswerEndsTheRun(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"status":"success","data":{"resultType":"matrix","result":[]},"warnings":["no answer from 10.0.0.1:10901"]}`)
	}))
	defer s.Close()
	// Within two even hours, so that all rules are due in the first window, whatever the time is now.
	from := time.Now().Add(-30 * time.Hour).Truncate(2 * time.Hour).Add(10 * time.Minute)
	args := []string{
		"--rule-file=" + writeRules(t), "--start=" + from.Format(time.RFC3339), "--end=" + from.Add(time.Hour).Format(time.RFC3339), "--query=" + s.URL,
	}
	_, _, err := runBackfill(t, append(args, "--output="+t.TempDir())...)
	require.ErrorContains(t, err, "not complete: no answer from 10.0.0.1:10901")
	require.ErrorContains(t, err, "rule b/")
	_, _, err = runBackfill(t, append(args, "--output="+t.TempDir(), "--partial-response", "--rule=constant")...)
	require.NoError(t, err)
}

func TestBadInputNamesTheFlag(t *testing.T) {
	t.Parallel()
	circle := filepath.Join(t.TempDir(), "c.yml")
	require.NoError(t, os.WriteFile(circle, []byte("groups: [{name: g, rules: [{record: a, expr: b}, {record: b, expr: a}, {record: c, expr: c + 1}]}]"), 0o600))
	const q = "--query=http://127.0.0.1:1"
	for name, tc := range map[string]struct {
		args []string
		want []string
	}{
		"nothing":        {nil, []string{"--query", "--ruler", "--rule-file"}},
		"both":           {[]string{q, "--ruler=http://x", "--rule-file=y"}, []string{"--ruler or --rule-file"}},
		"no start":       {[]string{q, "--rule-file=" + circle}, []string{"--start"}},
		"no url":         {[]string{"--query=localhost:9090", "--ruler=http://x"}, []string{`--query: "localhost:9090"`}},
		"future":         {[]string{q, "--rule-file=" + circle, "--start=-1d", "--end=1h"}, []string{"--end"}},
		"wrong order":    {[]string{q, "--rule-file=" + circle, "--start=-1h", "--end=-2h"}, []string{"--start"}},
		"no label":       {[]string{q, "--rule-file=" + circle, "--start=-1d", "--objstore.config=x"}, []string{"--label"}},
		"circle":         {[]string{q, "--rule-file=" + circle, "--start=-1d", "--rule=a", "--rule=b"}, []string{"circle: g/a{}, g/b{}"}},
		"itself":         {[]string{q, "--rule-file=" + circle, "--start=-1d", "--rule=c"}, []string{"g/c{}: reads its own results"}},
		"no rules":       {[]string{q, "--rule-file=" + circle, "--start=-1d", "--rule=d"}, []string{"--rule-file: no recording rule"}},
		"no ruler there": {[]string{q, "--ruler=http://127.0.0.1:1"}, []string{"ask the ruler", "127.0.0.1:1"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, err := runBackfill(t, append(tc.args, "--output="+t.TempDir())...)
			require.Error(t, err)
			for _, w := range tc.want {
				require.ErrorContains(t, err, w)
			}
		})
	}
}
