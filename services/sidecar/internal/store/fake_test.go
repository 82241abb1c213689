package store

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/golang/snappy"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/promontory-io/promontory/libs/promapi/promclient"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/prometheus_copy"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/services/sidecar/internal/remoteread"
	"github.com/promontory-io/promontory/services/sidecar/internal/upstream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakePrometheus answers like one that holds one chunk per series, or several.
type fakePrometheus struct {
	mu sync.Mutex // guards all below
	// series are its own label sets, in any order.
	series   []labels.Labels
	external labels.Labels
	// parts is in how many frames each series comes.
	parts int
	// hidden are label names that /api/v1/labels conceals.
	hidden []string
	// unstreamed makes remote read answer with samples.
	unstreamed bool
	// fail is the status that every request is answered with.
	fail int
	// old makes the label endpoints ignore matchers.
	old   bool
	asked []string
	reads []*prometheuscopy.Query
}

func (f *fakePrometheus) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, r.URL.Path)
	if f.fail != 0 {
		w.WriteHeader(f.fail)
		fmt.Fprintf(w, `{"status":"error","errorType":"x","error":"told to fail"}`)
		return
	}
	if r.URL.Path == "/api/v1/read" {
		f.read(w, r)
		return
	}
	if err := r.ParseForm(); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var data any
	var err error
	switch r.URL.Path {
	case "/api/v1/labels":
		data, err = f.names(r.Form)
	case "/api/v1/label/job/values":
		data, err = f.values(r.Form, "job")
	case "/api/v1/series":
		data, err = f.match(r.Form, false)
	default:
		http.NotFound(w, r)
		return
	}
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, `{"status":"error","errorType":"bad_data","error":%q}`, err)
		return
	}
	json.NewEncoder(w).Encode(map[string]any{"status": "success", "data": data})
}

// match returns the label sets that a form selects.
func (f *fakePrometheus) match(form url.Values, ignore bool) ([]labels.Labels, error) {
	out := []labels.Labels{}
	var ms []*labels.Matcher
	if text := form.Get("match[]"); text != "" && !ignore {
		var err error
		if ms, err = parser.ParseMetricSelector(text); err != nil {
			return nil, err
		}
	}
	limit, _ := strconv.Atoi(form.Get("limit"))
	for _, lset := range f.sorted() {
		if labels.Selector(ms).Matches(lset) && (limit == 0 || len(out) < limit) {
			out = append(out, lset)
		}
	}
	return out, nil
}

func (f *fakePrometheus) names(form url.Values) ([]string, error) {
	found, err := f.match(form, f.old)
	out := []string{}
	for _, lset := range found {
		lset.Range(func(l labels.Label) {
			if !slices.Contains(f.hidden, l.Name) {
				out = append(out, l.Name)
			}
		})
	}
	slices.Sort(out)
	return slices.Compact(out), err
}

func (f *fakePrometheus) values(form url.Values, name string) ([]string, error) {
	found, err := f.match(form, f.old)
	out := []string{}
	for _, lset := range found {
		if v := lset.Get(name); v != "" {
			out = append(out, v)
		}
	}
	slices.Sort(out)
	return slices.Compact(out), err
}

func (f *fakePrometheus) sorted() []labels.Labels {
	out := slices.Clone(f.series)
	slices.SortFunc(out, labels.Compare)
	return out
}

// shown is a label set as remote read shows it: with external labels where there is no own one.
func (f *fakePrometheus) shown(lset labels.Labels) []*prometheuscopy.Label {
	b := labels.NewBuilder(f.external)
	lset.Range(func(l labels.Label) { b.Set(l.Name, l.Value) })
	var out []*prometheuscopy.Label
	b.Labels().Range(func(l labels.Label) { out = append(out, &prometheuscopy.Label{Name: l.Name, Value: l.Value}) })
	return out
}

func (f *fakePrometheus) read(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err == nil {
		body, err = snappy.Decode(nil, body)
	}
	req := &prometheuscopy.ReadRequest{}
	if err == nil {
		err = req.UnmarshalVT(body)
	}
	var ms []*labels.Matcher
	if err == nil {
		q := req.GetQueries()[0]
		f.reads = append(f.reads, q)
		for _, m := range q.GetMatchers() {
			ms = append(ms, labels.MustNewMatcher(labels.MatchType(m.GetType()), m.GetName(), m.GetValue()))
		}
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if f.unstreamed {
		f.samples(w, ms)
		return
	}
	w.Header().Set("Content-Type", "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse")
	for _, lset := range f.sorted() {
		if !labels.Selector(ms).Matches(lset) {
			continue
		}
		for part := range max(f.parts, 1) {
			series := &prometheuscopy.ChunkedSeries{Labels: f.shown(lset), Chunks: []*prometheuscopy.Chunk{{
				MinTimeMs: int64(part * 1000), MaxTimeMs: int64(part * 1000), Type: prometheuscopy.Chunk_XOR, Data: chunkOf(int64(part*1000), idOf(lset)),
			}}}
			data, err := (&prometheuscopy.ChunkedReadResponse{ChunkedSeries: []*prometheuscopy.ChunkedSeries{series}}).MarshalVT()
			if err != nil {
				return
			}
			out := binary.AppendUvarint(nil, uint64(len(data)))
			out = binary.BigEndian.AppendUint32(out, crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli)))
			w.Write(append(out, data...))
		}
	}
}

// samples answers backwards: servers that do not stream need not sort.
func (f *fakePrometheus) samples(w http.ResponseWriter, ms []*labels.Matcher) {
	result := &prometheuscopy.QueryResult{}
	for _, lset := range slices.Backward(f.sorted()) {
		if labels.Selector(ms).Matches(lset) {
			result.Timeseries = append(result.Timeseries, &prometheuscopy.TimeSeries{
				Labels: f.shown(lset), Samples: []*prometheuscopy.Sample{{Value: idOf(lset)}},
			})
		}
	}
	data, err := (&prometheuscopy.ReadResponse{Results: []*prometheuscopy.QueryResult{result}}).MarshalVT()
	if err != nil {
		return
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
	w.Write(snappy.Encode(nil, data))
}

// idOf tells series apart by the value of their samples.
func idOf(lset labels.Labels) float64 { return float64(lset.Hash() % 1_000_003) }

func chunkOf(t int64, v float64) []byte {
	c := chunkenc.NewXORChunk()
	if app, err := c.Appender(); err == nil {
		app.Append(t, v)
	}
	return c.Bytes()
}

// fakeSource is a state of the Prometheus that a test sets.
type fakeSource struct {
	mu    sync.Mutex
	state *upstream.State
	mint  int64
}

func (s *fakeSource) State() (upstream.State, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == nil {
		return upstream.State{}, false
	}
	return *s.state, true
}

func (s *fakeSource) MinTime() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mint
}

func (s *fakeSource) set(external labels.Labels, version string, mint int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = &upstream.State{External: external, Lowest: mint, Version: upstream.ParseVersion(version)}
	s.mint = mint
}

// setup is a store over a fake Prometheus, behind real gRPC.
type setup struct {
	prom   *fakePrometheus
	source *fakeSource
	store  *Store
	url    string
	client thanos.StoreClient
}

func newSetup(tb testing.TB, cfg Config, limits storeapi.Limits) *setup {
	tb.Helper()
	s := &setup{prom: &fakePrometheus{}, source: &fakeSource{}}
	web := httptest.NewServer(s.prom)
	tb.Cleanup(web.Close)
	tb.Cleanup(web.Client().CloseIdleConnections)
	s.url = web.URL
	u, err := url.Parse(web.URL)
	require.NoError(tb, err)
	s.store = New(cfg, s.source, promclient.New(u, promclient.Options{HTTP: web.Client()}), remoteread.NewClient(u, web.Client(), ""), zap.NewNop(), nil)

	lis := bufconn.Listen(1 << 20)
	srv := grpc.NewServer(storeapi.ServerOption())
	storeapi.Register(srv, s.store, storeapi.ServerConfig{Limits: limits})
	served := make(chan error, 1)
	go func() { served <- srv.Serve(lis) }()
	conn, err := grpc.NewClient("passthrough:///store",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()), storeapi.DialOption())
	require.NoError(tb, err)
	tb.Cleanup(func() {
		require.NoError(tb, conn.Close())
		srv.Stop()
		require.NoError(tb, <-served)
	})
	s.client = thanos.NewStoreClient(conn)
	return s
}

// hold makes the fake hold series under external labels that the sidecar knows too.
func (s *setup) hold(external labels.Labels, series ...labels.Labels) {
	s.prom.mu.Lock()
	defer s.prom.mu.Unlock()
	s.prom.external, s.prom.series = external, series
	s.prom.asked, s.prom.reads = nil, nil
	s.source.set(external, "3.5.0", upstream.Unknown)
}

func (s *setup) asked() []string {
	s.prom.mu.Lock()
	defer s.prom.mu.Unlock()
	return slices.Clone(s.prom.asked)
}
