package grpcapi

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/promql/parser"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/promontory-io/promontory/libs/gate"
	"github.com/promontory-io/promontory/libs/promapi"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/proto/gen/thanos/info"
	"github.com/promontory-io/promontory/services/querier/internal/active"
	"github.com/promontory-io/promontory/services/querier/internal/deny"
	"github.com/promontory-io/promontory/services/querier/internal/fanout"
	"github.com/promontory-io/promontory/services/querier/internal/gather"
	"github.com/promontory-io/promontory/services/querier/internal/selects"
)

// Config is what a server adds to requests.
type Config struct {
	// Limits bound each Series answer.
	Limits storeapi.Limits
	// QueryTimeout bounds queries that do not say how long they may take.
	QueryTimeout time.Duration
	// ReplicaLabels tell replicas apart where a query does not say.
	ReplicaLabels []string
	// InstantMaxSourceResolution is that of instant queries that do not say.
	InstantMaxSourceResolution time.Duration
	// LookbackDelta is that of queries that do not say; 0 leaves it to the engine.
	LookbackDelta time.Duration
	// EnforceLabel, if set, restricts queries to series that carry the caller's tenant in this label.
	EnforceLabel string
}

// Deps is what a server works with.
type Deps struct {
	Proxy    *fanout.Proxy
	Gatherer *gather.Gatherer
	Selects  *selects.Creator
	// Engine evaluates queries.
	Engine Engine
	// Parse reads expressions with all functions that the engine has; needed to restrict queries to a tenant.
	Parse func(string) (parser.Expr, error)
	// Gate is passed by queries; nil lets all pass.
	Gate *gate.Gate
	// Deny refuses queries by what they select; nil refuses none.
	Deny *deny.Rules
	// Active, if set, lists and bounds the queries that run.
	Active *active.Registry
	// Ready reports whether the querier wants requests; until then Info is refused.
	Ready  func() bool
	Logger *zap.Logger
	// Registerer takes the metrics; nil works.
	Registerer prometheus.Registerer
}

// Server answers for a querier. It is safe for concurrent use.
type Server struct {
	cfg  Config
	deps Deps
}

// New returns a server.
func New(cfg Config, deps Deps) *Server {
	deps.Logger = deps.Logger.Named("grpcapi")
	if deps.Active == nil {
		deps.Active = active.New(0, nil, nil, nil)
	}
	if deps.Parse == nil {
		deps.Parse = parser.ParseExpr
	}
	if deps.Gate == nil {
		deps.Gate = gate.NewFactory(nil, "", 0).New()
	}
	return &Server{cfg: cfg, deps: deps}
}

// Register adds all services to r, whose server must have been made with
// storeapi.ServerOption.
func (s *Server) Register(r grpc.ServiceRegistrar) {
	storeapi.Register(r, fanout.Store{Proxy: s.deps.Proxy}, storeapi.ServerConfig{Limits: s.cfg.Limits, Registerer: s.deps.Registerer})
	info.RegisterInfoServer(r, &infoServer{deps: s.deps})
	thanos.RegisterRulesServer(r, &rulesServer{gatherer: s.deps.Gatherer})
	thanos.RegisterTargetsServer(r, &targetsServer{gatherer: s.deps.Gatherer})
	thanos.RegisterMetadataServer(r, &metadataServer{gatherer: s.deps.Gatherer})
	thanos.RegisterExemplarsServer(r, &exemplarsServer{gatherer: s.deps.Gatherer})
	thanos.RegisterStatusServer(r, &statusServer{gatherer: s.deps.Gatherer})
	thanos.RegisterQueryServer(r, &queryServer{cfg: s.cfg, deps: s.deps})
}

// engineOf translates the engine of a request.
func engineOf(t thanos.EngineType) promapi.Engine {
	switch t {
	case thanos.EngineType_PROMETHEUS:
		return promapi.EnginePrometheus
	case thanos.EngineType_THANOS:
		return promapi.EngineThanos
	}
	return ""
}
