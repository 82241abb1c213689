package blockread

import (
	"context"
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/blocktest"
	"github.com/promontory-io/promontory/libs/budget"
	"github.com/promontory-io/promontory/libs/cache/indexcache"
	"github.com/promontory-io/promontory/libs/objstore"
	"github.com/promontory-io/promontory/libs/objstore/faults"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/services/store-gateway/internal/indexheader"
	"github.com/promontory-io/promontory/services/store-gateway/internal/rangeread"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/baidubce/bce-sdk-go/util/log.NewLogger.func1"))
}

// newBlock uploads a block into a bucket that counts requests, and opens it.
func newBlock(t *testing.T, spec blocktest.Spec, cfg Config) (*Block, *faults.Bucket) {
	t.Helper()
	mem := objstore.NewInMemBucket()
	meta := blocktest.Upload(t, mem, spec)
	f, err := faults.Wrap(mem, faults.Config{})
	require.NoError(t, err)
	bkt := rangeread.New(f, rangeread.Config{Attempts: 3, Concurrency: 4})
	ic, _, err := indexcache.New(indexcache.DefaultConfig(), zap.NewNop(), nil)
	require.NoError(t, err)
	b, err := New(t.Context(), meta, cfg, Deps{
		Bucket: bkt, Opener: indexheader.NewOpener(bkt, indexheader.Config{}, zap.NewNop(), indexheader.NewMetrics(nil)),
		Cache: ic,
	})
	require.NoError(t, err)
	require.NoError(t, b.Load(t.Context()))
	f.Reset()
	return b, f
}

// requestBytes is what requests of tests begin with.
const requestBytes = 64 << 10

// newMemory returns a budget, and the memory of a request that has just begun.
func newMemory(t *testing.T, limit int64) (*budget.Budget, *Memory) {
	t.Helper()
	b := budget.New(limit, nil)
	res, err := b.Acquire(t.Context(), requestBytes, "the test")
	require.NoError(t, err)
	t.Cleanup(res.Release)
	return b, NewMemory(b, res)
}

func everything() *Query {
	return &Query{
		Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, "__name__", ".+")},
		MinTime:  math.MinInt64, MaxTime: math.MaxInt64, BatchBytes: 64 << 10,
	}
}

func TestAStreamYieldsAllSamplesInOrder(t *testing.T) {
	t.Parallel()
	for _, batch := range []int64{1, 700, 64 << 10, 8 << 20} {
		t.Run(fmt.Sprint(batch, " bytes a batch"), func(t *testing.T) {
			t.Parallel()
			bytes, memory := newMemory(t, 64<<20)
			b, _ := newBlock(t, blocktest.Spec{Floats: 300}, DefaultConfig())
			q := everything()
			q.BatchBytes, q.Stats, q.Memory = batch, &Stats{}, memory
			s := b.Series(t.Context(), q)
			var last labels.Labels
			n := 0
			for s.Next() {
				it := s.At()
				if n > 0 {
					require.Negative(t, labels.Compare(last, it.Labels))
				}
				last = it.Labels
				n++
				var num int
				_, err := fmt.Sscan(it.Labels.Get("series"), &num)
				require.NoError(t, err)
				require.NotEmpty(t, it.Chunks)
				for _, c := range it.Chunks {
					ch, err := chunkenc.FromData(c.Raw.Encoding, c.Raw.Data)
					require.NoError(t, err)
					for i := ch.Iterator(nil); i.Next() != chunkenc.ValNone; {
						at, v := i.At()
						require.InDelta(t, blocktest.FloatValue(num, at), v, 0)
					}
				}
			}
			require.NoError(t, s.Err())
			require.False(t, s.Next(), "the end stays the end")
			require.Equal(t, 300, n)
			require.LessOrEqual(t, bytes.Used(), int64(64<<20))
			s.Close()
			require.EqualValues(t, requestBytes, bytes.Used(), "what the request began with is its own to give back")
			require.EqualValues(t, 300, q.Stats.Tally().Kinds[Series].Touched)
		})
	}
}

func TestRequestsAreFewAndTheCacheMakesThemFewer(t *testing.T) {
	t.Parallel()
	b, f := newBlock(t, blocktest.Spec{Floats: 1000}, DefaultConfig())
	read := func() (n int) {
		q := everything()
		q.BatchBytes = 8 << 20
		s := b.Series(t.Context(), q)
		defer s.Close()
		for s.Next() {
			n++
		}
		require.NoError(t, s.Err())
		return n
	}
	require.Equal(t, 1000, read())
	// One for the postings, two for the series (a small window first), one for the chunks.
	require.EqualValues(t, 4, f.Requests()[faults.GetRange])
	f.Reset()
	require.Equal(t, 1000, read())
	require.EqualValues(t, 1, f.Requests()[faults.GetRange], "only chunks are not cached")
}

func TestSkippingChunksReadsNone(t *testing.T) {
	t.Parallel()
	b, f := newBlock(t, blocktest.Spec{Floats: 100}, DefaultConfig())
	require.NoError(t, f.SetConfig(faults.Config{Rules: []faults.Rule{{Name: "chunks/", Error: faults.ErrorPlain}}}))
	q := everything()
	q.SkipChunks = true
	s := b.Series(t.Context(), q)
	defer s.Close()
	n := 0
	for s.Next() {
		require.Empty(t, s.At().Chunks)
		n++
	}
	require.NoError(t, s.Err())
	require.Equal(t, 100, n)
}

func TestALimitStopsReadingEarly(t *testing.T) {
	t.Parallel()
	b, f := newBlock(t, blocktest.Spec{Floats: 20000, Interval: time.Hour}, DefaultConfig())
	q := everything()
	q.Limit, q.Stats = 3, &Stats{}
	s := b.Series(t.Context(), q)
	n := 0
	for s.Next() {
		n++
	}
	require.NoError(t, s.Err())
	s.Close()
	require.Equal(t, 3, n)
	require.Less(t, q.Stats.Tally().Kinds[Series].Touched, int64(10))
	require.EqualValues(t, 3, f.Requests()[faults.GetRange], "postings, series, chunks")
}

func TestAStreamMayBeLeftAtAnyPoint(t *testing.T) {
	t.Parallel()
	bytes, memory := newMemory(t, 64<<20)
	b, _ := newBlock(t, blocktest.Spec{Floats: 50}, DefaultConfig())
	for n := range 52 {
		q := everything()
		q.BatchBytes, q.Memory = 100, memory
		s := b.Series(t.Context(), q)
		for range n {
			s.Next()
		}
		s.Close()
		s.Close()
		require.EqualValues(t, requestBytes, bytes.Used())
	}
	ctx, cancel := context.WithCancel(t.Context())
	q := everything()
	q.BatchBytes = 100
	s := b.Series(ctx, q)
	require.True(t, s.Next())
	cancel()
	for s.Next() {
	}
	require.ErrorIs(t, s.Err(), context.Canceled)
	s.Close()
}

func TestTroubleNamesTheBlockAndTellsWhoIsToBlame(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		rule   faults.Rule
		broken bool
	}{
		"chunks are gone":       {faults.Rule{Name: "chunks/", Error: faults.ErrorNotFound}, true},
		"index is gone":         {faults.Rule{Name: "index", Error: faults.ErrorNotFound}, true},
		"chunks cannot be read": {faults.Rule{Name: "chunks/", Error: faults.ErrorPlain}, false},
		"index cannot be read":  {faults.Rule{Name: "index", Error: faults.ErrorPlain}, false},
		"access is denied":      {faults.Rule{Name: "chunks/", Error: faults.ErrorAccessDenied}, false},
		"connections break off": {faults.Rule{Name: "chunks/", BreakAfter: new(int64)}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, f := newBlock(t, blocktest.Spec{}, DefaultConfig())
			require.NoError(t, f.SetConfig(faults.Config{Rules: []faults.Rule{tc.rule}}))
			s := b.Series(t.Context(), everything())
			defer s.Close()
			require.False(t, s.Next())
			require.ErrorContains(t, s.Err(), "block "+b.ID())
			require.Equal(t, tc.broken, Broken(s.Err()), "%v", s.Err())
		})
	}
}

func TestLimitsEndAStream(t *testing.T) {
	t.Parallel()
	for name, limits := range map[string]*Limits{
		"series": {Series: 99}, "chunks": {Chunks: 50}, "bytes": {Bytes: 3000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, _ := newBlock(t, blocktest.Spec{Floats: 100}, DefaultConfig())
			q := everything()
			var dropped string
			limits.OnDrop = func(reason string) { dropped = reason }
			q.Limits = limits
			s := b.Series(t.Context(), q)
			for s.Next() {
			}
			require.ErrorIs(t, s.Err(), storeapi.ErrLimit)
			s.Close()
			require.Equal(t, name, dropped)
		})
	}
}

func TestSegmentsAreFoundWithoutMetadata(t *testing.T) {
	t.Parallel()
	b, _ := newBlock(t, blocktest.Spec{}, DefaultConfig())
	want := b.segments
	require.Len(t, want, 1)
	for name, change := range map[string]func(*block.Thanos){
		"only segment files": func(m *block.Thanos) { m.Files = nil },
		"only files":         func(m *block.Thanos) { m.SegmentFiles = nil },
		"neither":            func(m *block.Thanos) { m.SegmentFiles, m.Files = nil, nil },
	} {
		meta := b.Meta.Clone()
		change(&meta.Thanos)
		other, err := New(t.Context(), meta, DefaultConfig(), b.deps)
		require.NoError(t, err, name)
		require.Len(t, other.segments, 1, name)
		require.Equal(t, want[0].name, other.segments[0].name, name)
	}
}

func TestAPanicEndsTheStreamNotTheProcess(t *testing.T) {
	t.Parallel()
	b, _ := newBlock(t, blocktest.Spec{}, DefaultConfig())
	q := everything()
	q.Matchers = []*labels.Matcher{nil}
	s := b.Series(t.Context(), q)
	defer s.Close()
	require.False(t, s.Next())
	require.ErrorContains(t, s.Err(), "panic")
	require.False(t, errors.Is(s.Err(), ErrCorrupt))
}
