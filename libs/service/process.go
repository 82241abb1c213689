package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"
	"github.com/prometheus/common/version"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/service/grpcclient"
	"github.com/promontory-io/promontory/libs/service/grpcserver"
	"github.com/promontory-io/promontory/libs/service/httpserver"
	"github.com/promontory-io/promontory/libs/service/lifecycle"
	"github.com/promontory-io/promontory/libs/service/logging"
	"github.com/promontory-io/promontory/libs/service/requestlog"
	"github.com/promontory-io/promontory/libs/service/tracing"
)

// flushTimeout is how long the last traces may take to be sent.
const flushTimeout = 5 * time.Second

// Process is what a service is wired with. It is used by one goroutine until Serve; what the fields
// point to is safe for concurrent use as their types say.
type Process struct {
	Logger *zap.Logger
	// Registry is what /metrics shows. It has the metrics of the Go runtime, the process and the build.
	Registry *prometheus.Registry
	Tracing  *tracing.Tracing
	// Status is kept by Group; wiring seldom needs it.
	Status *lifecycle.Status
	// Group takes the long-lived parts of the service.
	Group *lifecycle.Group
	// HTTP listens already (so that its address is known) and serves from Serve on.
	HTTP *httpserver.Server
	// RequestLog is the parsed request log configuration; nil when there is none.
	RequestLog *requestlog.Policy
	// Flags holds the value of every flag by name, secrets redacted, as /api/v1/status/flags shows
	// them; empty when the process was not made by NewCommand.
	Flags map[string]string

	cfg       Config
	grpc      *grpcserver.Server
	closeOnce sync.Once
	closeErr  error
}

// NewProcess builds a process of its configuration, with log lines going to logs, and takes the HTTP
// address. Services get theirs from NewCommand; tests call this. Close has to be called in the end.
func NewProcess(cfg Config, logs io.Writer) (*Process, error) {
	if cfg.name == "" {
		cfg.name = cfg.Component
	}
	logger, err := logging.New(cfg.Log, logs)
	if err != nil {
		return nil, err
	}
	p := &Process{Logger: logger, Registry: prometheus.NewRegistry(), Flags: cfg.effective, cfg: cfg}
	p.Registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		versioncollector.NewCollector("thanos"),
	)
	logger.Info("starting", zap.String("service", cfg.name), zap.String("version", version.Version),
		zap.String("revision", version.GetRevision()), zap.String("go", version.GoVersion))
	for _, text := range cfg.warnings {
		logger.Warn("flag", zap.String("note", text))
	}
	if cfg.effective != nil {
		logger.Info("configuration", zap.Any("flags", cfg.effective))
	}
	if p.RequestLog, err = requestlog.Load(&cfg.RequestLog); err != nil {
		return nil, fmt.Errorf("request log: %w", err)
	}
	setMemoryLimit(cfg, logger)

	p.Status = lifecycle.NewStatus(cfg.Component, p.Registry)
	p.Group = lifecycle.NewGroup(logger, p.Status, max(cfg.HTTP.GracePeriod, cfg.GRPC.GracePeriod))
	p.Group.AddReloadSignal()
	p.HTTP = httpserver.New(cfg.HTTP, httpserver.Options{
		Logger: logger, Gatherer: p.Registry, Registerer: p.Registry, Status: p.Status,
	})
	p.Tracing, err = tracing.Load(context.Background(), &cfg.Tracing, tracing.Options{
		Logger: logger, ServiceName: "thanos-" + cfg.Component, Version: version.Version,
	})
	if err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	if err := p.HTTP.Listen(); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

func setMemoryLimit(cfg Config, logger *zap.Logger) {
	if !cfg.AutoMemLimit {
		return
	}
	limit, err := memlimit.Set(
		memlimit.WithRatio(cfg.MemLimitRatio),
		memlimit.WithProvider(memlimit.FromCgroup),
		memlimit.WithLogger(logging.Slog(logger.Named("memlimit"))),
	)
	if err != nil {
		// Without a limit to read there is nothing to stay below, which is no reason not to start.
		logger.Warn("GOMEMLIMIT is not set", zap.Error(err))
		return
	}
	if limit == math.MaxInt64 {
		logger.Info("GOMEMLIMIT is not set: the container has no memory limit")
		return
	}
	logger.Info("GOMEMLIMIT is set", zap.Int64("limit_bytes", limit))
}

// Middleware returns the middleware for the service's HTTP API. Tenant, where it is not nil, gives the
// http_* metrics a tenant label. It is to be called once: the metrics can be registered once.
func (p *Process) Middleware(tenant func(*http.Request) string) *httpserver.Middleware {
	port := 0
	if tcp, ok := p.HTTP.Addr().(*net.TCPAddr); ok {
		port = tcp.Port
	}
	return httpserver.NewMiddleware(httpserver.MiddlewareOptions{
		Logger:     p.Logger,
		Registerer: p.Registry,
		Tracing:    p.Tracing,
		RequestLog: p.RequestLog,
		Tenant:     tenant,
		Port:       port,
	})
}

// GRPC makes the gRPC server of the process and takes its address; Serve runs it. What opts leaves
// out of logger, registerer, status, tracing and request log is filled in.
func (p *Process) GRPC(opts grpcserver.Options) (*grpcserver.Server, error) {
	if opts.Logger == nil {
		opts.Logger = p.Logger
	}
	if opts.Registerer == nil {
		opts.Registerer = p.Registry
	}
	if opts.Status == nil {
		opts.Status = p.Status
	}
	if opts.Tracing == nil {
		opts.Tracing = p.Tracing
	}
	if opts.RequestLog == nil {
		opts.RequestLog = p.RequestLog
	}
	srv, err := grpcserver.New(p.cfg.GRPC, opts)
	if err != nil {
		return nil, err
	}
	if err := srv.Listen(); err != nil {
		return nil, err
	}
	p.grpc = srv
	return srv, nil
}

// Dialer returns what the service calls other processes with. It is to be called once: the metrics
// can be registered once.
func (p *Process) Dialer() *grpcclient.Dialer {
	return grpcclient.New(grpcclient.Options{Registerer: p.Registry, Tracing: p.Tracing})
}

// Serve runs all parts and both servers until ctx is cancelled or one of them ends. The servers are
// stopped first, HTTP before gRPC, so that requests in flight still find the parts they need.
func (p *Process) Serve(ctx context.Context) error {
	if p.grpc != nil {
		p.Group.AddPart(p.grpc.Part("grpc"))
	}
	p.Group.AddPart(p.HTTP.Part("http"))
	return p.Group.Run(ctx)
}

// Close frees what Serve does not: addresses taken and never served on, and traces not sent yet. It
// may be called more than once.
func (p *Process) Close() error {
	p.closeOnce.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
		defer cancel()
		p.closeErr = p.HTTP.Close()
		if p.grpc != nil {
			p.closeErr = errors.Join(p.closeErr, p.grpc.Close())
		}
		if err := p.Tracing.Shutdown(ctx); err != nil {
			// Traces are the least of a process: they never decide its exit code.
			p.Logger.Warn("send last traces", zap.Error(err))
		}
		// Standard error cannot be synced on every platform, and there is nobody left to tell.
		_ = p.Logger.Sync()
	})
	return p.closeErr
}
