// Package grpcapi is the receiver's gRPC surface: the Store API over the databases of all tenants,
// exemplars, metadata and statistics of them, and the writes of routers.
//
// All services are there in every mode; on a node that keeps nothing there is nothing behind them.
package grpcapi

import (
	"context"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/promontory-io/promontory/libs/budget"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/proto/gen/thanos/info"
	"github.com/promontory-io/promontory/services/receiver/internal/forward"
	"github.com/promontory-io/promontory/services/receiver/internal/tenants"
)

// Config is what the server is told.
type Config struct {
	// Limits bound each Series answer.
	Limits storeapi.Limits
	// Router is set where writes that are no copies yet are spread over a hashring, Ingester where writes
	// are kept.
	Router, Ingester bool
	// MaxReads is how many reads are answered at once, so that reads never take what writes need; 0 is
	// a number that suits the machine.
	MaxReads int
}

// Deps are what the server works with.
type Deps struct {
	// Tenants may have none.
	Tenants   *tenants.Multi
	Forwarder *forward.Forwarder
	// Reads is the memory that reads may hold together, apart from what writes have; nil is any amount.
	Reads *budget.Budget
	// Ready reports whether the process wants requests.
	Ready      func() bool
	Logger     *zap.Logger
	Registerer prometheus.Registerer
}

// Server answers for a receiver. It is safe for concurrent use.
type Server struct {
	cfg   Config
	deps  Deps
	store *store
}

// New returns a server.
func New(cfg Config, deps Deps) *Server {
	if cfg.MaxReads <= 0 {
		cfg.MaxReads = 8 * runtime.GOMAXPROCS(0)
	}
	deps.Logger = deps.Logger.Named("grpcapi")
	st := &store{tenants: deps.Tenants, slots: make(chan struct{}, cfg.MaxReads), budget: deps.Reads}
	return &Server{cfg: cfg, deps: deps, store: st}
}

// Register adds all services to r, whose server must have been made with storeapi.ServerOption.
func (s *Server) Register(r grpc.ServiceRegistrar) {
	storeapi.Register(r, s.store, storeapi.ServerConfig{
		Limits: s.cfg.Limits, Registerer: s.deps.Registerer, OnSeries: countEmpty(s.deps.Registerer),
	})
	info.RegisterInfoServer(r, &infoServer{tenants: s.deps.Tenants, ready: s.deps.Ready})
	thanos.RegisterExemplarsServer(r, &exemplarsServer{tenants: s.deps.Tenants})
	thanos.RegisterMetadataServer(r, &metadataServer{tenants: s.deps.Tenants})
	thanos.RegisterStatusServer(r, &statusServer{tenants: s.deps.Tenants})
	r.RegisterService(&writeDesc, &writeServer{cfg: s.cfg, deps: s.deps})
}

// acquire takes one of a bounded number of slots.
func acquire(ctx context.Context, slots chan struct{}) (release func(), err error) {
	select {
	case slots <- struct{}{}:
		return func() { <-slots }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
