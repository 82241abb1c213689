package selects

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/chunks"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/services/querier/internal/fakepeer"
	"github.com/promontory-io/promontory/services/querier/internal/fanout"
)

// fixed is a source of the same series again and again.
type fixed struct {
	embedded
	list []storeapi.Series
}

func (f fixed) Series(context.Context, *thanos.SeriesRequest, []*labels.Matcher, fanout.Options) (storeapi.Stream, error) {
	return storeapi.NewSliceStream(f.list, nil, nil), nil
}

type embedded = Series

// aheadSeries are HA pairs of several chunks, one series of histograms, one that is broken in its second chunk, and a short one.
func aheadSeries(t testing.TB, n int) (out []storeapi.Series) {
	for i := range n {
		name := labels.FromStrings("__name__", "up", "i", fmt.Sprintf("%04d", i))
		var lists [][]fakepeer.Sample
		for c := range 4 {
			lists = append(lists, fakepeer.Ramp(int64(c)*1800_000, 15_000, 120, float64(c*120)), fakepeer.Ramp(int64(c)*1800_000+7000, 15_000, 110, float64(c*120)))
		}
		s := fakepeer.Series(t, name, lists...)
		switch i {
		case 3:
			h := chunkenc.NewHistogramChunk()
			app, err := h.Appender()
			require.NoError(t, err)
			for j := range 40 {
				_, _, _, err = app.AppendHistogram(nil, int64(j)*15_000, &histogram.Histogram{Count: uint64(j), ZeroCount: uint64(j), Schema: 1}, true)
				require.NoError(t, err)
			}
			s.Chunks = []chunks.AggrChunk{{MinTime: 0, MaxTime: 39 * 15_000, Raw: chunks.Chunk{Encoding: chunkenc.EncHistogram, Data: h.Bytes()}}}
		case 5:
			s.Chunks = s.Chunks[:3]
			raw := &s.Chunks[2].Raw
			raw.Data = raw.Data[:len(raw.Data)/2]
		case 7:
			s = fakepeer.Series(t, name, fakepeer.Ramp(0, 15_000, 5, 1))
		}
		out = append(out, s)
	}
	return out
}

type aheadSample struct {
	T int64
	V float64
	K chunkenc.ValueType
}

// openAhead selects all series of list with the given pool.
func openAhead(t testing.TB, list []storeapi.Series, pool *aheadPool, hints *storage.SelectHints) (storage.Querier, []storage.Series) {
	c := New(fixed{list: list}, Config{}, nil)
	c.ahead = pool
	q, err := c.Queryable(Options{Dedup: true, ReplicaLabels: []string{"replica"}}).Querier(60_000, 7000_000)
	require.NoError(t, err)
	set := q.Select(t.Context(), true, hints, labels.MustNewMatcher(labels.MatchEqual, "__name__", "up"))
	var all []storage.Series
	for set.Next() {
		all = append(all, set.At())
	}
	require.NoError(t, set.Err())
	return q, all
}

// walk reads an iterator by steps and leaps, which seed chooses.
func walk(it chunkenc.Iterator, seed uint64) (out []aheadSample, err error) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	at := int64(0)
	for {
		var k chunkenc.ValueType
		if rnd.IntN(3) == 0 {
			k = it.Seek(at + rnd.Int64N(400_000) - 50_000)
		} else {
			k = it.Next()
		}
		switch k {
		case chunkenc.ValNone:
			return out, it.Err()
		case chunkenc.ValFloat:
			t, v := it.At()
			out = append(out, aheadSample{t, v, k})
		default:
			out = append(out, aheadSample{it.AtT(), 0, k})
		}
		at = it.AtT()
	}
}

func TestSamplesDecodedAheadAreThoseDecodedOnDemand(t *testing.T) {
	t.Parallel()
	const n = 60
	list := aheadSeries(t, n)
	plain, onDemand := openAhead(t, list, nil, nil)
	defer plain.Close()
	for name, read := range map[string]func(all []storage.Series, each func(i int, it chunkenc.Iterator)){
		"one after the other": func(all []storage.Series, each func(int, chunkenc.Iterator)) {
			var it chunkenc.Iterator
			for i, s := range all {
				it = s.Iterator(it)
				each(i, it)
			}
		},
		"all open at once": func(all []storage.Series, each func(int, chunkenc.Iterator)) {
			var its []chunkenc.Iterator
			for _, s := range all {
				its = append(its, s.Iterator(nil))
			}
			for i, it := range its {
				each(i, it)
			}
		},
		"backwards and twice": func(all []storage.Series, each func(int, chunkenc.Iterator)) {
			var it chunkenc.Iterator
			for i := len(all) - 1; i >= 0; i-- {
				each(i, all[i].Iterator(nil))
				it = all[i].Iterator(it)
				each(i, it)
			}
		},
	} {
		for size, maxBytes := range map[string]int64{"much room": 64 << 20, "room for two": 40 << 10, "no room": 1} {
			t.Run(name+", "+size, func(t *testing.T) {
				t.Parallel()
				pool := newAheadPool(2, maxBytes)
				q, all := openAhead(t, list, pool, nil)
				require.Len(t, all, n)
				read(all, func(i int, it chunkenc.Iterator) {
					seed := uint64(i)
					want, wantErr := walk(onDemand[i].Iterator(nil), seed)
					got, gotErr := walk(it, seed)
					require.Equal(t, want, got, "series %d", i)
					require.Equal(t, i == 5, wantErr != nil)
					require.Equal(t, fmt.Sprint(wantErr), fmt.Sprint(gotErr))
					require.LessOrEqual(t, pool.held.Load(), max(maxBytes, 0))
				})
				require.NoError(t, q.Close())
				require.Zero(t, pool.held.Load(), "all is given back")
				require.Empty(t, pool.workers)
			})
		}
	}
}

func TestSeriesAreDecodedBeforeTheyAreAskedFor(t *testing.T) {
	t.Parallel()
	pool := newAheadPool(2, 64<<20)
	q, all := openAhead(t, aheadSeries(t, 20), pool, nil)
	last := all[len(all)-1].(*series)
	require.Eventually(t, func() bool {
		last.ahead.mu.Lock()
		defer last.ahead.mu.Unlock()
		return last.stage == decoded
	}, 10*time.Second, time.Millisecond)
	require.IsType(t, &readyIterator{}, last.Iterator(nil))
	require.IsType(t, &iterator{}, all[3].Iterator(nil), "histograms are decoded on demand")
	require.Nil(t, all[7].(*series).ahead, "too short")
	require.NoError(t, q.Close())
	require.Zero(t, pool.held.Load())
	got, err := walk(all[0].Iterator(nil), 1)
	require.NoError(t, err)
	require.NotEmpty(t, got, "series stay readable")
}

func TestAClosedQuerierDecodesNothingMore(t *testing.T) {
	t.Parallel()
	pool := newAheadPool(2, 64<<20)
	pool.workers <- struct{}{} // all others are busy
	pool.workers <- struct{}{}
	q, all := openAhead(t, aheadSeries(t, 20), pool, nil)
	require.NoError(t, q.Close())
	<-pool.workers
	require.IsType(t, &iterator{}, all[0].Iterator(nil))
	require.Equal(t, waiting, all[1].(*series).stage)
	require.Len(t, pool.workers, 1, "nobody began")
}

func TestOnlySelectsThatReadMostSamplesDecodeAhead(t *testing.T) {
	t.Parallel()
	minute := time.Minute.Milliseconds()
	for name, tc := range map[string]struct {
		pool       *aheadPool
		hints      *storage.SelectHints
		skipChunks bool
		want       bool
	}{
		"no hints":                    {pool: newAheadPool(2, 1), want: true},
		"an instant":                  {pool: newAheadPool(2, 1), hints: &storage.SelectHints{}, want: true},
		"a range as long as the step": {pool: newAheadPool(2, 1), hints: &storage.SelectHints{Step: 60 * minute, Range: 60 * minute}, want: true},
		"a step of a minute":          {pool: newAheadPool(2, 1), hints: &storage.SelectHints{Step: minute}, want: true},
		"a step of an hour":           {pool: newAheadPool(2, 1), hints: &storage.SelectHints{Step: 60 * minute}},
		"a short range in a long one": {pool: newAheadPool(2, 1), hints: &storage.SelectHints{Step: 60 * minute, Range: 5 * minute}},
		"labels only":                 {pool: newAheadPool(2, 1), skipChunks: true},
		"one processor":               {pool: newAheadPool(1, 1)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, tc.want, newAhead(tc.pool, tc.hints, tc.skipChunks) != nil)
		})
	}
}
