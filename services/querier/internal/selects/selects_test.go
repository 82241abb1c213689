package selects_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/chunks"
	"github.com/promontory-io/promontory/libs/dedup"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/services/querier/internal/endpoints"
	"github.com/promontory-io/promontory/services/querier/internal/fakepeer"
	"github.com/promontory-io/promontory/services/querier/internal/fanout"
	"github.com/promontory-io/promontory/services/querier/internal/selects"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var up = labels.MustNewMatcher(labels.MatchEqual, "__name__", "up")

func lset(ss ...string) labels.Labels { return labels.FromStrings(ss...) }

func creator(cfg selects.Config, eps ...endpoints.Endpoint) *selects.Creator {
	return selects.New(fanout.New(endpoints.Static(eps), fanout.Config{}, zap.NewNop(), nil), cfg, nil)
}

func open(t *testing.T, c *selects.Creator, opts selects.Options, mint, maxt int64) storage.Querier {
	t.Helper()
	q, err := c.Queryable(opts).Querier(mint, maxt)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, q.Close()) })
	return q
}

type series struct {
	Labels  string
	Samples []fakepeer.Sample
}

func drain(t *testing.T, set storage.SeriesSet) (out []series) {
	t.Helper()
	var it chunkenc.Iterator
	for set.Next() {
		s := series{Labels: set.At().Labels().String()}
		it = set.At().Iterator(it)
		for it.Next() == chunkenc.ValFloat {
			ts, v := it.At()
			s.Samples = append(s.Samples, fakepeer.Sample{T: ts, V: v})
		}
		require.NoError(t, it.Err())
		out = append(out, s)
	}
	return out
}

// pair is an HA pair: b scrapes a bit later, and a misses samples 5 to 9.
func pair(t testing.TB) []endpoints.Endpoint {
	name := lset("__name__", "up", "job", "x")
	a := fakepeer.Series(t, name, fakepeer.Ramp(0, 1000, 5, 0), fakepeer.Ramp(10_000, 1000, 5, 10))
	b := fakepeer.Series(t, name, fakepeer.Ramp(100, 1000, 15, 0))
	return []endpoints.Endpoint{
		fakepeer.StartStore(t, &fakepeer.Store{External: lset("replica", "a"), Series: []storeapi.Series{a}}),
		fakepeer.StartStore(t, &fakepeer.Store{External: lset("replica", "b"), Series: []storeapi.Series{b}}),
	}
}

func TestReplicasBecomeOneSeriesWithoutGaps(t *testing.T) {
	t.Parallel()
	eps := pair(t)
	for _, fn := range []dedup.Func{dedup.Penalty, dedup.Chain, dedup.Exact} {
		t.Run(string(fn), func(t *testing.T) {
			t.Parallel()
			c := creator(selects.Config{Dedup: fn}, eps...)
			q := open(t, c, selects.Options{Dedup: true, ReplicaLabels: []string{"replica"}}, 100, 14_050)
			got := drain(t, q.Select(t.Context(), false, nil, up))
			require.Len(t, got, 1)
			require.Equal(t, `{__name__="up", job="x"}`, got[0].Labels)
			last := int64(99)
			for _, s := range got[0].Samples {
				require.Greater(t, s.T, last)
				require.Less(t, s.T-last, int64(3500), "a gap in %v", got[0].Samples)
				last = s.T
			}
			require.GreaterOrEqual(t, last, int64(13_000))
			require.LessOrEqual(t, last, int64(14_050), "clipped")
		})
	}
}

func TestWithoutDedupReplicasStayApart(t *testing.T) {
	t.Parallel()
	c := creator(selects.Config{}, pair(t)...)
	for name, opts := range map[string]selects.Options{
		"off":                     {Dedup: false, ReplicaLabels: []string{"replica"}},
		"nothing to tell them by": {Dedup: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := drain(t, open(t, c, opts, 0, 20_000).Select(t.Context(), false, nil, up))
			require.Len(t, got, 2)
			require.Equal(t, `{__name__="up", job="x", replica="a"}`, got[0].Labels)
			require.Equal(t, append(fakepeer.Ramp(0, 1000, 5, 0), fakepeer.Ramp(10_000, 1000, 5, 10)...), got[0].Samples)
			require.Equal(t, fakepeer.Ramp(100, 1000, 15, 0), got[1].Samples)
		})
	}
}

func TestOneSeriesCutDifferentlyInTwoStoresLosesNothing(t *testing.T) {
	t.Parallel()
	name := lset("__name__", "up")
	all := fakepeer.Ramp(0, 1000, 30, 0)
	ext := lset("replica", "a")
	c := creator(selects.Config{},
		fakepeer.StartStore(t, &fakepeer.Store{External: ext, Series: []storeapi.Series{fakepeer.Series(t, name, all[:12], all[12:20])}}),
		fakepeer.StartStore(t, &fakepeer.Store{External: ext, Series: []storeapi.Series{fakepeer.Series(t, name, all[10:])}}))
	for _, opts := range []selects.Options{{}, {Dedup: true, ReplicaLabels: []string{"replica"}}} {
		got := drain(t, open(t, c, opts, 0, 100_000).Select(t.Context(), false, nil, up))
		require.Len(t, got, 1)
		if !opts.Dedup {
			require.Equal(t, all, got[0].Samples)
		}
	}
}

func TestSamplesAreClippedToTheSelector(t *testing.T) {
	t.Parallel()
	c := creator(selects.Config{}, pair(t)[1])
	q := open(t, c, selects.Options{}, 0, 20_000)
	got := drain(t, q.Select(t.Context(), false, &storage.SelectHints{Start: 3_100, End: 5_100}, up))
	require.Equal(t, fakepeer.Ramp(3_100, 1000, 3, 3), got[0].Samples)
}

// asked is a store that keeps what it was asked for.
func asked(t *testing.T) (endpoints.Endpoint, chan *thanos.SeriesRequest) {
	ch := make(chan *thanos.SeriesRequest, 1)
	return fakepeer.StartStore(t, &fakepeer.Store{Requests: ch}), ch
}

func TestWhatStoresAreAskedFor(t *testing.T) {
	t.Parallel()
	hour := time.Hour.Milliseconds()
	for name, tc := range map[string]struct {
		merge dedup.Func
		opts  selects.Options
		hints *storage.SelectHints
		want  *thanos.SeriesRequest
	}{
		"no hints": {
			want: &thanos.SeriesRequest{MinTime: 5, MaxTime: 10, Aggregates: []thanos.Aggr{thanos.Aggr_COUNT, thanos.Aggr_SUM}, PartialResponseDisabled: true, PartialResponseStrategy: thanos.PartialResponseStrategy_ABORT},
		},
		"exact looks around": {
			opts:  selects.Options{PartialResponse: true, Dedup: true, ReplicaLabels: []string{"r"}},
			hints: &storage.SelectHints{Start: 10 * hour, End: 11 * hour, Func: "rate"},
			want: &thanos.SeriesRequest{
				MinTime: 10*hour - 300_000, MaxTime: 11*hour + 300_000, Aggregates: []thanos.Aggr{thanos.Aggr_COUNTER},
				WithoutReplicaLabels: []string{"r"}, QueryHints: &thanos.QueryHints{Func: &thanos.Func{Name: "rate"}},
			},
		},
		"rate is capped at half its range": {
			merge: dedup.Penalty,
			opts:  selects.Options{PartialResponse: true, MaxSourceResolution: time.Hour, Dedup: true, ReplicaLabels: []string{"r"}},
			hints: &storage.SelectHints{Start: 1, End: 2, Step: 3, Func: "rate", Range: hour, By: true, Grouping: []string{"job"}, Limit: 7},
			want: &thanos.SeriesRequest{
				MinTime: 1, MaxTime: 2, MaxResolutionWindow: hour / 2, Aggregates: []thanos.Aggr{thanos.Aggr_COUNTER},
				WithoutReplicaLabels: []string{"r"},
				QueryHints: &thanos.QueryHints{
					StepMillis: 3, Func: &thanos.Func{Name: "rate"}, Range: &thanos.Range{Millis: hour},
					Grouping: &thanos.Grouping{By: true, Labels: []string{"job"}},
				},
			},
		},
		"max_over_time is not": {
			opts:  selects.Options{PartialResponse: true, MaxSourceResolution: time.Hour, Shard: &thanos.ShardInfo{TotalShards: 2}},
			hints: &storage.SelectHints{Start: 1, End: 2, Func: "max_over_time", Range: hour},
			want: &thanos.SeriesRequest{
				MinTime: 1, MaxTime: 2, MaxResolutionWindow: hour, Aggregates: []thanos.Aggr{thanos.Aggr_MAX},
				ShardInfo:  &thanos.ShardInfo{TotalShards: 2},
				QueryHints: &thanos.QueryHints{Func: &thanos.Func{Name: "max_over_time"}, Range: &thanos.Range{Millis: hour}},
			},
		},
		"labels only": {
			opts:  selects.Options{PartialResponse: true},
			hints: &storage.SelectHints{Start: 1, End: 2, Func: "series"},
			want: &thanos.SeriesRequest{
				MinTime: 1, MaxTime: 2, SkipChunks: true, Aggregates: []thanos.Aggr{thanos.Aggr_COUNT, thanos.Aggr_SUM},
				QueryHints: &thanos.QueryHints{Func: &thanos.Func{Name: "series"}},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, ch := asked(t)
			require.Empty(t, drain(t, open(t, creator(selects.Config{Dedup: tc.merge}, e), tc.opts, 5, 10).Select(t.Context(), false, tc.hints, up)))
			tc.want.ResponseBatchSize = 64
			tc.want.Matchers = storeapi.WireMatchers([]*labels.Matcher{up})
			if tc.hints != nil {
				// The limit holds for merged series; a store may cut there too.
				tc.want.Limit = int64(tc.hints.Limit)
			}
			got := <-ch
			require.True(t, tc.want.EqualVT(got), "want %v\ngot  %v", tc.want, got)
		})
	}
}

func TestFailuresAreTypedWarningsOrErrors(t *testing.T) {
	t.Parallel()
	eps := append(pair(t), fakepeer.Endpoint(t, "127.0.0.1:1", &fakepeer.Store{External: lset("replica", "c")}))
	c := creator(selects.Config{}, eps...)
	q := open(t, c, selects.Options{PartialResponse: true}, 0, 20_000)
	set := q.Select(t.Context(), false, nil, up)
	require.Len(t, drain(t, set), 2)
	require.NoError(t, set.Err())
	require.Len(t, set.Warnings(), 1)
	for text, err := range set.Warnings() {
		var w selects.Warning
		require.ErrorAs(t, err, &w)
		require.Equal(t, text, err.Error())
		require.Contains(t, text, "127.0.0.1:1")
	}
	names, warned, err := q.LabelNames(t.Context(), &storage.LabelHints{Limit: 2})
	require.NoError(t, err)
	require.Len(t, names, 2)
	require.Len(t, warned, 1)

	q = open(t, c, selects.Options{}, 0, 20_000)
	set = q.Select(t.Context(), false, nil, up)
	for set.Next() {
	}
	require.ErrorIs(t, set.Err(), storeapi.ErrAborted)
	_, _, err = q.LabelValues(t.Context(), "job", nil)
	require.ErrorIs(t, err, storeapi.ErrAborted)
}

func TestSeriesComeBeforeTheStoreHasSentAll(t *testing.T) {
	t.Parallel()
	var all []storeapi.Series
	for i := range 70 {
		all = append(all, fakepeer.Series(t, lset("__name__", "up", "i", fmt.Sprintf("%03d", i)), fakepeer.Ramp(0, 1000, 2, 0)))
	}
	e := fakepeer.StartStore(t, &fakepeer.Store{Series: all, Hang: true, HangAfter: 66})
	q := open(t, creator(selects.Config{}, e), selects.Options{PartialResponse: true}, 0, 20_000)
	ctx, cancel := context.WithCancel(t.Context())
	set := q.Select(ctx, false, nil, up)
	// The last one might still get more chunks.
	for range 65 {
		require.True(t, set.Next())
	}
	kept := set.At()
	cancel()
	require.False(t, set.Next())
	require.ErrorIs(t, set.Err(), context.Canceled)
	require.NoError(t, q.Close())
	it := kept.Iterator(nil)
	require.Equal(t, chunkenc.ValFloat, it.Next(), "series stay readable")
}

func TestClosingEndsSelectsThatNobodyReads(t *testing.T) {
	t.Parallel()
	e := fakepeer.StartStore(t, &fakepeer.Store{Hang: true})
	q := open(t, creator(selects.Config{MaxConcurrent: 1}, e), selects.Options{}, 0, 20_000)
	for range 3 {
		q.Select(t.Context(), false, nil, up)
	}
	require.NoError(t, q.Close())
	set := q.Select(t.Context(), false, nil, up)
	require.False(t, set.Next())
	require.Error(t, set.Err())
}

func TestSelectsMayBeReadInAnyOrderWhateverTheGate(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	c := selects.New(fanout.New(endpoints.Static(pair(t)), fanout.Config{}, zap.NewNop(), nil), selects.Config{MaxConcurrent: 1}, reg)
	q := open(t, c, selects.Options{}, 0, 20_000)
	var sets []storage.SeriesSet
	for range 8 {
		sets = append(sets, q.Select(t.Context(), false, nil, up))
	}
	for i := range sets {
		require.Len(t, drain(t, sets[len(sets)-1-i]), 2)
	}
	families, err := reg.Gather()
	require.NoError(t, err)
	values := map[string]float64{}
	for _, f := range families {
		m := f.GetMetric()[0]
		values[f.GetName()] = m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
	}
	require.Equal(t, map[string]float64{
		"thanos_query_concurrent_selects_gate_selects_max":              1,
		"thanos_query_concurrent_selects_gate_selects_in_flight":        0,
		"thanos_query_concurrent_selects_gate_selects_total":            8,
		"thanos_query_concurrent_selects_gate_selects_duration_seconds": 8,
	}, values)
}

func TestEachSelectIsObservedOnce(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var got []selects.SelectStats
	opts := selects.Options{Observe: func(s selects.SelectStats) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, s)
	}}
	q := open(t, creator(selects.Config{}, pair(t)...), opts, 0, 20_000)
	drain(t, q.Select(t.Context(), false, nil, up))
	require.NoError(t, q.Close())
	require.Len(t, got, 1)
	require.EqualValues(t, 2, got[0].Series)
	require.EqualValues(t, 3, got[0].Chunks)
	require.Len(t, got[0].Stores, 2)
	require.Positive(t, got[0].Took)
}

func counterSeries(t testing.TB) (raw, aggregated storeapi.Series) {
	samples := []fakepeer.Sample{{T: 0, V: 10}, {T: 1000, V: 20}, {T: 2000, V: 5}, {T: 3000, V: 7}}
	raw = fakepeer.Series(t, lset("__name__", "up"), samples)
	aggregated = raw
	aggregated.Chunks = []chunks.AggrChunk{{MinTime: 0, MaxTime: 3000}}
	aggregated.Chunks[0].Set(chunks.Counter, raw.Chunks[0].Raw)
	return raw, aggregated
}

func TestCountersAreEvenedOutOnlyWhereTheEngineCannot(t *testing.T) {
	t.Parallel()
	raw, aggregated := counterSeries(t)
	asIs, even := []float64{10, 20, 5, 7}, []float64{10, 20, 25, 27}
	for name, tc := range map[string]struct {
		series   storeapi.Series
		function string
		want     []float64
	}{
		"raw, rate":   {raw, "rate", asIs},
		"raw, resets": {raw, "resets", asIs},
		"raw, sum":    {raw, "sum", asIs},
		"aggregated":  {aggregated, "rate", even},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := fakepeer.StartStore(t, &fakepeer.Store{Series: []storeapi.Series{tc.series}})
			q := open(t, creator(selects.Config{}, e), selects.Options{}, 0, 20_000)
			got := drain(t, q.Select(t.Context(), false, &storage.SelectHints{End: 20_000, Func: tc.function}, up))
			require.Len(t, got, 1)
			var values []float64
			for _, s := range got[0].Samples {
				values = append(values, s.V)
			}
			require.Equal(t, tc.want, values)
		})
	}
}

func TestAnEngineReadsThroughIt(t *testing.T) {
	t.Parallel()
	eng := promql.NewEngine(promql.EngineOpts{MaxSamples: 1e6, Timeout: time.Minute})
	t.Cleanup(func() { _ = eng.Close() })
	c := creator(selects.Config{MaxConcurrent: 1}, pair(t)...)
	for query, want := range map[string]float64{
		"sum(up)":                           14,
		"count(up)":                         1,
		"max_over_time(up[10s]) + on() up":  28,
		"count(up) + count(up) + count(up)": 3,
	} {
		q, err := eng.NewInstantQuery(t.Context(), c.Queryable(selects.Options{Dedup: true, ReplicaLabels: []string{"replica"}}), nil, query, time.UnixMilli(14_200))
		require.NoError(t, err)
		r := q.Exec(t.Context())
		require.NoError(t, r.Err, query)
		v, err := r.Vector()
		require.NoError(t, err)
		require.Len(t, v, 1, query)
		require.InDelta(t, want, v[0].F, 0, query)
		q.Close()
	}
}

func TestAPanicWhileOpeningIsAnError(t *testing.T) {
	t.Parallel()
	c := selects.New(panicking{}, selects.Config{}, nil)
	set := open(t, c, selects.Options{}, 0, 1).Select(t.Context(), false, nil, up)
	require.False(t, set.Next())
	require.ErrorContains(t, set.Err(), "boom")
}

// source lets fakes embed the interface beside a method of its name.
type source = selects.Series

type panicking struct{ source }

func (panicking) Series(context.Context, *thanos.SeriesRequest, []*labels.Matcher, fanout.Options) (storeapi.Stream, error) {
	panic(errors.New("boom"))
}
