package run

import (
	"bytes"
	"context"
	"io"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"github.com/thanos-io/objstore"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/blocktest"
	"github.com/promontory-io/promontory/libs/block/fetch"
	"github.com/promontory-io/promontory/libs/chunks"
	"github.com/promontory-io/promontory/libs/dedup"
	"github.com/promontory-io/promontory/services/compactor/internal/compacttest"
	"github.com/promontory-io/promontory/services/compactor/internal/job"
	"github.com/promontory-io/promontory/services/compactor/internal/retention"
)

// start is when test data begin: a multiple of 14 days.
const start int64 = 1762387200000

const hour = int64(time.Hour / time.Millisecond)

// testRun is a compactor over a bucket with a clock of its own.
type testRun struct {
	*Runner
	reg *prometheus.Registry
	bkt objstore.Bucket
	now *time.Time
}

type setup struct {
	replicaLabels []string
	dedup         dedup.Func
	noDownsample  bool
	noVertical    bool
	keep          retention.Rules
	now           time.Time
	guard         func() error
	logger        *zap.Logger
	attempts      int
}

func newRun(tb testing.TB, bkt objstore.Bucket, s setup) *testRun {
	tb.Helper()
	if s.dedup == "" {
		s.dedup = dedup.Chain
	}
	if s.now.IsZero() {
		s.now = time.Now() // buckets in memory know when objects were written
	}
	if s.logger == nil {
		s.logger = zap.NewNop()
	}
	if s.attempts == 0 {
		s.attempts = 3
	}
	now := s.now
	clock := func() time.Time { return now }
	reg := prometheus.NewRegistry()
	base, err := fetch.NewBase(nil, bkt, fetch.Config{Strategy: fetch.Recursive, Now: clock}, nil)
	require.NoError(tb, err)
	exec := job.New(s.logger, bkt, job.Config{
		Dir: tb.TempDir(), Dedup: s.dedup, Now: clock, Guard: s.guard, Attempts: s.attempts, Backoff: time.Microsecond,
	})
	r := New(Config{
		Vertical: !s.noVertical, Downsampling: !s.noDownsample, CompactConcurrency: 1, DownsampleConcurrency: 1,
		DeleteDelay: 48 * time.Hour, Retention: s.keep, Now: clock, Guard: s.guard,
	}, Deps{Logger: s.logger, Bucket: bkt, Fetcher: base.NewFetcher(nil, Filters(nil, s.replicaLabels)...), Executor: exec, Registerer: reg})
	return &testRun{Runner: r, reg: reg, bkt: bkt, now: &now}
}

// pairs uploads 2h blocks of two replicas, with a gap in each now and then.
func pairs(tb testing.TB, bkt objstore.Bucket, hours int64, replicas int) []*block.Meta {
	tb.Helper()
	var out []*block.Meta
	for t := int64(0); t < hours; t += 2 {
		for r := range replicas {
			out = append(out, blocktest.Upload(tb, bkt, blocktest.Spec{
				ID:             blocktest.ID(time.UnixMilli(start+(t+2)*hour), uint64(t*10+int64(r))),
				ExternalLabels: labels.FromStrings("cluster", "a", "replica", string(rune('a'+r))),
				MinTime:        start + t*hour + int64(r)*7000, MaxTime: start + (t+2)*hour, Interval: 5 * time.Minute,
				Floats: 2, Histograms: 1,
			}))
		}
	}
	return out
}

// copyBucket returns a bucket in memory with the same objects.
func copyBucket(tb testing.TB, from objstore.Bucket) *objstore.InMemBucket {
	tb.Helper()
	out := objstore.NewInMemBucket()
	var names []string
	require.NoError(tb, from.Iter(context.Background(), "", func(name string) error {
		names = append(names, name)
		return nil
	}, objstore.WithRecursiveIter()))
	for _, name := range names {
		require.NoError(tb, out.Upload(context.Background(), name, bytes.NewReader(object(tb, from, name))))
	}
	return out
}

func object(tb testing.TB, bkt objstore.Bucket, name string) []byte {
	tb.Helper()
	rc, err := bkt.Get(context.Background(), name)
	require.NoError(tb, err)
	b, err := io.ReadAll(rc)
	require.NoError(tb, err)
	require.NoError(tb, rc.Close())
	return b
}

// change replaces an object by what f makes of it.
func change(tb testing.TB, bkt objstore.Bucket, id ulid.ULID, rel string, f func([]byte) []byte) {
	tb.Helper()
	name := block.ObjectName(id, rel)
	require.NoError(tb, bkt.Upload(context.Background(), name, bytes.NewReader(f(object(tb, bkt, name)))))
}

// visible returns the blocks that are whole and not marked for deletion.
func visible(tb testing.TB, bkt objstore.Bucket) []*block.Meta {
	tb.Helper()
	// Marks count from their own time on, and the clocks of tests run ahead.
	later := func() time.Time { return time.Now().AddDate(1, 0, 0) }
	base, err := fetch.NewBase(nil, bkt, fetch.Config{Strategy: fetch.Recursive, Now: later}, nil)
	require.NoError(tb, err)
	res, err := base.NewFetcher(nil, fetch.IgnoreDeletionMark(0)).Fetch(context.Background())
	require.NoError(tb, err)
	var out []*block.Meta
	for _, m := range res.Metas {
		out = append(out, m)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].ULID.Compare(out[j].ULID) < 0 })
	return out
}

// samples are all raw samples that queries could find, by external labels, series and time.
func samples(tb testing.TB, bkt objstore.Bucket) map[string]map[int64]string {
	tb.Helper()
	out := map[string]map[int64]string{}
	for _, m := range visible(tb, bkt) {
		if m.Thanos.Downsample.Resolution > 0 {
			continue
		}
		for name, cs := range readable(tb, bkt, m) {
			key := m.ExternalLabels().String() + name
			if out[key] == nil {
				out[key] = map[int64]string{}
			}
			for _, p := range compacttest.Points(tb, cs, chunks.Raw) {
				out[key][p.T] = p.V
			}
		}
	}
	return out
}

// readable is the content of a block, nothing where the TSDB cannot open it.
func readable(tb testing.TB, bkt objstore.Bucket, m *block.Meta) map[string][]chunks.AggrChunk {
	tb.Helper()
	for _, mark := range []string{block.NoCompactMarkFilename} {
		if ok, err := bkt.Exists(context.Background(), block.ObjectName(m.ULID, mark)); err == nil && ok {
			return nil // set aside: whether it can be read is another question
		}
	}
	return compacttest.Content(tb, bkt, m)
}

// nothingLeft asserts that there is no work.
func nothingLeft(tb testing.TB, r *testRun) {
	tb.Helper()
	rounds, err := r.Plan(context.Background())
	require.NoError(tb, err)
	for _, p := range rounds {
		for i := range p.Jobs {
			tb.Errorf("left to do: %s", p.Jobs[i].String())
		}
	}
}

func metric(tb testing.TB, reg *prometheus.Registry, name string) float64 {
	tb.Helper()
	families, err := reg.Gather()
	require.NoError(tb, err)
	sum := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return sum
}

// upload makes a block below a temporary folder, lets change have it, and uploads it.
func upload(tb testing.TB, bkt objstore.Bucket, spec blocktest.Spec) *block.Meta {
	tb.Helper()
	dir := tb.TempDir()
	m := blocktest.Create(tb, dir, spec)
	return blocktest.UploadDir(tb, bkt, filepath.Join(dir, m.ULID.String()))
}

func eventKinds(r *testRun) string {
	var out []string
	for _, e := range r.Snapshot().Events {
		out = append(out, e.Kind)
	}
	return strings.Join(out, ",")
}
