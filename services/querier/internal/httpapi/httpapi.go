// Package httpapi answers the HTTP API of a querier: Prometheus' API over all stores, with the parameters and
// answers that a global view adds.
//
// Each endpoint is a function from a request to data, notes and an error; what all of them have in common (tenant,
// parameters, deadline, error types, caching rules, JSON) is done around them, once. Parameters and JSON shapes are
// those of package promapi.
package httpapi

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/gate"
	"github.com/promontory-io/promontory/libs/promapi"
	"github.com/promontory-io/promontory/libs/tenancy"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/services/querier/internal/active"
	"github.com/promontory-io/promontory/services/querier/internal/deny"
	"github.com/promontory-io/promontory/services/querier/internal/endpoints"
	"github.com/promontory-io/promontory/services/querier/internal/engine"
	"github.com/promontory-io/promontory/services/querier/internal/gather"
	"github.com/promontory-io/promontory/services/querier/internal/grpcapi"
	"github.com/promontory-io/promontory/services/querier/internal/health"
	"github.com/promontory-io/promontory/services/querier/internal/selects"
	"github.com/promontory-io/promontory/services/querier/internal/slowlog"
)

// Config is what flags say about the API.
type Config struct {
	// Defaults hold where a request to the calls for queries, series and labels does not say otherwise.
	Defaults promapi.Defaults
	// Partial is the default of partial_response of all other calls.
	Partial PartialResponse
	// Timeout bounds each request, waiting for its turn included; 0 is without bound.
	Timeout time.Duration
	// MaxConcurrent is how many queries run at once; further ones wait. 0 is any number.
	MaxConcurrent int
	// CORS adds the headers that let pages of other sites call the API; nil adds none.
	CORS func(http.Handler) http.Handler
	// Tenancy tells whose request it is and what of the data it may see.
	Tenancy Tenancy
	// Telemetry is the classes and buckets of the histogram of queries.
	Telemetry Telemetry
	// Deny refuses requests by what they select; nil refuses none.
	Deny *deny.Rules
	// Active, if set, lists and bounds the queries that run.
	Active *active.Registry
	// Slow gets requests that took long; nil gets none.
	Slow *slowlog.Log
	// Flags is what /status/flags answers: the value of each flag by name, secrets redacted.
	Flags map[string]string
}

// PartialResponse tells which calls allow answers without a peer that failed where the request does not say.
type PartialResponse struct {
	Rules, Targets, Metadata, Exemplars, Status bool
}

// Tenancy is how the tenant of a request is found and what that means.
type Tenancy struct {
	Source tenancy.Source
	// Enforce restricts each request to series that carry its tenant in Label.
	Enforce bool
	Label   string
}

// Telemetry is the ascending bounds of the histogram thanos_store_api_query_duration_seconds: its buckets, and the
// classes of queries by samples and by series.
type Telemetry struct {
	Durations, Samples, Series []float64
}

// Engine evaluates PromQL; see [grpcapi.Engine].
type Engine interface {
	NewQuery(ctx context.Context, q storage.Queryable, spec grpcapi.QuerySpec) (promql.Query, error)
}

// Storage is where queries, series and labels come from. *selects.Creator is one.
type Storage interface {
	Queryable(opts selects.Options) storage.Queryable
}

// Gatherer asks the peers for all that is no series. *gather.Gatherer is one. Results belong to the caller;
// the second is warnings.
type Gatherer interface {
	Rules(ctx context.Context, req *thanos.RulesRequest) (*thanos.RuleGroups, []string, error)
	Targets(ctx context.Context, req *thanos.TargetsRequest) (*thanos.TargetDiscovery, []string, error)
	MetricMetadata(ctx context.Context, req *thanos.MetricMetadataRequest) (map[string][]*thanos.Meta, []string, error)
	Exemplars(ctx context.Context, req *thanos.ExemplarsRequest) ([]*thanos.ExemplarData, []string, error)
	TSDBStatistics(ctx context.Context, req *thanos.TSDBStatisticsRequest) (map[string]*thanos.TSDBStatisticsEntry, []string, error)
}

// Deps is what the API works with.
type Deps struct {
	Engine Engine
	// Parse reads expressions with all functions that the engine has; nil is [engine.Parse].
	Parse    func(string) (parser.Expr, error)
	Storage  Storage
	Gatherer Gatherer
	// Stores are listed by /stores.
	Stores endpoints.Source
	// Health is shown there; nil knows nothing.
	Health *health.Tracker
	// Wrap puts the instrumentation of the process around a handler, under the handler's name;
	// *httpserver.Middleware has it. Make that middleware with [Tenancy.Tenant], or metrics lack the tenant.
	Wrap   func(name string, h http.Handler) http.Handler
	Logger *zap.Logger
	// Registerer takes the metrics; nil works.
	Registerer prometheus.Registerer
	// Now is the clock; nil is that of the system.
	Now func() time.Time
}

var (
	_ Storage      = (*selects.Creator)(nil)
	_ Gatherer     = (*gather.Gatherer)(nil)
	_ Engine       = (*engine.Engines)(nil)
	_ http.Handler = (*API)(nil)
)

// API is the handler of all paths below /api/v1/. It knows no route prefix: whoever mounts it strips that.
// Anything else is 404.
type API struct {
	cfg     Config
	deps    Deps
	logger  *zap.Logger
	mux     *http.ServeMux
	options http.Handler
	queries *gate.Gate
	metrics *metrics
	started time.Time
}

// New returns the API. It fails where enforcement is asked for and cannot be done.
func New(cfg Config, deps Deps) (*API, error) {
	if err := cfg.Tenancy.validate(); err != nil {
		return nil, err
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.Parse == nil {
		deps.Parse = engine.Parse
	}
	if deps.Wrap == nil {
		deps.Wrap = func(_ string, h http.Handler) http.Handler { return h }
	}
	if cfg.Active == nil {
		cfg.Active = active.New(0, nil, deps.Now, nil)
	}
	if deps.Health == nil {
		deps.Health = health.New(health.Config{}, nil, nil)
	}
	if cfg.CORS == nil {
		cfg.CORS = func(h http.Handler) http.Handler { return h }
	}
	a := &API{
		cfg:     cfg,
		deps:    deps,
		logger:  deps.Logger.Named("httpapi"),
		mux:     http.NewServeMux(),
		queries: gate.NewFactory(deps.Registerer, "thanos_query_concurrent_gate_queries", cfg.MaxConcurrent).New(),
		metrics: newMetrics(deps.Registerer, cfg.Telemetry, cfg.Tenancy.Source.Default),
		started: deps.Now(),
	}
	a.routes()
	return a, nil
}

// Queries is the gate that queries pass, for others that evaluate queries besides.
func (a *API) Queries() *gate.Gate { return a.queries }

// prefix is where the API begins.
const prefix = "/api/v1/"

// routes names all endpoints. The names of handlers are those dashboards select by.
func (a *API) routes() {
	get := func(path, name string, e endpoint) { a.mux.Handle("GET "+prefix+path, a.wrap(name, a.handle(e))) }
	both := func(path, name string, e endpoint) {
		h := a.wrap(name, a.handle(e))
		a.mux.Handle("GET "+prefix+path, h)
		a.mux.Handle("POST "+prefix+path, h)
	}
	both("query", "query", a.query)
	both("query_range", "query_range", a.queryRange)
	// Dashboards count the two under "query".
	both("query_explain", "query", a.queryExplain)
	both("query_range_explain", "query", a.queryRangeExplain)

	both("format_query", "format_query", a.formatQuery)
	both("parse_query", "parse_query", a.parseQuery)
	get("active_queries", "active_queries", a.activeQueries)
	a.mux.Handle("DELETE "+prefix+"active_queries/{id}", a.wrap("active_queries", a.handle(a.cancelQuery)))

	both("series", "series", a.series)
	both("labels", "label_names", a.labelNames)
	get("label/{name}/values", "label_values", a.labelValues)

	both("query_exemplars", "exemplars", a.exemplars)
	get("rules", "rules", a.rules)
	get("alerts", "alerts", a.alerts)
	get("targets", "targets", a.targets)
	get("metadata", "metadata", a.metadata)

	get("stores", "stores", a.stores)
	get("status/tsdb", "status_tsdb", a.statusTSDB)
	get("status/flags", "status_flags", a.statusFlags)
	get("status/runtimeinfo", "status_runtime", a.statusRuntime)
	get("status/buildinfo", "status_build", a.statusBuild)

	a.options = a.wrap("options", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNoContent)
	}))
}

func (a *API) wrap(name string, h http.Handler) http.Handler { return a.deps.Wrap(name, a.cfg.CORS(h)) }

// Wrap puts the instrumentation of the API around a handler that belongs to it without being a part, such as its pages.
func (a *API) Wrap(name string, h http.Handler) http.Handler { return a.deps.Wrap(name, h) }

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// Any path is fine for OPTIONS. Were it a route, unknown paths would be "method not allowed", not "not found".
	if r.Method == http.MethodOptions && strings.HasPrefix(r.URL.Path, prefix) {
		a.options.ServeHTTP(w, r)
		return
	}
	a.mux.ServeHTTP(w, r)
}
