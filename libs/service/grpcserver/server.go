// Package grpcserver answers gRPC for a process: listener, TLS, limits, keepalive, the
// health service and reflection, and interceptors that measure, trace and log every call, bring
// its tenant and request id into the context and turn a panic into an error.
package grpcserver

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	_ "github.com/promontory-io/promontory/libs/service/grpcsnappy" // peers may send snappy
	"github.com/promontory-io/promontory/libs/service/lifecycle"
	"github.com/promontory-io/promontory/libs/service/requestlog"
	"github.com/promontory-io/promontory/libs/service/tracing"
)

// minPingInterval is how often a client may ping; clients of this project do so every ten seconds.
const minPingInterval = 10 * time.Second

// Options is what a server needs of its process.
type Options struct {
	Logger *zap.Logger
	// Registerer takes the grpc_server_* metrics; nil works.
	Registerer prometheus.Registerer
	// Status decides what the health service answers; nil means always SERVING.
	Status *lifecycle.Status
	// Tracing makes a span for each call; nil makes none.
	Tracing *tracing.Tracing
	// RequestLog says which calls are logged; nil means none.
	RequestLog *requestlog.Policy
	// Register adds the services.
	Register []func(grpc.ServiceRegistrar)
	// ServerOptions go after ours, for example grpc.ForceServerCodecV2.
	ServerOptions []grpc.ServerOption
}

// Server is a gRPC server. It may be used from anywhere once it is made.
type Server struct {
	cfg      Config
	logger   *zap.Logger
	srv      *grpc.Server
	health   *health.Server
	listener net.Listener
}

// New returns a server with all services registered. It does not listen yet.
func New(cfg Config, opts Options) (*Server, error) {
	s := &Server{cfg: cfg, logger: opts.Logger.Named("grpc"), health: health.NewServer()}
	tlsCfg, err := cfg.TLS.Config()
	if err != nil {
		return nil, fmt.Errorf("--grpc-server-tls-*: %w", err)
	}
	m := newMetrics(opts.Registerer)
	in := interceptors{logger: s.logger, metrics: m, policy: opts.RequestLog}
	serverOpts := []grpc.ServerOption{
		grpc.MaxRecvMsgSize(math.MaxInt32),
		grpc.MaxSendMsgSize(math.MaxInt32),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPingInterval, PermitWithoutStream: true}),
		grpc.StatsHandler(opts.Tracing.ServerHandler()),
		grpc.ChainUnaryInterceptor(in.unary()...),
		grpc.ChainStreamInterceptor(in.stream()...),
	}
	if cfg.MaxConnectionAge > 0 {
		serverOpts = append(serverOpts, grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: cfg.MaxConnectionAge}))
	}
	if tlsCfg != nil {
		serverOpts = append(serverOpts, grpc.Creds(credentials.NewTLS(tlsCfg)))
	}
	s.srv = grpc.NewServer(append(serverOpts, opts.ServerOptions...)...)
	for _, register := range opts.Register {
		register(s.srv)
	}
	healthpb.RegisterHealthServer(s.srv, s.health)
	reflection.Register(s.srv)
	m.server.InitializeMetrics(s.srv)
	if opts.Status != nil {
		opts.Status.OnReadyChange(s.setServing)
	}
	return s, nil
}

func (s *Server) setServing(ready bool) {
	status := healthpb.HealthCheckResponse_NOT_SERVING
	if ready {
		status = healthpb.HealthCheckResponse_SERVING
	}
	s.health.SetServingStatus("", status)
}

// Listen takes the address. After it Addr is valid. The error names the flag and the address.
func (s *Server) Listen() error {
	l, err := net.Listen("tcp", s.cfg.Address)
	if err != nil {
		return fmt.Errorf("--grpc-address=%s: %w", s.cfg.Address, err)
	}
	s.listener = l
	s.logger.Info("listening", zap.String("address", l.Addr().String()), zap.Bool("tls", s.cfg.TLS.Enabled()))
	return nil
}

// Addr returns the address listened on with the port really taken; nil before Listen.
func (s *Server) Addr() net.Addr {
	if s.listener == nil {
		return nil
	}
	return s.listener.Addr()
}

// Serve answers calls until Shutdown is called or ctx is cancelled; the latter cuts off what is in
// flight. It listens first if Listen was not called.
func (s *Server) Serve(ctx context.Context) error {
	if s.listener == nil {
		if err := s.Listen(); err != nil {
			return err
		}
	}
	stop := context.AfterFunc(ctx, s.srv.Stop)
	defer stop()
	if err := s.srv.Serve(s.listener); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return err
	}
	return nil
}

// Shutdown stops taking calls and waits for those in flight, for as long as the grace period
// and ctx allow. What is left then is cut off, and an error says so.
func (s *Server) Shutdown(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.GracePeriod)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.srv.GracefulStop()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		s.srv.Stop()
		<-done
		return fmt.Errorf("wait for gRPC calls: %w", ctx.Err())
	}
}

// Close cuts off everything and frees the address, whether Serve was called or not. It may be
// called more than once.
func (s *Server) Close() error {
	s.srv.Stop()
	if s.listener == nil {
		return nil
	}
	// Serve closes it too; only a listener that was never served on is still open.
	if err := s.listener.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// Part returns the server as a part of a run group.
func (s *Server) Part(name string) lifecycle.Part {
	return lifecycle.Part{Name: name, Run: s.Serve, Stop: s.Shutdown}
}
