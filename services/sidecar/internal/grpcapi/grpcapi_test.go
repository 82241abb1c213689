package grpcapi

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/promontory-io/promontory/libs/promapi/promclient"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/proto/gen/thanos/info"
	"github.com/promontory-io/promontory/services/sidecar/internal/upstream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// recordedMinTime is the oldest sample of the recorded Prometheus.
const recordedMinTime = 1_795_427_251_000

type fixedSource struct{ known *atomic.Bool }

func (f fixedSource) State() (upstream.State, bool) {
	return upstream.State{External: labels.FromStrings("cluster", "eu1", "replica", "a")}, f.known.Load()
}
func (f fixedSource) MinTime() int64 { return recordedMinTime }

// twoSeries is a store of two series, one more than the limit of a test.
type twoSeries struct{ storeapi.Store }

func (twoSeries) Series(_ context.Context, _ *thanos.SeriesRequest, _ []*labels.Matcher, w *storeapi.Writer) error {
	if err := w.Series(labels.FromStrings("a", "1"), nil); err != nil {
		return err
	}
	return w.Series(labels.FromStrings("a", "2"), nil)
}

type setup struct {
	conn         *grpc.ClientConn
	known, ready *atomic.Bool
	fail         *atomic.Int64
	asked        chan url.Values
	url          string
	reg          *prometheus.Registry
}

// newSetup serves over the recorded Prometheus.
func newSetup(t *testing.T, limits storeapi.Limits) *setup {
	t.Helper()
	text, err := os.ReadFile("testdata/prometheus.json")
	require.NoError(t, err)
	answers := map[string]json.RawMessage{}
	require.NoError(t, json.Unmarshal(text, &answers))
	s := &setup{known: &atomic.Bool{}, ready: &atomic.Bool{}, fail: &atomic.Int64{}, asked: make(chan url.Values, 100), reg: prometheus.NewRegistry()}
	s.known.Store(true)
	s.ready.Store(true)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if code := s.fail.Load(); code != 0 {
			http.Error(w, "told to fail", int(code))
			return
		}
		key := r.URL.Path
		if r.URL.RawQuery != "" {
			key += "?" + r.URL.RawQuery
		}
		if r.ParseForm() == nil {
			s.asked <- r.Form
		}
		body, ok := answers[key]
		if !ok {
			http.Error(w, "nothing recorded for "+key, http.StatusNotFound)
			return
		}
		w.Write(body)
	}))
	t.Cleanup(web.Close)
	t.Cleanup(web.Client().CloseIdleConnections)
	s.url = web.URL
	u, err := url.Parse(web.URL)
	require.NoError(t, err)
	server := New(limits, Deps{
		Store: twoSeries{}, Source: fixedSource{s.known}, Client: promclient.New(u, promclient.Options{HTTP: web.Client()}),
		Ready: s.ready.Load, Logger: zap.NewNop(), Registerer: s.reg,
	})

	lis := bufconn.Listen(1 << 20)
	srv := grpc.NewServer(storeapi.ServerOption())
	server.Register(srv)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(lis) }()
	s.conn, err = grpc.NewClient("passthrough:///sidecar",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()), storeapi.DialOption())
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, s.conn.Close())
		srv.Stop()
		require.NoError(t, <-served)
	})
	return s
}

// call makes any call, with messages of the given types, and returns all frames.
func call(t *testing.T, conn *grpc.ClientConn, method string, req proto.Message, frame func() proto.Message) (out []proto.Message, err error) {
	t.Helper()
	stream, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, method)
	require.NoError(t, err)
	require.NoError(t, stream.SendMsg(req))
	require.NoError(t, stream.CloseSend())
	for {
		m := frame()
		err := stream.RecvMsg(m)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		out = append(out, m)
	}
}

// methods are the calls with their messages.
var methods = map[string]struct{ request, frame func() proto.Message }{
	"/thanos.info.Info/Info": {
		func() proto.Message { return &info.InfoRequest{} }, func() proto.Message { return &info.InfoResponse{} },
	},
	"/thanos.Rules/Rules": {
		func() proto.Message { return &thanos.RulesRequest{} }, func() proto.Message { return &thanos.RulesResponse{} },
	},
	"/thanos.Targets/Targets": {
		func() proto.Message { return &thanos.TargetsRequest{} }, func() proto.Message { return &thanos.TargetsResponse{} },
	},
	"/thanos.Metadata/MetricMetadata": {
		func() proto.Message { return &thanos.MetricMetadataRequest{} }, func() proto.Message { return &thanos.MetricMetadataResponse{} },
	},
	"/thanos.Exemplars/Exemplars": {
		func() proto.Message { return &thanos.ExemplarsRequest{} }, func() proto.Message { return &thanos.ExemplarsResponse{} },
	},
	"/thanos.Status/TSDBStatistics": {
		func() proto.Message { return &thanos.TSDBStatisticsRequest{} }, func() proto.Message { return &thanos.TSDBStatisticsResponse{} },
	},
}

func TestAnswersAreThoseThatWereRecorded(t *testing.T) {
	t.Parallel()
	recorded, err := os.ReadFile("testdata/wire.jsonl")
	require.NoError(t, err)
	s := newSetup(t, storeapi.Limits{})
	seen := map[string]int{}
	lines := bufio.NewScanner(bytes.NewReader(recorded))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var rec struct {
			Method, Request string
			Frames          []string
		}
		require.NoError(t, json.Unmarshal(lines.Bytes(), &rec))
		m, ok := methods[rec.Method]
		if !ok {
			require.Contains(t, rec.Method, "/thanos.Store/", "the Store API is tested elsewhere")
			continue
		}
		seen[rec.Method]++
		parse := func(into proto.Message, text string) proto.Message {
			b, err := hex.DecodeString(text)
			require.NoError(t, err)
			require.NoError(t, proto.Unmarshal(b, into))
			return into
		}
		req := parse(m.request(), rec.Request)
		var want []proto.Message
		for _, f := range rec.Frames {
			want = append(want, parse(m.frame(), f))
		}
		got, err := call(t, s.conn, rec.Method, req, m.frame)
		require.NoError(t, err, "%s %s", rec.Method, req)
		if d := cmp.Diff(want, got, protocmp.Transform()); d != "" {
			t.Errorf("%s %s (-recorded +got):\n%s", rec.Method, req, d)
		}
	}
	require.NoError(t, lines.Err())
	require.Equal(t, map[string]int{
		"/thanos.info.Info/Info": 1, "/thanos.Rules/Rules": 2, "/thanos.Targets/Targets": 1, "/thanos.Metadata/MetricMetadata": 2,
		"/thanos.Status/TSDBStatistics": 1,
	}, seen)
}

func TestRulesAreFilteredWithTheirExternalLabels(t *testing.T) {
	t.Parallel()
	s := newSetup(t, storeapi.Limits{})
	names := func(req *thanos.RulesRequest) (out []string) {
		t.Helper()
		frames, err := call(t, s.conn, "/thanos.Rules/Rules", req, methods["/thanos.Rules/Rules"].frame)
		require.NoError(t, err)
		for _, f := range frames {
			g := f.(*thanos.RulesResponse).GetGroup()
			name := g.GetName() + ":"
			for _, r := range g.GetRules() {
				name += " " + r.GetAlert().GetName() + r.GetRecording().GetName()
			}
			out = append(out, name)
		}
		return out
	}
	for _, tc := range []struct {
		name string
		req  *thanos.RulesRequest
		want []string
	}{
		{"nothing", &thanos.RulesRequest{}, []string{"empty: Never", "g1: job:up:sum TargetDown"}},
		{"alerts", &thanos.RulesRequest{Type: thanos.RulesRequest_ALERT}, []string{"empty: Never", "g1: TargetDown"}},
		{"recording rules", &thanos.RulesRequest{Type: thanos.RulesRequest_RECORD}, []string{"empty:", "g1: job:up:sum"}},
		{"names", &thanos.RulesRequest{RuleName: []string{"Never", "job:up:sum"}}, []string{"empty: Never", "g1: job:up:sum"}},
		{"groups", &thanos.RulesRequest{RuleGroup: []string{"g1"}}, []string{"g1: job:up:sum TargetDown"}},
		{"files", &thanos.RulesRequest{File: []string{"other.yml"}}, nil},
		{"external labels", &thanos.RulesRequest{MatcherString: []string{`{cluster="eu1",severity="page"}`}}, []string{"empty:", "g1: TargetDown"}},
		{"any of two matchers", &thanos.RulesRequest{MatcherString: []string{`{team="x"}`, `{severity="page"}`}}, []string{"empty:", "g1: job:up:sum TargetDown"}},
		{"another cluster", &thanos.RulesRequest{MatcherString: []string{`{cluster="us1"}`}}, []string{"empty:", "g1:"}},
	} {
		require.Equal(t, tc.want, names(tc.req), tc.name)
	}
	_, err := call(t, s.conn, "/thanos.Rules/Rules", &thanos.RulesRequest{MatcherString: []string{`{cluster=`}}, methods["/thanos.Rules/Rules"].frame)
	require.Equal(t, codes.InvalidArgument, grpcstatus.Code(err))
	require.ErrorContains(t, err, `{cluster=`)
}

func TestExemplarsCarryExternalLabels(t *testing.T) {
	t.Parallel()
	s := newSetup(t, storeapi.Limits{})
	req := &thanos.ExemplarsRequest{Query: `req{job=~".+"}`, Start: 1_795_427_000_001, End: 1_795_427_999_000}
	frames, err := call(t, s.conn, "/thanos.Exemplars/Exemplars", req, methods["/thanos.Exemplars/Exemplars"].frame)
	require.NoError(t, err)
	form := <-s.asked
	require.Equal(t, url.Values{"query": {`req{job=~".+"}`}, "start": {"1795427000.001"}, "end": {"1795427999.000"}}, form)
	require.Len(t, frames, 2)
	first := frames[0].(*thanos.ExemplarsResponse).GetData()
	require.Equal(t, `{__name__="req", cluster="eu1", job="api", replica="a"}`, storeapi.Labels(first.GetSeriesLabels()).String())
	require.Len(t, first.GetExemplars(), 2)
	require.Equal(t, int64(1_795_427_300_123), first.GetExemplars()[0].GetTs())
	require.InDelta(t, 0.25, first.GetExemplars()[0].GetValue(), 0)
	require.Equal(t, `{trace_id="abc"}`, storeapi.Labels(first.GetExemplars()[0].GetLabels()).String())
	require.True(t, math.IsNaN(first.GetExemplars()[1].GetValue()))
}

func TestMetadataOfNothingIsNotAskedFor(t *testing.T) {
	t.Parallel()
	s := newSetup(t, storeapi.Limits{})
	frames, err := call(t, s.conn, "/thanos.Metadata/MetricMetadata", &thanos.MetricMetadataRequest{Limit: 0}, methods["/thanos.Metadata/MetricMetadata"].frame)
	require.NoError(t, err)
	require.Len(t, frames, 1)
	require.Empty(t, frames[0].(*thanos.MetricMetadataResponse).GetMetadata().GetMetadata())
	require.Empty(t, s.asked)
}

func TestStatisticsAreRestrictedByExternalLabels(t *testing.T) {
	t.Parallel()
	s := newSetup(t, storeapi.Limits{})
	for value, want := range map[string]int{"eu1": 1, "us1": 0} {
		frames, err := call(t, s.conn, "/thanos.Status/TSDBStatistics", &thanos.TSDBStatisticsRequest{
			Limit: 3, Matchers: []*thanos.LabelMatcher{{Name: "cluster", Value: value}},
		}, methods["/thanos.Status/TSDBStatistics"].frame)
		require.NoError(t, err)
		require.Len(t, frames, want)
	}
}

func TestInfoIsRefusedWhilePrometheusDoesNotAnswer(t *testing.T) {
	t.Parallel()
	s := newSetup(t, storeapi.Limits{})
	s.ready.Store(false)
	_, err := info.NewInfoClient(s.conn).Info(t.Context(), &info.InfoRequest{})
	require.ErrorContains(t, err, "Not ready")
	s.ready.Store(true)
	_, err = info.NewInfoClient(s.conn).Info(t.Context(), &info.InfoRequest{})
	require.NoError(t, err)
}

func TestEveryServiceSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	s := newSetup(t, storeapi.Limits{})
	each := func(check func(method string, err error)) {
		for method, m := range methods {
			if strings.HasSuffix(method, "/Info") {
				continue
			}
			req := m.request()
			if r, ok := req.(*thanos.MetricMetadataRequest); ok {
				r.Limit = -1
			}
			_, err := call(t, s.conn, method, req, m.frame)
			check(method, err)
		}
	}
	for httpCode, want := range map[int64]codes.Code{400: codes.InvalidArgument, 404: codes.NotFound, 422: codes.Internal, 503: codes.Unavailable, 500: codes.Internal} {
		s.fail.Store(httpCode)
		each(func(method string, err error) {
			require.Equal(t, want, grpcstatus.Code(err), "%s: %d became %v", method, httpCode, err)
			require.ErrorContains(t, err, s.url)
			require.ErrorContains(t, err, "told to fail")
		})
	}
	s.known.Store(false)
	each(func(method string, err error) {
		require.Equal(t, codes.Unavailable, grpcstatus.Code(err), method)
		require.ErrorContains(t, err, s.url)
	})
}

func TestUnknownEnumsAreRefused(t *testing.T) {
	t.Parallel()
	s := newSetup(t, storeapi.Limits{})
	_, err := call(t, s.conn, "/thanos.Rules/Rules", &thanos.RulesRequest{Type: 9}, methods["/thanos.Rules/Rules"].frame)
	require.Equal(t, codes.InvalidArgument, grpcstatus.Code(err))
	_, err = call(t, s.conn, "/thanos.Targets/Targets", &thanos.TargetsRequest{State: 9}, methods["/thanos.Targets/Targets"].frame)
	require.Equal(t, codes.InvalidArgument, grpcstatus.Code(err))
}

func TestAnswersOverALimitAreCounted(t *testing.T) {
	t.Parallel()
	s := newSetup(t, storeapi.Limits{Series: 1})
	req := &thanos.SeriesRequest{Matchers: []*thanos.LabelMatcher{{Name: "a", Value: "1"}}}
	_, err := call(t, s.conn, "/thanos.Store/Series", req, func() proto.Message { return &thanos.SeriesResponse{} })
	require.Equal(t, codes.ResourceExhausted, grpcstatus.Code(err))
	require.NoError(t, testutil.GatherAndCompare(s.reg, strings.NewReader(`
# HELP thanos_store_selects_dropped_total Series calls that were refused because of a limit.
# TYPE thanos_store_selects_dropped_total counter
thanos_store_selects_dropped_total{reason="samples"} 0
thanos_store_selects_dropped_total{reason="series"} 1
`), "thanos_store_selects_dropped_total"))
}
