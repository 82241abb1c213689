// Package grpcapi is the sidecar's gRPC surface: the Store API, and what Prometheus' HTTP API
// tells about rules, targets, metadata, exemplars and its database, with the external labels
// added, as the streams that the querier gathers.
package grpcapi

import (
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/promontory-io/promontory/libs/promapi/promclient"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/proto/gen/thanos/info"
	"github.com/promontory-io/promontory/services/sidecar/internal/promerr"
	"github.com/promontory-io/promontory/services/sidecar/internal/upstream"
)

// Source says what there is to serve; *upstream.Monitor is one.
type Source interface {
	State() (upstream.State, bool)
	MinTime() int64
}

// Deps is what a server works with.
type Deps struct {
	Store  storeapi.Store
	Source Source
	Client *promclient.Client
	// Ready reports whether the sidecar wants requests; until then Info is refused, and the
	// querier leaves the sidecar alone.
	Ready  func() bool
	Logger *zap.Logger
	// Registerer takes the metrics; nil works.
	Registerer prometheus.Registerer
}

// Server answers for a sidecar. It is safe for concurrent use.
type Server struct {
	deps   Deps
	limits storeapi.Limits
}

// New returns a server whose Series answers are bounded by limits.
func New(limits storeapi.Limits, deps Deps) *Server {
	deps.Logger = deps.Logger.Named("grpcapi")
	return &Server{deps: deps, limits: limits}
}

// Register adds all services to r, whose server must have been made with
// storeapi.ServerOption.
func (s *Server) Register(r grpc.ServiceRegistrar) {
	storeapi.Register(r, s.deps.Store, storeapi.ServerConfig{Limits: s.limits, Registerer: s.deps.Registerer})
	info.RegisterInfoServer(r, &infoServer{deps: s.deps})
	p := &peer{source: s.deps.Source, client: s.deps.Client}
	thanos.RegisterRulesServer(r, &rulesServer{peer: p})
	thanos.RegisterTargetsServer(r, &targetsServer{peer: p})
	thanos.RegisterMetadataServer(r, &metadataServer{peer: p})
	thanos.RegisterExemplarsServer(r, &exemplarsServer{peer: p})
	thanos.RegisterStatusServer(r, &statusServer{peer: p})
}

// peer is the Prometheus that all these services ask.
type peer struct {
	source Source
	client *promclient.Client
}

// state is what is known about the peer, or the error that nothing is.
func (p *peer) state() (upstream.State, error) {
	st, ok := p.source.State()
	if !ok {
		return st, storeapi.ToStatus(storeapi.Unavailablef("not ready: Prometheus at %s has not answered yet", p.client.BaseURL().Redacted()))
	}
	return st, nil
}

// status turns an error of the client into a gRPC status.
func status(err error) error { return storeapi.ToStatus(promerr.Wrap(err)) }
