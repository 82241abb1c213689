package tenants

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/objstore"
	"github.com/promontory-io/promontory/libs/tenancy"
	"github.com/promontory-io/promontory/services/receiver/internal/remotewrite"
	"github.com/promontory-io/promontory/services/receiver/internal/verdict"
)

func TestMain(m *testing.M) {
	// The client of one of the bucket providers starts a logger when it is imported.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/baidubce/bce-sdk-go/util/log.NewLogger.func1"))
}

func testOptions(dir string) Options {
	o := DefaultOptions()
	o.Dir, o.Labels, o.OpenWait = dir, labels.FromStrings("replica", "a"), 30*time.Second
	return o
}

func newMulti(t *testing.T, o Options, bkt objstore.Bucket) *Multi {
	t.Helper()
	m := New(o, Deps{Bucket: bkt, Logger: zap.NewNop(), Registerer: prometheus.NewRegistry()})
	require.NoError(t, m.Start())
	t.Cleanup(func() { _ = m.Stop(context.Background()) })
	return m
}

type point struct {
	t int64
	v float64
}

func series(name string, points ...point) remotewrite.Series {
	var body []byte
	for _, p := range points {
		body = remotewrite.AppendSample(body, p.t, p.v, 0)
	}
	return remotewrite.Series{
		Labels: remotewrite.AppendLabels(nil, labels.FromStrings("__name__", name, "job", "x")),
		Body:   body, Floats: uint32(len(points)),
	}
}

func write(t *testing.T, m *Multi, tenant string, ss ...remotewrite.Series) []verdict.Failure {
	t.Helper()
	fs, err := m.Append(t.Context(), tenant, ss, nil)
	require.NoError(t, err)
	return fs
}

// samples are all float samples of a tenant by series.
func samples(t *testing.T, m *Multi, tenant string) map[string][]point {
	t.Helper()
	out := map[string][]point{}
	require.NoError(t, m.Tenant(tenant).Read(func(db *tsdb.DB) error {
		q, err := db.Querier(math.MinInt64, math.MaxInt64)
		if err != nil {
			return err
		}
		defer q.Close()
		set := q.Select(t.Context(), true, nil, labels.MustNewMatcher(labels.MatchRegexp, "__name__", ".+"))
		for set.Next() {
			it := set.At().Iterator(nil)
			name := set.At().Labels().Get("__name__")
			for vt := it.Next(); vt != chunkenc.ValNone; vt = it.Next() {
				switch vt {
				case chunkenc.ValFloat:
					ts, v := it.At()
					out[name] = append(out[name], point{ts, v})
				default:
					ts, h := it.AtFloatHistogram(nil)
					out[name] = append(out[name], point{ts, h.Count})
				}
			}
		}
		return set.Err()
	}))
	return out
}

func TestEachTenantHasItsOwnSamples(t *testing.T) {
	t.Parallel()
	m := newMulti(t, testOptions(t.TempDir()), nil)
	for i := range 3 {
		require.Empty(t, write(t, m, "a", series("m", point{int64(i), 1}), series("n", point{int64(i), 2})))
		require.Empty(t, write(t, m, "b", series("m", point{int64(i), 3})))
	}
	require.Equal(t, map[string][]point{"m": {{0, 1}, {1, 1}, {2, 1}}, "n": {{0, 2}, {1, 2}, {2, 2}}}, samples(t, m, "a"))
	require.Equal(t, map[string][]point{"m": {{0, 3}, {1, 3}, {2, 3}}}, samples(t, m, "b"))
	require.Equal(t, `{replica="a", tenant_id="b"}`, m.Tenant("b").External().String())
	require.Equal(t, 2, m.Tenant("a").cache.len())
	require.Equal(t, uint64(2), m.Tenant("a").NumSeries())
}

func TestOnlyPickedSeriesAreWritten(t *testing.T) {
	t.Parallel()
	m := newMulti(t, testOptions(t.TempDir()), nil)
	all := []remotewrite.Series{series("a", point{1, 1}), series("b", point{1, 1}), series("c", point{1, 1})}
	fs, err := m.Append(t.Context(), "t", all, []uint32{0, 2})
	require.NoError(t, err)
	require.Empty(t, fs)
	require.Len(t, samples(t, m, "t"), 2)
}

func TestTenantsCannotLeaveTheirFolder(t *testing.T) {
	t.Parallel()
	m := newMulti(t, testOptions(t.TempDir()), nil)
	for _, name := range []string{"", ".", "..", "../x", "a/b", "lost+found", "a\x00b", strings.Repeat("a", 256)} {
		_, err := m.Append(t.Context(), name, []remotewrite.Series{series("m", point{1, 1})}, nil)
		require.ErrorIs(t, err, tenancy.ErrInvalid, "%q", name)
	}
	require.Empty(t, m.Tenants())
}

func TestEachSampleGetsItsVerdict(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(100_000_000)
	o := testOptions(t.TempDir())
	o.Now, o.TooFarInFuture = func() time.Time { return now }, time.Minute
	m := newMulti(t, o, nil)
	ms := now.UnixMilli()
	require.Empty(t, write(t, m, "t", series("m", point{ms - 10, 1}, point{ms, 1})))

	noName := remotewrite.Series{Labels: remotewrite.AppendLabels(nil, labels.FromStrings("job", "x")), Body: series("x", point{ms, 1}).Body, Floats: 1}
	badBody := series("bad", point{ms, 1})
	badBody.Body = badBody.Body[:len(badBody.Body)-3]
	hist := writev2.FromIntHistogram(ms, &histogram.Histogram{Count: 7, PositiveSpans: []histogram.Span{{Length: 1}}, PositiveBuckets: []int64{1}})
	histBody, err := remotewrite.AppendHistogram(nil, &hist)
	require.NoError(t, err)
	badHist := series("hist")
	badHist.Body, badHist.Histograms = histBody, 1

	fs := write(t, m, "t",
		series("m", point{ms - 5, 1}),             // out of order
		series("m", point{ms, 2}),                 // another value for its time
		series("m", point{ms, 1}),                 // the same again: fine
		series("m", point{ms - 3*3600*1000, 1}),   // out of bounds
		series("m", point{ms + 61_000, 1}),        // in the future
		series("new", point{ms, 1}, point{ms, 2}), // half of it
		noName, badBody, badHist, series("good", point{ms, 1}),
	)
	var got []string
	for _, f := range fs {
		got = append(got, fmt.Sprintf("%d %s %d/%d", f.Series, f.Kind, f.Floats, f.Histograms))
	}
	require.Equal(t, []string{
		"0 conflict 1/0", "1 conflict 1/0", "3 conflict 1/0", "4 conflict 1/0", "6 invalid 1/0", "7 invalid 0/0", "8 invalid 0/1",
	}, dropNew(got))
	require.ErrorContains(t, errors.New(fs[0].Reason), `{__name__="m", job="x"}: sample at 1970-01-02T03:46:39.995Z: out of order`)
	require.Contains(t, samples(t, m, "t"), "good")
	require.Len(t, samples(t, m, "t")["new"], 1)
}

// dropNew leaves out the series whose second value the TSDB finds at commit only, without saying so.
func dropNew(got []string) (out []string) {
	for _, g := range got {
		if g[0] != '5' {
			out = append(out, g)
		}
	}
	return out
}

func TestARetryOfWhatIsThereSucceeds(t *testing.T) {
	t.Parallel()
	m := newMulti(t, testOptions(t.TempDir()), nil)
	first := series("m", point{1, 1}, point{2, 2}, point{3, 3})
	require.Empty(t, write(t, m, "t", first))
	require.Empty(t, write(t, m, "t", first), "the sender did not hear the first answer")
	require.Len(t, write(t, m, "t", series("m", point{1, 9}, point{2, 2}, point{3, 3})), 1, "another body is no retry")
	require.Equal(t, []point{{1, 1}, {2, 2}, {3, 3}}, samples(t, m, "t")["m"])
}

func TestHistogramsExemplarsAndStartsAreKept(t *testing.T) {
	t.Parallel()
	o := testOptions(t.TempDir())
	o.MaxExemplars = 10
	m := newMulti(t, o, nil)
	h := &histogram.Histogram{Schema: 1, Count: 2, PositiveSpans: []histogram.Span{{Length: 1}}, PositiveBuckets: []int64{2}}
	custom := &histogram.FloatHistogram{
		Schema: histogram.CustomBucketsSchema, Count: 3, CustomValues: []float64{1, 2},
		PositiveSpans: []histogram.Span{{Length: 1}}, PositiveBuckets: []float64{3},
	}
	ih, fh := writev2.FromIntHistogram(1000, h), writev2.FromFloatHistogram(1000, custom)
	s1, s2, s3 := series("int"), series("custom"), series("counter")
	var err error
	s1.Body, err = remotewrite.AppendHistogram(nil, &ih)
	require.NoError(t, err)
	s1.Histograms = 1
	s2.Body, err = remotewrite.AppendHistogram(nil, &fh)
	require.NoError(t, err)
	s2.Histograms = 1
	// An exemplar may stand before the sample that makes its series known.
	s3.Body = remotewrite.AppendExemplar(nil, exemplar.Exemplar{Labels: labels.FromStrings("trace_id", "t"), Value: 1, Ts: 1000})
	s3.Body = remotewrite.AppendSample(s3.Body, 1000, 7, 900)
	s3.Floats, s3.Exemplars = 1, 1
	require.Empty(t, write(t, m, "t", s1, s2, s3))
	require.Equal(t, map[string][]point{"int": {{1000, 2}}, "custom": {{1000, 3}}, "counter": {{900, 0}, {1000, 7}}}, samples(t, m, "t"))
	require.NoError(t, m.Tenant("t").Read(func(db *tsdb.DB) error {
		q, err := db.ExemplarQuerier(t.Context())
		require.NoError(t, err)
		res, err := q.Select(0, 2000, []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "__name__", "counter")})
		require.NoError(t, err)
		require.Len(t, res, 1)
		require.Len(t, res[0].Exemplars, 1)
		return nil
	}))

	orphan := series("orphan")
	orphan.Body, orphan.Exemplars = remotewrite.AppendExemplar(nil, exemplar.Exemplar{Ts: 1}), 1
	fs := write(t, m, "t", orphan)
	require.Len(t, fs, 1)
	require.Equal(t, verdict.Conflict, fs[0].Kind)
}

func TestASeriesTheHeadForgotIsWrittenAgain(t *testing.T) {
	t.Parallel()
	m := newMulti(t, testOptions(t.TempDir()), nil)
	require.Empty(t, write(t, m, "t", series("m", point{1, 1})))
	tn := m.Tenant("t")
	s := series("m", point{1, 1})
	key := tn.cache.key(s.Labels)
	require.NotZero(t, cached(tn.cache, key).ref)
	tn.mu.Lock()
	require.NoError(t, tn.flush(t.Context(), tn.db))
	tn.mu.Unlock()
	require.Zero(t, tn.NumSeries())
	require.Zero(t, tn.cache.len(), "the cache forgets with the head")

	// Even a reference that is still around must do no harm.
	tn.cache.put([]entry{{key, known{ref: 12345}}})
	require.Empty(t, write(t, m, "t", series("m", point{5, 5})))
	require.Equal(t, []point{{1, 1}, {5, 5}}, samples(t, m, "t")["m"])
	require.NotEqual(t, storage.SeriesRef(12345), cached(tn.cache, key).ref)
}

func TestWritesDoNotWaitForTheReplay(t *testing.T) {
	t.Parallel()
	o := testOptions(t.TempDir())
	o.OpenWait = 0
	m := New(o, Deps{Logger: zap.NewNop()})
	require.NoError(t, m.Start())
	t.Cleanup(func() { _ = m.Stop(context.Background()) })
	for range cap(m.slots) {
		m.slots <- struct{}{} // no database can be opened now
	}
	for i := range 5 {
		require.Empty(t, write(t, m, "t", series("m", point{int64(i), 1}), series("n", point{int64(i), 2})))
	}
	require.ErrorIs(t, m.Tenant("t").Read(func(*tsdb.DB) error { return nil }), ErrReplaying)
	require.Equal(t, 1, m.replaying())
	for range cap(m.slots) {
		<-m.slots
	}
	require.Eventually(t, func() bool { return m.replaying() == 0 }, 10*time.Second, time.Millisecond)
	require.Empty(t, write(t, m, "t", series("m", point{5, 1})))
	require.Len(t, samples(t, m, "t")["m"], 6)
	require.Len(t, samples(t, m, "t")["n"], 5)
	require.NoFileExists(t, filepath.Join(o.Dir, "t", journalName))
}

func TestAJournalThatACrashLeftIsNotLost(t *testing.T) {
	t.Parallel()
	o := testOptions(t.TempDir())
	j, err := openJournal(filepath.Join(o.Dir, "t"), 1<<20)
	require.NoError(t, err)
	require.NoError(t, j.add([]remotewrite.Series{series("m", point{1, 1})}, nil))
	require.NoError(t, j.add([]remotewrite.Series{series("x", point{9, 9}), series("m", point{2, 2})}, []uint32{1}))
	// The crash came in the middle of the third.
	_, err = j.file.WriteAt([]byte{9, 0, 0, 0, 1, 2}, j.size)
	require.NoError(t, err)
	require.NoError(t, j.close())

	m := newMulti(t, o, nil)
	require.Empty(t, write(t, m, "t", series("m", point{3, 3})))
	require.Equal(t, map[string][]point{"m": {{1, 1}, {2, 2}, {3, 3}}}, samples(t, m, "t"))
}

func TestAFullJournalRefuses(t *testing.T) {
	t.Parallel()
	j, err := openJournal(t.TempDir(), 200)
	require.NoError(t, err)
	defer j.close()
	s := []remotewrite.Series{series("m", point{1, 1})}
	for err == nil {
		err = j.add(s, nil)
	}
	require.ErrorIs(t, err, errJournalFull)
}

func TestABrokenDatabaseIsOpenedAgain(t *testing.T) {
	t.Parallel()
	m := newMulti(t, testOptions(t.TempDir()), nil)
	require.Empty(t, write(t, m, "t", series("m", point{1, 1})))
	tn := m.Tenant("t")
	tn.fail(tn.db, errors.New("no space left on device"))
	_, err := m.Append(t.Context(), "t", []remotewrite.Series{series("m", point{2, 2})}, nil)
	require.ErrorIs(t, err, ErrUnavailable)
	require.ErrorContains(t, err, "no space left")
	m.reopenAll(t.Context())
	require.Empty(t, write(t, m, "t", series("m", point{2, 2})))
	require.Equal(t, []point{{1, 1}, {2, 2}}, samples(t, m, "t")["m"])
}

func TestStopFlushesAndUploads(t *testing.T) {
	t.Parallel()
	bkt := objstore.NewInMemBucket()
	o := testOptions(t.TempDir())
	m := newMulti(t, o, bkt)
	width := o.BlockDuration.Milliseconds()
	require.Empty(t, write(t, m, "t", series("m", point{width - 5, 1}), series("m", point{width + 5, 1})))
	require.NoError(t, m.Stop(t.Context()))
	blocks := 0
	require.NoError(t, bkt.Iter(t.Context(), "", func(string) error { blocks++; return nil }))
	require.Equal(t, 2, blocks, "one for each window of two hours")
	_, err := m.Append(t.Context(), "t", []remotewrite.Series{series("m", point{width + 9, 1})}, nil)
	require.ErrorIs(t, err, ErrUnavailable)

	again := newMulti(t, o, bkt)
	require.Empty(t, write(t, again, "t", series("m", point{width + 9, 2})))
	require.Equal(t, []point{{width - 5, 1}, {width + 5, 1}, {width + 9, 2}}, samples(t, again, "t")["m"])
}

func TestIdleTenantsAreUploadedAndRemoved(t *testing.T) {
	t.Parallel()
	bkt := objstore.NewInMemBucket()
	now := time.UnixMilli(1_000_000_000_000)
	o := testOptions(t.TempDir())
	o.Now, o.Retention = func() time.Time { return now }, time.Hour
	m := newMulti(t, o, bkt)
	require.Empty(t, write(t, m, "old", series("m", point{now.Add(-2 * time.Hour).UnixMilli(), 1})))
	require.Empty(t, write(t, m, "new", series("m", point{now.UnixMilli(), 1})))
	m.pruneAll(t.Context())
	require.Nil(t, m.Tenant("old"))
	require.NotNil(t, m.Tenant("new"))
	require.NoDirExists(t, filepath.Join(o.Dir, "old"))
	require.Len(t, bkt.Objects(), 3, "meta.json, index and one segment")

	require.Empty(t, write(t, m, "old", series("m", point{now.UnixMilli(), 1})), "it may come back")
}

func TestHeadsAreCutOneByOneAndNotAllAtOnce(t *testing.T) {
	t.Parallel()
	o := testOptions("")
	width := o.BlockDuration.Milliseconds()
	due := map[int64]bool{}
	for i := range 50 {
		tn := &Tenant{name: fmt.Sprint(i), opts: &o}
		cut, idle := tn.cutDue(0, width, width)
		require.False(t, cut || idle, "less than a block and a half")
		cut, _ = tn.cutDue(0, 2*width, 2*width)
		require.True(t, cut)
		_, idle = tn.cutDue(0, 5, 2*width)
		require.True(t, idle)
		for at := width; at <= 2*width; at += 60_000 {
			if cut, _ := tn.cutDue(0, at, at); cut {
				due[at] = true
				break
			}
		}
		cut, idle = tn.cutDue(math.MaxInt64, math.MinInt64, width)
		require.False(t, cut || idle, "an empty head")
	}
	require.Greater(t, len(due), 15, "moments at which some tenant cuts")
}

func TestACutKeepsWhatIsWritten(t *testing.T) {
	t.Parallel()
	o := testOptions(t.TempDir())
	m := newMulti(t, o, objstore.NewInMemBucket())
	width := o.BlockDuration.Milliseconds()
	for at := int64(0); at < 3*width; at += width / 8 {
		require.Empty(t, write(t, m, "t", series("m", point{at, 1})))
	}
	o.Now = nil
	m.opts.Now = func() time.Time { return time.UnixMilli(3 * width) }
	m.cutAll(t.Context())
	m.uploadAll(t.Context())
	require.NoError(t, m.Tenant("t").Read(func(db *tsdb.DB) error {
		require.NotEmpty(t, db.Blocks())
		return nil
	}))
	require.Len(t, samples(t, m, "t")["m"], 24)
}

func TestFoldersThatAreNoTenantsAreLeftAlone(t *testing.T) {
	t.Parallel()
	o := testOptions(t.TempDir())
	require.NoError(t, os.MkdirAll(filepath.Join(o.Dir, "lost+found"), 0o777))
	require.NoError(t, os.WriteFile(filepath.Join(o.Dir, "file"), nil, 0o600))
	require.Empty(t, newMulti(t, o, nil).Tenants())
}

func FuzzParseEntry(f *testing.F) {
	s := series("m", point{1, 1})
	f.Add(remotewrite.AppendSeries(nil, &s))
	f.Fuzz(func(_ *testing.T, data []byte) { _, _ = parseEntry(data, nil) })
}

func FuzzTenantNames(f *testing.F) {
	for _, s := range []string{"a", "..", "../x", "a/../..", "\x00", "é", "lost+found"} {
		f.Add(s)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, name string) {
		if checkName(name) != nil {
			return
		}
		m := New(Options{Dir: dir}, Deps{Logger: zap.NewNop()})
		tn, err := m.newTenant(name)
		if err == nil && filepath.Dir(tn.dir) != dir {
			t.Fatalf("tenant %q lives in %s", name, tn.dir)
		}
	})
}
