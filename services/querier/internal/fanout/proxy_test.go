package fanout_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/services/querier/internal/endpoints"
	"github.com/promontory-io/promontory/services/querier/internal/fakepeer"
	"github.com/promontory-io/promontory/services/querier/internal/fanout"
	"github.com/promontory-io/promontory/services/querier/internal/receipt"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var up = labels.MustNewMatcher(labels.MatchEqual, "__name__", "up")

func lset(ss ...string) labels.Labels { return labels.FromStrings(ss...) }

// answer is what came out of a stream.
type answer struct {
	series   []string // labels and number of chunks
	warnings []string
	err      error
}

func newProxy(cfg fanout.Config, eps ...endpoints.Endpoint) *fanout.Proxy {
	return fanout.New(endpoints.Static(eps), cfg, zap.NewNop(), nil)
}

func read(ctx context.Context, p *fanout.Proxy, req *thanos.SeriesRequest, opts fanout.Options, ms ...*labels.Matcher) (a answer) {
	stream, err := p.Series(ctx, req, ms, opts)
	if err != nil {
		return answer{err: err}
	}
	defer stream.Close()
	for stream.Next() {
		a.series = append(a.series, fmt.Sprintf("%s %d", stream.At().Labels, len(stream.At().Chunks)))
	}
	a.err, a.warnings = stream.Err(), stream.Warnings()
	return a
}

func request(change ...func(*thanos.SeriesRequest)) *thanos.SeriesRequest {
	r := &thanos.SeriesRequest{MinTime: 0, MaxTime: 1_000_000, ResponseBatchSize: 2}
	for _, c := range change {
		c(r)
	}
	return r
}

func abort(r *thanos.SeriesRequest) {
	r.PartialResponseStrategy = thanos.PartialResponseStrategy_ABORT
}

func without(names ...string) func(*thanos.SeriesRequest) {
	return func(r *thanos.SeriesRequest) { r.WithoutReplicaLabels = names }
}

// ups are n series of the metric up.
func ups(t testing.TB, n int, from int64) (out []storeapi.Series) {
	for i := range n {
		out = append(out, fakepeer.Series(t, lset("__name__", "up", "i", fmt.Sprintf("%03d", i)), fakepeer.Ramp(from, 1000, 5, 1)))
	}
	return out
}

func TestSeriesOfAllStoresAreMergedInOrder(t *testing.T) {
	t.Parallel()
	a := fakepeer.StartStore(t, &fakepeer.Store{External: lset("replica", "a"), Series: ups(t, 3, 0)})
	b := fakepeer.StartStore(t, &fakepeer.Store{External: lset("replica", "b"), Series: ups(t, 2, 0)})
	stats := &receipt.Stats{}
	got := read(t.Context(), newProxy(fanout.Config{}, a, b), request(), fanout.Options{Stats: stats}, up)
	require.NoError(t, got.err)
	require.Empty(t, got.warnings)
	require.Equal(t, []string{
		`{__name__="up", i="000", replica="a"} 1`, `{__name__="up", i="000", replica="b"} 1`,
		`{__name__="up", i="001", replica="a"} 1`, `{__name__="up", i="001", replica="b"} 1`,
		`{__name__="up", i="002", replica="a"} 1`,
	}, got.series)
	total := int64(0)
	for _, s := range stats.All() {
		require.False(t, s.Missing())
		require.Positive(t, s.Bytes)
		require.Positive(t, s.FirstFrame)
		total += s.Series
	}
	require.EqualValues(t, 5, total)
}

func TestIdenticalChunksOfReplicasAppearOnce(t *testing.T) {
	t.Parallel()
	a := fakepeer.StartStore(t, &fakepeer.Store{External: lset("replica", "a"), Series: ups(t, 2, 0)})
	b := fakepeer.StartStore(t, &fakepeer.Store{External: lset("replica", "b"), Series: ups(t, 2, 0)})
	c := fakepeer.StartStore(t, &fakepeer.Store{External: lset("replica", "c"), Series: ups(t, 1, 500)})
	got := read(t.Context(), newProxy(fanout.Config{}, a, b, c), request(without("replica")), fanout.Options{}, up)
	require.NoError(t, got.err)
	require.Equal(t, []string{`{__name__="up", i="000"} 2`, `{__name__="up", i="001"} 1`}, got.series)
}

func TestStoresThatCannotRemoveLabelsOrShardAreAdapted(t *testing.T) {
	t.Parallel()
	// Without the label a the order of the two series is the other way round.
	series := []storeapi.Series{
		fakepeer.Series(t, lset("__name__", "up", "a", "1", "z", "2"), fakepeer.Ramp(0, 1000, 3, 1)),
		fakepeer.Series(t, lset("__name__", "up", "a", "2", "z", "1"), fakepeer.Ramp(0, 1000, 3, 1)),
	}
	old := fakepeer.StartStore(t, &fakepeer.Store{Ignore: true, External: lset("c", "x"), Series: series})
	fresh := fakepeer.StartStore(t, &fakepeer.Store{External: lset("c", "y"), Series: series})
	p := newProxy(fanout.Config{}, old, fresh)
	all := read(t.Context(), p, request(without("a")), fanout.Options{}, up)
	require.NoError(t, all.err)
	require.Equal(t, []string{
		`{__name__="up", c="x", z="1"} 1`, `{__name__="up", c="x", z="2"} 1`,
		`{__name__="up", c="y", z="1"} 1`, `{__name__="up", c="y", z="2"} 1`,
	}, all.series)
	var sharded []string
	for i := range int64(3) {
		got := read(t.Context(), p, request(without("a"), func(r *thanos.SeriesRequest) {
			r.ShardInfo = &thanos.ShardInfo{ShardIndex: i, TotalShards: 3, By: false, Labels: []string{"__name__"}}
		}), fanout.Options{}, up)
		require.NoError(t, got.err)
		sharded = append(sharded, got.series...)
	}
	require.ElementsMatch(t, all.series, sharded)

	names, err := p.LabelNames(t.Context(), &thanos.LabelNamesRequest{End: 1e6, WithoutReplicaLabels: []string{"a"}}, nil, fanout.Options{})
	require.NoError(t, err)
	require.Equal(t, []string{"__name__", "c", "z"}, names.GetNames())
}

func TestLimitCountsMergedSeries(t *testing.T) {
	t.Parallel()
	requests := make(chan *thanos.SeriesRequest, 2)
	a := fakepeer.StartStore(t, &fakepeer.Store{External: lset("replica", "a"), Series: ups(t, 9, 0), Requests: requests})
	old := fakepeer.StartStore(t, &fakepeer.Store{Ignore: true, External: lset("replica", "b"), Series: ups(t, 9, 0), Requests: requests})
	got := read(t.Context(), newProxy(fanout.Config{}, a, old), request(without("replica"), func(r *thanos.SeriesRequest) { r.Limit = 4 }), fanout.Options{}, up)
	require.NoError(t, got.err)
	require.Len(t, got.series, 4)
	require.ElementsMatch(t, []int64{4, 0}, []int64{(<-requests).GetLimit(), (<-requests).GetLimit()}, "not passed to a store whose answer changes afterwards")
}

// failure is a way in which a store can let us down after two of its series.
type failure struct {
	start func(t *testing.T) endpoints.Endpoint
	want  string // in the message
}

func failures() map[string]failure {
	ext := labels.FromStrings("replica", "bad")
	store := func(change func(*fakepeer.Store)) func(t *testing.T) endpoints.Endpoint {
		return func(t *testing.T) endpoints.Endpoint {
			s := &fakepeer.Store{External: ext, Series: ups(t, 4, 0)}
			change(s)
			return fakepeer.StartStore(t, s)
		}
	}
	raw := func(frames func(t *testing.T) [][]byte) func(t *testing.T) endpoints.Endpoint {
		return func(t *testing.T) endpoints.Endpoint {
			addr := fakepeer.Start(t, &fakepeer.Peer{Register: []func(grpc.ServiceRegistrar){fakepeer.Raw(func() [][]byte { return frames(t) })}})
			return fakepeer.Endpoint(t, addr, &fakepeer.Store{External: ext})
		}
	}
	return map[string]failure{
		"dies": {store(func(s *fakepeer.Store) { s.FailAfter, s.Err = 2, storeapi.Unavailablef("disk on fire") }), "disk on fire"},
		"reaches a limit": {
			store(func(s *fakepeer.Store) { s.FailAfter, s.Err = 2, storeapi.Limitf("too much") }),
			"rpc error: code = ResourceExhausted",
		},
		"hangs":             {store(func(s *fakepeer.Store) { s.HangAfter, s.Hang = 2, true }), "no frame within the response timeout"},
		"hangs at once":     {store(func(s *fakepeer.Store) { s.Hang = true }), "no frame within the response timeout"},
		"sends garbage":     {raw(func(*testing.T) [][]byte { return [][]byte{{0x0a, 0x7f, 1, 2, 3}} }), "decode series frame"},
		"sends it unsorted": {raw(unsorted), "not sorted"},
		"does not serve us": {func(t *testing.T) endpoints.Endpoint {
			return fakepeer.Endpoint(t, fakepeer.Start(t, &fakepeer.Peer{}), &fakepeer.Store{External: ext})
		}, "Unimplemented"},
		"is not there": {func(t *testing.T) endpoints.Endpoint {
			return fakepeer.Endpoint(t, "127.0.0.1:1", &fakepeer.Store{External: ext})
		}, "refused"},
		"was lost before": {func(t *testing.T) endpoints.Endpoint {
			return lost(fakepeer.Endpoint(t, "127.0.0.1:1", &fakepeer.Store{External: ext}))
		}, "gone fishing"},
	}
}

func lost(e endpoints.Endpoint) endpoints.Endpoint {
	e.Err = errors.New("gone fishing")
	return e
}

func unsorted(t *testing.T) [][]byte {
	var out [][]byte
	for _, i := range []string{"2", "1"} {
		resp := &thanos.SeriesResponse{Result: &thanos.SeriesResponse_Series{Series: &thanos.Series{
			Labels: storeapi.LabelSet(lset("__name__", "up", "i", i, "replica", "bad")).GetLabels(),
		}}}
		b, err := resp.MarshalVT()
		require.NoError(t, err)
		out = append(out, b)
	}
	return out
}

func TestAStoreThatFailsIsNamedAndTheRestGoesOn(t *testing.T) {
	t.Parallel()
	for name, tc := range failures() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad := tc.start(t)
			good := fakepeer.StartStore(t, &fakepeer.Store{External: lset("replica", "good"), Series: ups(t, 3, 0)})
			p := newProxy(fanout.Config{ResponseTimeout: 300 * time.Millisecond}, bad, good)
			stats := &receipt.Stats{}
			got := read(t.Context(), p, request(), fanout.Options{Stats: stats}, up)
			require.NoError(t, got.err)
			require.Len(t, got.warnings, 1)
			require.Contains(t, got.warnings[0], tc.want)
			require.Contains(t, got.warnings[0], bad.Addr)
			require.Contains(t, got.warnings[0], `{replica="bad"}`)
			require.Contains(t, got.warnings[0], "1970-01-01T00:16:40Z", "the range that may be missing ends with the request")
			goodSeries := 0
			for _, s := range got.series {
				if strings.Contains(s, "good") {
					goodSeries++
				}
			}
			require.Equal(t, 3, goodSeries, "of %v", got.series)
			for _, s := range stats.All() {
				require.Equal(t, s.Addr == bad.Addr, s.Missing(), s.Addr)
			}

			got = read(t.Context(), p, request(abort), fanout.Options{}, up)
			require.ErrorIs(t, got.err, storeapi.ErrAborted)
			require.Equal(t, codes.Aborted, storeapi.Code(got.err))
			require.Contains(t, got.err.Error(), bad.Addr)
			require.Contains(t, got.err.Error(), tc.want)
		})
	}
}

func TestWarningsOfStoresArePassedOnOrFatal(t *testing.T) {
	t.Parallel()
	e := fakepeer.StartStore(t, &fakepeer.Store{Series: ups(t, 1, 0), Warnings: []string{"block 7 is broken"}})
	p := newProxy(fanout.Config{}, e)
	got := read(t.Context(), p, request(), fanout.Options{}, up)
	require.NoError(t, got.err)
	require.Equal(t, []string{e.Describe() + " warns: block 7 is broken"}, got.warnings, "who warns is named")
	require.Len(t, got.series, 1)
	got = read(t.Context(), p, request(abort), fanout.Options{}, up)
	require.ErrorIs(t, got.err, storeapi.ErrAborted)
	require.Contains(t, got.err.Error(), "block 7 is broken")

	names, err := p.LabelNames(t.Context(), &thanos.LabelNamesRequest{End: 1e6}, nil, fanout.Options{})
	require.NoError(t, err)
	require.Equal(t, []string{e.Describe() + " warns: block 7 is broken"}, names.GetWarnings())
	_, err = p.LabelNames(t.Context(), &thanos.LabelNamesRequest{End: 1e6, PartialResponseDisabled: true}, nil, fanout.Options{})
	require.ErrorIs(t, err, storeapi.ErrAborted)
}

func TestACallerWhoLeavesIsNobodysFault(t *testing.T) {
	t.Parallel()
	e := fakepeer.StartStore(t, &fakepeer.Store{Series: ups(t, 1, 0), Hang: true})
	for _, r := range []*thanos.SeriesRequest{request(), request(abort)} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		got := read(ctx, newProxy(fanout.Config{}, e), r, fanout.Options{}, up)
		cancel()
		require.ErrorIs(t, got.err, context.DeadlineExceeded)
		require.ErrorContains(t, got.err, "while waiting for endpoint "+e.Addr, "who took all the time is named")
		require.Empty(t, got.warnings)

		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(50*time.Millisecond, cancel)
		got = read(ctx, newProxy(fanout.Config{}, e), r, fanout.Options{}, up)
		require.Equal(t, context.Canceled, got.err)

		ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
		_, err := newProxy(fanout.Config{}, e).LabelNames(ctx, &thanos.LabelNamesRequest{End: 1e6}, nil, fanout.Options{})
		cancel()
		require.ErrorIs(t, err, context.DeadlineExceeded)
	}
}

func TestWithoutStores(t *testing.T) {
	t.Parallel()
	p := newProxy(fanout.Config{}, endpoints.Endpoint{Addr: "x", Rules: true})
	got := read(t.Context(), p, request(), fanout.Options{}, up)
	require.NoError(t, got.err)
	require.Empty(t, got.series)
	got = read(t.Context(), p, request(abort), fanout.Options{}, up)
	require.ErrorContains(t, got.err, "No StoreAPIs available")
	names, err := p.LabelNames(t.Context(), &thanos.LabelNamesRequest{PartialResponseDisabled: true}, nil, fanout.Options{})
	require.NoError(t, err)
	require.Empty(t, names.GetNames())
	_, err = p.LabelValues(t.Context(), &thanos.LabelValuesRequest{}, nil, fanout.Options{})
	require.ErrorIs(t, err, storeapi.ErrInvalid)
}

func TestOnlyStoresThatCanHaveAnAnswerAreAsked(t *testing.T) {
	t.Parallel()
	eu := fakepeer.StartStore(t, &fakepeer.Store{External: lset("cluster", "eu"), Series: ups(t, 1, 0)})
	us := fakepeer.StartStore(t, &fakepeer.Store{External: lset("cluster", "us"), Series: ups(t, 1, 0)})
	late := fakepeer.StartStore(t, &fakepeer.Store{External: lset("cluster", "late"), Series: ups(t, 1, 0)})
	late.Store.TimeRange = endpoints.TimeRange{MinTime: 2_000_000, MaxTime: 3_000_000}
	match := func(typ labels.MatchType, name, value string) *labels.Matcher {
		return labels.MustNewMatcher(typ, name, value)
	}
	for name, tc := range map[string]struct {
		req  *thanos.SeriesRequest
		cfg  fanout.Config
		opts fanout.Options
		ms   []*labels.Matcher
		want []string
	}{
		"time":              {want: []string{eu.Addr, us.Addr}},
		"later":             {req: request(func(r *thanos.SeriesRequest) { r.MinTime, r.MaxTime = 3_000_000, 4_000_000 }), want: []string{eu.Addr, us.Addr, late.Addr}},
		"label":             {ms: []*labels.Matcher{match(labels.MatchEqual, "cluster", "us")}, want: []string{us.Addr}},
		"absent label":      {ms: []*labels.Matcher{match(labels.MatchEqual, "zone", "")}, want: []string{eu.Addr, us.Addr}},
		"store matcher":     {opts: fanout.Options{StoreMatchers: [][]*labels.Matcher{{match(labels.MatchEqual, "__address__", eu.Addr)}}}, want: []string{eu.Addr}},
		"store matchers":    {opts: fanout.Options{StoreMatchers: [][]*labels.Matcher{{match(labels.MatchEqual, "__address__", eu.Addr)}, {match(labels.MatchEqual, "__address__", us.Addr)}}}, want: []string{eu.Addr, us.Addr}},
		"other matcher":     {opts: fanout.Options{StoreMatchers: [][]*labels.Matcher{{match(labels.MatchEqual, "__name__", "bad")}}}, want: []string{eu.Addr, us.Addr}},
		"own label rejects": {cfg: fanout.Config{SelectorLabels: lset("own", "1")}, ms: []*labels.Matcher{match(labels.MatchEqual, "own", "2")}},
		"own label agrees":  {cfg: fanout.Config{SelectorLabels: lset("own", "1")}, ms: []*labels.Matcher{match(labels.MatchEqual, "own", "1")}, want: []string{eu.Addr, us.Addr}},
		"relabel": {cfg: fanout.Config{Relabel: []*relabel.Config{{
			SourceLabels: model.LabelNames{"cluster"}, Regex: relabel.MustNewRegexp("eu"), Action: relabel.Drop, Separator: ";",
		}}}, want: []string{us.Addr}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			req := tc.req
			if req == nil {
				req = request()
			}
			stats := &receipt.Stats{}
			opts := tc.opts
			opts.Stats = stats
			got := read(t.Context(), newProxy(tc.cfg, eu, us, late), req, opts, append(tc.ms, up)...)
			require.NoError(t, got.err)
			var asked []string
			for _, s := range stats.All() {
				asked = append(asked, s.Addr)
			}
			require.ElementsMatch(t, tc.want, asked)
		})
	}
}

func TestSelectorRestrictsStoresWithSeveralDatabases(t *testing.T) {
	t.Parallel()
	requests := make(chan *thanos.SeriesRequest, 1)
	e := fakepeer.StartStore(t, &fakepeer.Store{Series: ups(t, 1, 0), Requests: requests})
	for _, l := range []labels.Labels{lset("c", "a.b", "z", "1"), lset("c", "d"), lset("c", "e")} {
		e.Store.TSDBs = append(e.Store.TSDBs, endpoints.TSDBInfo{Labels: l})
	}
	p := newProxy(fanout.Config{Relabel: []*relabel.Config{{
		SourceLabels: model.LabelNames{"c"}, Regex: relabel.MustNewRegexp("e"), Action: relabel.Drop, Separator: ";",
	}}}, e)
	require.NoError(t, read(t.Context(), p, request(), fanout.Options{}, up).err)
	ms, err := storeapi.Matchers((<-requests).GetMatchers())
	require.NoError(t, err)
	require.Equal(t, `{__name__="up", c=~"a\\.b|d", z=~"1|^$"}`, storeapi.FormatMatchers(ms))
}

func TestRequestsWithoutRealMatchersAreInvalid(t *testing.T) {
	t.Parallel()
	e := fakepeer.StartStore(t, &fakepeer.Store{External: lset("cluster", "eu"), Series: ups(t, 1, 0)})
	p := newProxy(fanout.Config{SelectorLabels: lset("own", "1")}, e)
	for _, ms := range [][]*labels.Matcher{
		nil,
		{labels.MustNewMatcher(labels.MatchEqual, "own", "1")},
		{labels.MustNewMatcher(labels.MatchEqual, "cluster", "eu")},
	} {
		require.ErrorIs(t, read(t.Context(), p, request(), fanout.Options{}, ms...).err, storeapi.ErrInvalid)
	}
	require.ErrorIs(t, read(t.Context(), p, request(func(r *thanos.SeriesRequest) { r.MaxTime = -1 }), fanout.Options{}, up).err, storeapi.ErrInvalid)
}

func TestEmptyStreamsAreCounted(t *testing.T) {
	t.Parallel()
	e := fakepeer.StartStore(t, &fakepeer.Store{Series: ups(t, 1, 0)})
	reg := prometheus.NewRegistry()
	p := fanout.New(endpoints.Static{e}, fanout.Config{}, zap.NewNop(), reg)
	require.Empty(t, read(t.Context(), p, request(), fanout.Options{}, labels.MustNewMatcher(labels.MatchEqual, "__name__", "nope")).series)
	require.Len(t, read(t.Context(), p, request(), fanout.Options{}, up).series, 1)
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP thanos_proxy_store_empty_stream_responses_total Streams of stores that ended well without a series: the store was asked in vain.
# TYPE thanos_proxy_store_empty_stream_responses_total counter
thanos_proxy_store_empty_stream_responses_total 1
`), "thanos_proxy_store_empty_stream_responses_total"))
}

func TestLabelCallsJoinAnswersAndNameWhoFails(t *testing.T) {
	t.Parallel()
	good := fakepeer.StartStore(t, &fakepeer.Store{External: lset("replica", "good"), Series: ups(t, 3, 0)})
	other := fakepeer.StartStore(t, &fakepeer.Store{External: lset("replica", "other"), Series: ups(t, 2, 0)})
	for name, bad := range map[string]endpoints.Endpoint{
		"dies":  fakepeer.StartStore(t, &fakepeer.Store{External: lset("replica", "bad"), Err: storeapi.Unavailablef("no")}),
		"hangs": fakepeer.StartStore(t, &fakepeer.Store{External: lset("replica", "bad"), Hang: true}),
		"lost":  lost(fakepeer.Endpoint(t, "127.0.0.1:1", &fakepeer.Store{External: lset("replica", "bad")})),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newProxy(fanout.Config{ResponseTimeout: 200 * time.Millisecond}, good, other, bad)
			values, err := p.LabelValues(t.Context(), &thanos.LabelValuesRequest{Label: "replica", End: 1e6}, []*labels.Matcher{up}, fanout.Options{})
			require.NoError(t, err)
			require.Equal(t, []string{"good", "other"}, values.GetValues())
			require.Len(t, values.GetWarnings(), 1)
			require.Contains(t, values.GetWarnings()[0], bad.Addr)
			values, err = p.LabelValues(t.Context(), &thanos.LabelValuesRequest{Label: "i", End: 1e6, Limit: 2}, []*labels.Matcher{up}, fanout.Options{})
			require.NoError(t, err)
			require.Equal(t, []string{"000", "001"}, values.GetValues())
			_, err = p.LabelNames(t.Context(), &thanos.LabelNamesRequest{
				End: 1e6, PartialResponseStrategy: thanos.PartialResponseStrategy_ABORT,
			}, []*labels.Matcher{up}, fanout.Options{})
			require.ErrorIs(t, err, storeapi.ErrAborted)
			require.ErrorContains(t, err, bad.Addr)
		})
	}
}

func TestAnnouncements(t *testing.T) {
	t.Parallel()
	store := func(mint, maxt int64, sets ...labels.Labels) endpoints.Endpoint {
		return endpoints.Endpoint{LabelSets: sets, Store: &endpoints.StoreInfo{TimeRange: endpoints.TimeRange{MinTime: mint, MaxTime: maxt}}}
	}
	p := newProxy(fanout.Config{SelectorLabels: lset("own", "1")}, store(5, 9, lset("a", "1"), lset("a", "2")), store(3, 7, lset("a", "1")))
	require.Equal(t, `[{a="1", own="1"} {a="2", own="1"}]`, fmt.Sprint(p.LabelSets()))
	require.Equal(t, endpoints.TimeRange{MinTime: 3, MaxTime: 9}, p.TimeRange())
	p = newProxy(fanout.Config{SelectorLabels: lset("own", "1")})
	require.Equal(t, `[{own="1"}]`, fmt.Sprint(p.LabelSets()))
}
