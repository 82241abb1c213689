package grpcapi_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/promontory-io/promontory/libs/service/requestctx"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/libs/storeapi/storeapitest"
	"github.com/promontory-io/promontory/libs/tsdbstore"
	prometheuscopy "github.com/promontory-io/promontory/proto/gen/prometheus_copy"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/proto/gen/thanos/info"
	"github.com/promontory-io/promontory/services/querier/internal/deny"
	"github.com/promontory-io/promontory/services/querier/internal/endpoints"
	"github.com/promontory-io/promontory/services/querier/internal/fakepeer"
	"github.com/promontory-io/promontory/services/querier/internal/fanout"
	"github.com/promontory-io/promontory/services/querier/internal/gather"
	"github.com/promontory-io/promontory/services/querier/internal/grpcapi"
	"github.com/promontory-io/promontory/services/querier/internal/selects"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// promEngine is Prometheus' engine as the server wants it.
type promEngine struct{ *promql.Engine }

func (e promEngine) NewQuery(ctx context.Context, q storage.Queryable, spec grpcapi.QuerySpec) (promql.Query, error) {
	opts := promql.NewPrometheusQueryOpts(false, spec.LookbackDelta)
	if spec.Step > 0 {
		return e.NewRangeQuery(ctx, q, opts, spec.Text, spec.Start, spec.End, spec.Step)
	}
	return e.NewInstantQuery(ctx, q, opts, spec.Text, spec.Start)
}

// querier is a querier over peers, with its address.
type querier struct {
	addr string
	conn *grpc.ClientConn
	set  *endpoints.Set
}

type options struct {
	cfg     grpcapi.Config
	proxy   fanout.Config
	notYet  bool
	timeout time.Duration
	deny    []string
}

// startQuerier serves a querier over the peers at addrs.
func startQuerier(t *testing.T, opts options, addrs ...string) querier {
	t.Helper()
	set := endpoints.NewSet(endpoints.DefaultConfig(), endpoints.Deps{
		Discover: func() (out []endpoints.Target) {
			for _, a := range addrs {
				out = append(out, endpoints.Target{Addr: a})
			}
			return out
		},
		Dial: func(tg endpoints.Target) (endpoints.Conn, error) {
			return grpc.NewClient("passthrough:///"+tg.Addr, storeapi.DialOption(), grpc.WithTransportCredentials(insecure.NewCredentials()))
		},
		Logger: zap.NewNop(),
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- set.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	<-set.Ready()

	engine := promql.NewEngine(promql.EngineOpts{MaxSamples: 1e7, Timeout: time.Minute})
	t.Cleanup(func() { _ = engine.Close() })
	proxy := fanout.New(set, opts.proxy, zap.NewNop(), nil)
	denied, err := deny.Parse(opts.deny)
	require.NoError(t, err)
	srv := grpcapi.New(opts.cfg, grpcapi.Deps{
		Proxy:    proxy,
		Gatherer: gather.New(set, gather.Config{ResponseTimeout: opts.timeout}, zap.NewNop()),
		Selects:  selects.New(proxy, selects.Config{MaxConcurrent: 4}, nil),
		Engine:   promEngine{engine},
		Deny:     denied,
		Ready:    func() bool { return !opts.notYet },
		Logger:   zap.NewNop(), Registerer: prometheus.NewRegistry(),
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr, stop := fakepeer.Serve(t, &fakepeer.Peer{Register: []func(grpc.ServiceRegistrar){srv.Register}}, l)
	t.Cleanup(stop)
	return querier{addr: addr, conn: fakepeer.Dial(t, addr), set: set}
}

// startTSDB serves a database with the given data and returns its address.
func startTSDB(t *testing.T, data storeapitest.Data) string {
	t.Helper()
	opts := tsdb.DefaultOptions()
	opts.MinBlockDuration, opts.MaxBlockDuration = 24*3_600_000, 24*3_600_000
	db, err := tsdb.Open(t.TempDir(), nil, nil, opts, nil)
	require.NoError(t, err)
	db.DisableCompactions()
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	data.Append(t, db.Appender(t.Context()))
	store := tsdbstore.New(db, func() labels.Labels { return data.External })
	mint, err := store.MinTime()
	require.NoError(t, err)
	lset := storeapi.LabelSet(data.External)
	return fakepeer.Start(t, &fakepeer.Peer{
		Info: &info.InfoResponse{
			ComponentType: endpoints.ComponentSidecar, LabelSets: []*thanos.LabelSet{lset},
			Store: &info.StoreInfo{
				MinTime: mint, MaxTime: storeapitest.End, SupportsSharding: true, SupportsWithoutReplicaLabels: true,
				TsdbInfos: []*info.TSDBInfo{{Labels: lset, MinTime: mint, MaxTime: storeapitest.End}},
			},
		},
		Register: []func(grpc.ServiceRegistrar){func(r grpc.ServiceRegistrar) { storeapi.Register(r, store, storeapi.ServerConfig{}) }},
	})
}

func TestAQuerierMeetsTheContractOfAStore(t *testing.T) {
	storeapitest.Run(t, func(t *testing.T, data storeapitest.Data) *grpc.ClientConn {
		return startQuerier(t, options{}, startTSDB(t, data)).conn
	})
}

func TestAQuerierOverAQuerierMeetsTheContractOfAStore(t *testing.T) {
	storeapitest.Run(t, func(t *testing.T, data storeapitest.Data) *grpc.ClientConn {
		return startQuerier(t, options{}, startQuerier(t, options{}, startTSDB(t, data)).addr).conn
	})
}

func samples(n int) (out []storeapitest.Sample) {
	for i := range n {
		out = append(out, storeapitest.Sample{T: storeapitest.Start + int64(i)*15_000, V: float64(i)})
	}
	return out
}

func TestInfoAnnouncesWhatIsBehindTheQuerier(t *testing.T) {
	t.Parallel()
	mk := func(replica string) string {
		return startTSDB(t, storeapitest.Data{
			External: labels.FromStrings("replica", replica),
			Series:   []storeapitest.Series{{Labels: labels.FromStrings("__name__", "up"), Samples: samples(10)}},
		})
	}
	own := fanout.Config{SelectorLabels: labels.FromStrings("region", "eu")}
	q := startQuerier(t, options{proxy: own}, mk("a"), mk("b"))
	got, err := info.NewInfoClient(q.conn).Info(t.Context(), &info.InfoRequest{})
	require.NoError(t, err)
	require.Equal(t, "query", got.GetComponentType())
	var sets []string
	for _, s := range got.GetLabelSets() {
		sets = append(sets, storeapi.Labels(s).String())
	}
	require.Equal(t, []string{`{region="eu", replica="a"}`, `{region="eu", replica="b"}`}, sets)
	require.Equal(t, storeapitest.Start, got.GetStore().GetMinTime())
	require.Equal(t, storeapitest.End, got.GetStore().GetMaxTime())
	require.True(t, got.GetStore().GetSupportsSharding())
	require.True(t, got.GetStore().GetSupportsWithoutReplicaLabels())
	require.Len(t, got.GetStore().GetTsdbInfos(), 2)
	require.NotNil(t, got.GetRules())
	require.NotNil(t, got.GetTargets())
	require.NotNil(t, got.GetMetricMetadata())
	require.NotNil(t, got.GetExemplars())
	require.NotNil(t, got.GetQuery())
	require.NotNil(t, got.GetStatus())

	q = startQuerier(t, options{notYet: true})
	_, err = info.NewInfoClient(q.conn).Info(t.Context(), &info.InfoRequest{})
	require.ErrorContains(t, err, "Not ready")
}

func TestOurOwnLimitsRefuseLargeAnswers(t *testing.T) {
	t.Parallel()
	addr := startTSDB(t, storeapitest.Data{External: labels.FromStrings("replica", "a"), Series: []storeapitest.Series{
		{Labels: labels.FromStrings("__name__", "up", "i", "1"), Samples: samples(10)},
		{Labels: labels.FromStrings("__name__", "up", "i", "2"), Samples: samples(10)},
	}})
	for _, limits := range []storeapi.Limits{{Series: 1}, {Samples: 130}} {
		q := startQuerier(t, options{cfg: grpcapi.Config{Limits: limits}}, addr)
		stream := storeapi.NewClient(q.conn).Series(t.Context(), &thanos.SeriesRequest{
			MaxTime: storeapitest.End, Matchers: []*thanos.LabelMatcher{{Name: "__name__", Value: "up"}},
		}, storeapi.StreamOptions{})
		for stream.Next() {
		}
		require.ErrorIs(t, stream.Err(), storeapi.ErrLimit)
		stream.Close()
	}
}

func TestAWarningTravelsThroughStackedQueriers(t *testing.T) {
	t.Parallel()
	bad := &fakepeer.Store{External: labels.FromStrings("replica", "bad"), Err: storeapi.Unavailablef("disk on fire")}
	addr := fakepeer.Start(t, &fakepeer.Peer{
		Info: &info.InfoResponse{
			ComponentType: "sidecar", LabelSets: []*thanos.LabelSet{storeapi.LabelSet(bad.External)},
			Store: &info.StoreInfo{MinTime: 0, MaxTime: 1 << 50, SupportsSharding: true, SupportsWithoutReplicaLabels: true},
		},
		Register: []func(grpc.ServiceRegistrar){fakepeer.RegisterStore(bad)},
	})
	inner := startQuerier(t, options{}, addr)
	outer := startQuerier(t, options{}, inner.addr)
	ask := func(s thanos.PartialResponseStrategy) *storeapi.ClientStream {
		stream := storeapi.NewClient(outer.conn).Series(t.Context(), &thanos.SeriesRequest{
			MaxTime: 1000, PartialResponseStrategy: s, Matchers: []*thanos.LabelMatcher{{Name: "__name__", Value: "up"}},
		}, storeapi.StreamOptions{})
		t.Cleanup(stream.Close)
		require.False(t, stream.Next())
		return stream
	}
	warned := ask(thanos.PartialResponseStrategy_WARN)
	require.NoError(t, warned.Err())
	require.Len(t, warned.Warnings(), 1)
	require.Contains(t, warned.Warnings()[0], addr)
	require.Contains(t, warned.Warnings()[0], "disk on fire")
	failed := ask(thanos.PartialResponseStrategy_ABORT)
	require.ErrorIs(t, failed.Err(), storeapi.ErrAborted)
	require.ErrorContains(t, failed.Err(), addr)
}

// answer is the frames of a Query call.
type answer struct {
	warnings []string
	series   []*prometheuscopy.TimeSeries
	batches  int
	stats    *thanos.QueryStats
	kinds    string // of the frames, in order
}

func readAll[M interface {
	GetWarnings() string
	GetTimeseries() *prometheuscopy.TimeSeries
	GetTimeseriesBatch() *thanos.TimeSeriesBatch
	GetStats() *thanos.QueryStats
}](recv func() (M, error)) (a answer, err error) {
	for {
		m, err := recv()
		if err != nil {
			return a, err
		}
		switch {
		case m.GetWarnings() != "":
			a.warnings, a.kinds = append(a.warnings, m.GetWarnings()), a.kinds+"w"
		case m.GetTimeseries() != nil:
			a.series, a.kinds = append(a.series, m.GetTimeseries()), a.kinds+"s"
		case m.GetTimeseriesBatch() != nil:
			a.series, a.kinds = append(a.series, m.GetTimeseriesBatch().GetSeries()...), a.kinds+"b"
			a.batches++
		case m.GetStats() != nil:
			a.stats, a.kinds = m.GetStats(), a.kinds+"."
		}
	}
}

func TestQueriesAreEvaluatedForPeers(t *testing.T) {
	t.Parallel()
	var addrs []string
	for _, replica := range []string{"a", "b"} {
		data := storeapitest.Data{External: labels.FromStrings("replica", replica)}
		for _, i := range []string{"1", "2", "3"} {
			data.Series = append(data.Series, storeapitest.Series{Labels: labels.FromStrings("__name__", "up", "i", i), Samples: samples(20)})
		}
		addrs = append(addrs, startTSDB(t, data))
	}
	q := startQuerier(t, options{cfg: grpcapi.Config{QueryTimeout: time.Minute, ReplicaLabels: []string{"replica"}}}, append(addrs, "127.0.0.1:1")...)
	client := thanos.NewQueryClient(q.conn)
	at := storeapitest.Start/1000 + 60
	instant := func(req *thanos.QueryRequest) (answer, error) {
		req.TimeSeconds = at
		stream, err := client.Query(t.Context(), req)
		require.NoError(t, err)
		return readAll(stream.Recv)
	}
	eof := func(err error) { t.Helper(); require.ErrorContains(t, err, "EOF") }

	a, err := instant(&thanos.QueryRequest{Query: "up", EnableDedup: true, EnablePartialResponse: true})
	eof(err)
	require.Equal(t, "wsss.", a.kinds, "warnings, series, statistics")
	require.Contains(t, a.warnings[0], "127.0.0.1:1")
	require.EqualValues(t, 4, a.series[0].GetSamples()[0].GetValue())
	require.EqualValues(t, at*1000, a.series[0].GetSamples()[0].GetTimestamp())
	require.Positive(t, a.stats.GetSamplesTotal())

	a, err = instant(&thanos.QueryRequest{Query: "up", EnablePartialResponse: true, ResponseBatchSize: 4})
	eof(err)
	require.Equal(t, "wbb.", a.kinds)
	require.Len(t, a.series, 6, "replicas apart")

	a, err = instant(&thanos.QueryRequest{Query: "up", EnablePartialResponse: true, StoreMatchers: []*thanos.StoreMatchers{{
		LabelMatchers: []*thanos.LabelMatcher{{Name: "__address__", Value: addrs[0]}},
	}}})
	eof(err)
	require.Equal(t, "sss.", a.kinds)

	a, err = instant(&thanos.QueryRequest{Query: "1 + 1"})
	eof(err)
	require.Equal(t, "s.", a.kinds)
	require.Empty(t, a.series[0].GetLabels())
	require.EqualValues(t, 2, a.series[0].GetSamples()[0].GetValue())

	_, err = instant(&thanos.QueryRequest{Query: "sum(("})
	require.Equal(t, codes.Unknown, status.Code(err))
	require.Equal(t, "1:6: parse error: unclosed left parenthesis", status.Convert(err).Message())

	_, err = instant(&thanos.QueryRequest{Query: "up"})
	require.Equal(t, codes.Aborted, status.Code(err), "a peer is missing and nothing may be")

	a, err = instant(&thanos.QueryRequest{Query: `label_replace(up, "i", "x", "", "")`, EnableDedup: true, EnablePartialResponse: true})
	eof(err)
	require.Equal(t, "w", a.kinds, "a failure under partial response is a warning")

	ranged := func(req *thanos.QueryRangeRequest) (answer, error) {
		stream, err := client.QueryRange(t.Context(), req)
		require.NoError(t, err)
		return readAll(stream.Recv)
	}
	a, err = ranged(&thanos.QueryRangeRequest{Query: "sum(up)", StartTimeSeconds: at, EndTimeSeconds: at + 60, IntervalSeconds: 30, EnableDedup: true, EnablePartialResponse: true})
	eof(err)
	require.Equal(t, "ws.", a.kinds)
	require.Len(t, a.series[0].GetSamples(), 3)
	require.EqualValues(t, 12, a.series[0].GetSamples()[0].GetValue())
	for _, req := range []*thanos.QueryRangeRequest{{Query: "up"}, {Query: "up", StartTimeSeconds: 2, EndTimeSeconds: 1, IntervalSeconds: 1}} {
		_, err = ranged(req)
		require.Equal(t, codes.InvalidArgument, status.Code(err))
	}
}

// asked puts a query at one instant and over a range.
func asked(t *testing.T, q querier, text string) (out []answer, errs []error) {
	t.Helper()
	client := thanos.NewQueryClient(q.conn)
	at := storeapitest.Start/1000 + 240
	instant, err := client.Query(t.Context(), &thanos.QueryRequest{Query: text, TimeSeconds: at})
	require.NoError(t, err)
	a, err := readAll(instant.Recv)
	out, errs = append(out, a), append(errs, err)
	ranged, err := client.QueryRange(t.Context(), &thanos.QueryRangeRequest{Query: text, StartTimeSeconds: at, EndTimeSeconds: at + 30, IntervalSeconds: 30})
	require.NoError(t, err)
	a, err = readAll(ranged.Recv)
	return append(out, a), append(errs, err)
}

func TestPeersOfATenantSeeItsOwnOnly(t *testing.T) {
	t.Parallel()
	var addrs []string
	for _, tenant := range []string{requestctx.DefaultTenant, "other"} {
		addrs = append(addrs, startTSDB(t, storeapitest.Data{
			External: labels.FromStrings("tenant_id", tenant),
			Series:   []storeapitest.Series{{Labels: labels.FromStrings("__name__", "up"), Samples: samples(30)}},
		}))
	}
	q := startQuerier(t, options{cfg: grpcapi.Config{QueryTimeout: time.Minute, EnforceLabel: "tenant_id"}}, addrs...)
	for text, want := range map[string]int{
		`up`:                            1,
		`count(up) == 1`:                1,
		`up{tenant_id="other"}`:         0,
		`up{tenant_id=~".+"} offset 1m`: 1,
		`count(up or up{tenant_id="other"}) == 1`:                                            1,
		`max_over_time(count(up{tenant_id=~".*"})[2m:30s]) == 1`:                             1,
		`sum(max_over_time(sum_over_time(up{tenant_id="other"}[1m])[2m:30s])) or vector(-1)`: 1,
		`absent(up{tenant_id="other"})`:                                                      1,
	} {
		answers, errs := asked(t, q, text)
		for i, a := range answers {
			require.ErrorContains(t, errs[i], "EOF", text)
			require.Len(t, a.series, want, text)
			for _, s := range a.series {
				for _, l := range s.GetLabels() {
					require.False(t, l.GetName() == "tenant_id" && l.GetValue() != requestctx.DefaultTenant, text)
				}
			}
		}
	}
	for _, text := range []string{`sum(max_over_time(sum_over_time(up{tenant_id="other"}[1m])[2m:30s])) or vector(-1)`} {
		answers, _ := asked(t, q, text)
		require.EqualValues(t, -1, answers[0].series[0].GetSamples()[0].GetValue(), "nothing of another's is in %s", text)
	}
}

func TestDeniedSelectorsAreRefusedToPeers(t *testing.T) {
	t.Parallel()
	addr := startTSDB(t, storeapitest.Data{
		External: labels.FromStrings("replica", "a"),
		Series:   []storeapitest.Series{{Labels: labels.FromStrings("__name__", "up"), Samples: samples(30)}},
	})
	q := startQuerier(t, options{cfg: grpcapi.Config{QueryTimeout: time.Minute}, deny: []string{`{__name__="up"}`}}, addr)
	for _, text := range []string{
		`up`, `sum(rate(up[1m]))`, `vector(1) or up`, `max_over_time(sum(up offset 1m)[2m:30s])`, `label_replace(-up, "a", "b", "", "")`,
	} {
		_, errs := asked(t, q, text)
		for _, err := range errs {
			require.Equal(t, codes.InvalidArgument, status.Code(err), text)
		}
	}
	answers, errs := asked(t, q, `down or vector(1)`)
	for i := range answers {
		require.ErrorContains(t, errs[i], "EOF")
		require.Len(t, answers[i].series, 1)
	}
}
