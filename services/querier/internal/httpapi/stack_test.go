package httpapi_test

import (
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/promontory-io/promontory/libs/promapi"
	"github.com/promontory-io/promontory/libs/service/httpserver"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/libs/tenancy"
	"github.com/promontory-io/promontory/libs/tsdbstore"
	"github.com/promontory-io/promontory/services/querier/internal/endpoints"
	"github.com/promontory-io/promontory/services/querier/internal/engine"
	"github.com/promontory-io/promontory/services/querier/internal/fakepeer"
	"github.com/promontory-io/promontory/services/querier/internal/fanout"
	"github.com/promontory-io/promontory/services/querier/internal/gather"
	"github.com/promontory-io/promontory/services/querier/internal/httpapi"
	"github.com/promontory-io/promontory/services/querier/internal/selects"
)

func TestMain(m *testing.M) {
	engine.EnableExperimentalFunctions()
	goleak.VerifyTestMain(m)
}

// stack is a querier without its process: all parts are real, but for the peers that a test chooses.
type stack struct {
	Config  httpapi.Config
	Deps    httpapi.Deps
	Engine  engine.Config
	Replica []string
	Peers   endpoints.Static
	Reg     *prometheus.Registry
}

func newStack(peers ...endpoints.Endpoint) *stack {
	return &stack{
		Config: httpapi.Config{
			Defaults:      promapi.Defaults{Engine: promapi.EnginePrometheus, PartialResponse: true, Step: time.Second},
			Partial:       httpapi.PartialResponse{Rules: true, Targets: true, Metadata: true, Exemplars: true, Status: true},
			Timeout:       time.Minute,
			MaxConcurrent: 20,
			Tenancy:       httpapi.Tenancy{Source: tenancy.DefaultSource(), Label: tenancy.DefaultLabel},
			Telemetry:     httpapi.Telemetry{Durations: []float64{0.1, 1, 10}, Samples: []float64{100, 1000}, Series: []float64{10, 100}},
		},
		Engine:  engine.Config{Timeout: time.Minute, DefaultEvaluationInterval: time.Minute, DynamicLookback: true, MaxConcurrent: 20},
		Replica: []string{"replica", "rule_replica"},
		Peers:   peers,
		Reg:     prometheus.NewRegistry(),
	}
}

// api builds the handler. What the test put into Deps stays.
func (s *stack) api(t testing.TB) *httpapi.API {
	t.Helper()
	s.Config.Defaults.ReplicaLabels = s.Replica
	deps := s.Deps
	if deps.Engine == nil {
		e := engine.New(s.Engine, promslog.NewNopLogger(), s.Reg)
		t.Cleanup(func() { require.NoError(t, e.Close()) })
		deps.Engine, deps.Parse = e, e.Parse
	}
	if deps.Storage == nil {
		proxy := fanout.New(s.Peers, fanout.Config{}, zap.NewNop(), s.Reg)
		deps.Storage = selects.New(proxy, selects.Config{MaxConcurrent: 4}, s.Reg)
	}
	if deps.Gatherer == nil {
		deps.Gatherer = gather.New(s.Peers, gather.Config{ReplicaLabels: s.Replica}, zap.NewNop())
	}
	if deps.Stores == nil {
		deps.Stores = s.Peers
	}
	deps.Logger, deps.Registerer = zap.NewNop(), s.Reg
	m := httpserver.NewMiddleware(httpserver.MiddlewareOptions{
		Logger: zap.NewNop(), Registerer: s.Reg, Tenant: s.Config.Tenancy.Tenant,
	})
	deps.Wrap = m.Wrap
	a, err := httpapi.New(s.Config, deps)
	require.NoError(t, err)
	return a
}

// serve starts an HTTP server and returns a client for it.
func (s *stack) serve(t testing.TB) *client {
	t.Helper()
	srv := httptest.NewServer(s.api(t))
	t.Cleanup(srv.Close)
	return &client{t: t, url: srv.URL, http: srv.Client(), header: http.Header{}}
}

type client struct {
	t      testing.TB
	url    string
	http   *http.Client
	header http.Header
}

// with returns the client with one more header.
func (c *client) with(name, value string) *client {
	out := *c
	out.header = c.header.Clone()
	out.header.Set(name, value)
	return &out
}

// reply is an answer, with the usual envelope taken apart.
type reply struct {
	Code   int
	Header http.Header
	Body   string

	Status    string
	Data      json.RawMessage
	ErrorType string
	Error     string
	Warnings  []string
	Infos     []string
}

func (c *client) do(method, path, body string) *reply {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.url+path, strings.NewReader(body))
	require.NoError(c.t, err)
	req.Header = c.header.Clone()
	if body != "" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := c.http.Do(req)
	require.NoError(c.t, err)
	defer resp.Body.Close()
	var r io.Reader = resp.Body
	if resp.Header.Get("Content-Encoding") == "gzip" {
		r, err = gzip.NewReader(r)
		require.NoError(c.t, err)
	}
	b, err := io.ReadAll(r)
	require.NoError(c.t, err)
	out := &reply{Code: resp.StatusCode, Header: resp.Header, Body: string(b)}
	if resp.Header.Get("Content-Type") == "application/json" {
		require.NoError(c.t, json.Unmarshal(b, out), "%s: %s", path, b)
	}
	return out
}

func (c *client) get(path string, params ...string) *reply {
	c.t.Helper()
	if len(params) > 0 {
		path += "?" + values(params...).Encode()
	}
	return c.do(http.MethodGet, path, "")
}

func values(params ...string) url.Values {
	v := url.Values{}
	for i := 0; i < len(params); i += 2 {
		v.Add(params[i], params[i+1])
	}
	return v
}

// ok requires a success and returns its data.
func (r *reply) ok(t testing.TB) string {
	t.Helper()
	require.Equal(t, http.StatusOK, r.Code, r.Body)
	require.Equal(t, "success", r.Status, r.Body)
	return string(r.Data)
}

// fails requires an error.
func (r *reply) fails(t testing.TB, code int, errorType, text string) {
	t.Helper()
	require.Equal(t, code, r.Code, r.Body)
	require.Equal(t, "error", r.Status, r.Body)
	require.Equal(t, errorType, r.ErrorType, r.Body)
	require.Contains(t, r.Error, text)
	require.Equal(t, "no-store", r.Header.Get("Cache-Control"))
}

// storePeer serves store over gRPC and returns its endpoint.
func storePeer(t testing.TB, store storeapi.Store, ext ...labels.Labels) endpoints.Endpoint {
	t.Helper()
	addr := fakepeer.Start(t, &fakepeer.Peer{Register: []func(grpc.ServiceRegistrar){
		func(r grpc.ServiceRegistrar) { storeapi.Register(r, store, storeapi.ServerConfig{}) },
	}})
	e := fakepeer.Endpoint(t, addr, &fakepeer.Store{})
	e.Store.MinTime = -1 << 50
	e.LabelSets = ext
	return e
}

// tsdbPeer is the peer of a TSDB.
func tsdbPeer(t testing.TB, db *tsdb.DB, ext labels.Labels) endpoints.Endpoint {
	t.Helper()
	var sets []labels.Labels
	if !ext.IsEmpty() {
		sets = append(sets, ext)
	}
	return storePeer(t, tsdbstore.New(db, func() labels.Labels { return ext }), sets...)
}
