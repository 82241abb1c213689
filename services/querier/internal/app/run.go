package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/promontory-io/promontory/libs/budget"
	"github.com/promontory-io/promontory/libs/dedup"
	"github.com/promontory-io/promontory/libs/promapi"
	"github.com/promontory-io/promontory/libs/service"
	"github.com/promontory-io/promontory/libs/service/flags"
	"github.com/promontory-io/promontory/libs/service/grpcclient"
	"github.com/promontory-io/promontory/libs/service/grpcserver"
	"github.com/promontory-io/promontory/libs/service/lifecycle"
	"github.com/promontory-io/promontory/libs/service/logging"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/libs/tenancy"
	"github.com/promontory-io/promontory/libs/webui"
	"github.com/promontory-io/promontory/services/querier/internal/active"
	"github.com/promontory-io/promontory/services/querier/internal/deny"
	"github.com/promontory-io/promontory/services/querier/internal/distributed"
	"github.com/promontory-io/promontory/services/querier/internal/endpoints"
	"github.com/promontory-io/promontory/services/querier/internal/engine"
	"github.com/promontory-io/promontory/services/querier/internal/fanout"
	"github.com/promontory-io/promontory/services/querier/internal/gather"
	"github.com/promontory-io/promontory/services/querier/internal/grpcapi"
	"github.com/promontory-io/promontory/services/querier/internal/health"
	"github.com/promontory-io/promontory/services/querier/internal/httpapi"
	"github.com/promontory-io/promontory/services/querier/internal/selects"
	"github.com/promontory-io/promontory/services/querier/internal/slowlog"
)

// Run wires a querier and serves until ctx ends.
func Run(ctx context.Context, cfg Config, p *service.Process) (closeErr error) {
	warn(cfg, p.Logger)
	own := selectorLabels(cfg.SelectorLabels)
	rules, err := selectorRelabel(&cfg.SelectorRelabel)
	if err != nil {
		return err
	}

	discover, err := newDiscoverer(cfg.Endpoints, cfg.Client, p.Logger, p.Registry)
	if err != nil {
		return err
	}
	p.Group.OnReload("endpoints", discover.reload)
	set := endpoints.NewSet(endpoints.Config{
		Interval:         endpoints.DefaultConfig().Interval,
		InfoTimeout:      cfg.Endpoints.InfoTimeout,
		UnhealthyTimeout: cfg.Endpoints.UnhealthyTimeout,
		ConnMetricLabels: cfg.Endpoints.ConnMetricLabels,
	}, endpoints.Deps{
		Discover: discover.targets, Dial: dial(p.Dialer(), discover.resolver),
		Logger: p.Logger, Registerer: p.Registry,
	})
	p.Group.AddPart(lifecycle.Part{Name: "endpoints", Ready: set.Ready(), Run: func(ctx context.Context) error {
		discover.prepare(ctx)
		g, ctx := errgroup.WithContext(ctx)
		g.Go(func() error { return discover.run(ctx) })
		g.Go(func() error { return set.Run(ctx) })
		return g.Wait()
	}})

	stores := health.New(cfg.Query.Breaker, nil, p.Registry)
	proxy := fanout.New(set, fanout.Config{
		SelectorLabels: own, Relabel: rules, Health: stores,
		ResponseTimeout: cfg.Query.ResponseTimeout, ReadAhead: cfg.Query.MaxBufferedResponses,
	}, p.Logger, p.Registry)
	creator := selects.New(proxy, selects.Config{
		MaxConcurrent: cfg.Query.MaxConcurrentSelects, Dedup: dedup.Func(cfg.Query.DedupFunc),
	}, p.Registry)
	gatherer := gather.New(set, gather.Config{
		ReplicaLabels: cfg.Query.ReplicaLabels, SelectorLabels: own, ResponseTimeout: cfg.Query.ResponseTimeout,
	}, p.Logger)

	engines := newEngines(cfg, set, p)
	defer func() { closeErr = errors.Join(closeErr, engines.Close()) }()

	tenants := newTenancy(cfg)
	middleware := p.Middleware(tenants.Tenant)
	denied, err := deny.Parse(cfg.Query.Deny)
	if err != nil {
		return fmt.Errorf("--query.deny: %w", err)
	}
	running := active.New(cfg.Query.MaxBytes, memoryBudget(cfg.Query.MemoryBudget, p), nil, p.Registry)
	api, err := newAPI(cfg, p, running, denied, httpapi.Deps{
		Wrap:   middleware.Wrap,
		Engine: engines, Parse: engines.Parse, Storage: creator, Gatherer: gatherer, Stores: set, Health: stores,
	})
	if err != nil {
		return err
	}
	cfg.Web.Normalize(true)
	handler, closeCaches, err := withFrontend(cfg, p, tenants.Source, engines, middleware, api)
	if err != nil {
		return err
	}
	defer func() { closeErr = errors.Join(closeErr, closeCaches()) }()
	cfg.Web.Mount(p.HTTP, "/graph", webui.Over(pages(api.Wrap), handler))

	server := grpcapi.New(grpcapi.Config{
		Limits:                     storeapi.Limits{Series: cfg.SeriesLimit, Samples: cfg.SamplesLimit},
		QueryTimeout:               cfg.Query.Timeout,
		ReplicaLabels:              cfg.Query.ReplicaLabels,
		InstantMaxSourceResolution: cfg.Query.InstantMaxSourceResolution,
		EnforceLabel:               enforceLabel(cfg.Tenancy),
	}, grpcapi.Deps{
		Proxy: proxy, Gatherer: gatherer, Selects: creator, Engine: engines, Parse: engines.Parse, Gate: api.Queries(), Active: running, Deny: denied, Ready: p.Status.Ready,
		Logger: p.Logger, Registerer: p.Registry,
	})
	_, err = p.GRPC(grpcserver.Options{
		Register:      []func(grpc.ServiceRegistrar){server.Register},
		ServerOptions: []grpc.ServerOption{storeapi.ServerOption()},
	})
	if err != nil {
		return err
	}
	return p.Serve(ctx)
}

func newEngines(cfg Config, set endpoints.Source, p *service.Process) *engine.Engines {
	if slices.Contains(cfg.Query.Features, FeatureExperimentalFunctions) {
		engine.EnableExperimentalFunctions()
	}
	return engine.New(engine.Config{
		Default:                   defaultEngine(cfg),
		LookbackDelta:             cfg.Query.LookbackDelta,
		DynamicLookback:           cfg.Query.DynamicLookbackDelta,
		Timeout:                   cfg.Query.Timeout,
		DefaultEvaluationInterval: cfg.Query.DefaultEvaluationInterval,
		XFunctions:                cfg.Query.XFunctions,
		DisableFallback:           cfg.Query.DisableFallback,
		ActiveQueryPath:           cfg.Query.ActiveQueryPath,
		MaxConcurrent:             cfg.Query.MaxConcurrent,
		Distribution:              distribution(cfg, set),
	}, logging.Slog(p.Logger.Named("engine")), p.Registry)
}

// distribution is nil where queries are evaluated here.
func distribution(cfg Config, set endpoints.Source) *engine.Distribution {
	if cfg.Query.Mode != engine.ModeDistributed {
		return nil
	}
	return &engine.Distribution{
		Endpoints: set,
		Config:    distributed.Config{PartitionLabels: cfg.Query.PartitionLabels, Overlapping: cfg.Query.OverlappingInterval},
	}
}

// defaultEngine is that of queries whose request names none; only one of the two can be distributed.
func defaultEngine(cfg Config) promapi.Engine {
	if cfg.Query.Mode == engine.ModeDistributed {
		return promapi.EngineThanos
	}
	return promapi.Engine(cfg.Query.Engine)
}

// newAPI makes the HTTP API; what deps leaves out is that of the process.
func newAPI(cfg Config, p *service.Process, running *active.Registry, denied *deny.Rules, deps httpapi.Deps) (*httpapi.API, error) {
	deps.Logger, deps.Registerer = p.Logger, p.Registry
	return httpapi.New(httpapi.Config{
		Defaults: apiDefaults(cfg),
		Partial: httpapi.PartialResponse{
			Rules: cfg.Partial.Rules, Targets: cfg.Partial.Targets, Metadata: cfg.Partial.Metadata,
			Exemplars: cfg.Partial.Exemplars, Status: cfg.Partial.Status,
		},
		Timeout:       cfg.Query.Timeout,
		MaxConcurrent: cfg.Query.MaxConcurrent,
		CORS:          cfg.Web.CORS,
		Tenancy:       newTenancy(cfg),
		Telemetry:     httpapi.Telemetry(cfg.Telemetry),
		Flags:         p.Flags,
		Active:        running,
		Deny:          denied,
		Slow:          slowlog.New(cfg.Query.SlowerThan, p.Logger),
	}, deps)
}

// enforceLabel is empty where everybody sees everything.
func enforceLabel(cfg TenancyConfig) string {
	if !cfg.Enforce {
		return ""
	}
	return cfg.Label
}

// memoryBudget is what all queries together may hold; without a limit given, a share of the process' memory.
func memoryBudget(limit int64, p *service.Process) *budget.Budget {
	if limit == 0 {
		total, source := budget.ProcessLimit()
		limit = budget.Share(total, 0)
		p.Logger.Info("memory budget of queries", zap.Int64("bytes", limit), zap.Int64("memory", total), zap.String("source", string(source)))
	}
	return budget.New(limit, p.Registry)
}

// newTenancy tells whose requests are, and what they may see.
func newTenancy(cfg Config) httpapi.Tenancy {
	return httpapi.Tenancy{
		Source: tenancy.Source{
			Header:  cfg.Tenancy.Header,
			Default: cfg.Tenancy.DefaultTenant,
			Field:   tenancy.CertificateField(cfg.Tenancy.CertificateField),
		},
		Enforce: cfg.Tenancy.Enforce,
		Label:   cfg.Tenancy.Label,
	}
}

// warn says at start what was asked for and will not be as expected.
func warn(cfg Config, logger *zap.Logger) {
	if cfg.Query.Mode == engine.ModeDistributed && cfg.Query.Engine != string(promapi.EngineThanos) {
		logger.Info("--query.mode=distributed: queries whose request names no engine are evaluated by the thanos engine")
	}
	for _, f := range cfg.Query.Features {
		if f != FeatureExperimentalFunctions {
			logger.Warn("--enable-feature: unknown feature is ignored", zap.String("feature", f))
		}
	}
}

func selectorLabels(ls []flags.Label) labels.Labels {
	b := labels.NewScratchBuilder(len(ls))
	for _, l := range ls {
		b.Add(l.Name, l.Value)
	}
	b.Sort()
	return b.Labels()
}

func selectorRelabel(content *flags.Content) ([]*relabel.Config, error) {
	if !content.IsSet() {
		return nil, nil
	}
	var rules []*relabel.Config
	if err := content.Decode(&rules); err != nil {
		return nil, fmt.Errorf("--selector.relabel-config: %w", err)
	}
	var errs []error
	for i, r := range rules {
		if r == nil {
			errs = append(errs, fmt.Errorf("--selector.relabel-config: %s: rule %d is empty", content.Source(), i))
			continue
		}
		if err := r.Validate(model.UTF8Validation); err != nil {
			errs = append(errs, fmt.Errorf("--selector.relabel-config: %s: rule %d: %w", content.Source(), i, err))
		}
	}
	return rules, errors.Join(errs...)
}

// dial returns how peers are called.
func dial(dialer *grpcclient.Dialer, groups *endpoints.Groups) func(endpoints.Target) (endpoints.Conn, error) {
	return func(t endpoints.Target) (endpoints.Conn, error) {
		opts := []grpc.DialOption{
			storeapi.DialOption(),
			// A peer that comes back is used again at the next check, not minutes later.
			grpc.WithConnectParams(grpc.ConnectParams{
				Backoff:           backoff.Config{BaseDelay: 500 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 5 * time.Second},
				MinConnectTimeout: 5 * time.Second,
			}),
		}
		target := "passthrough:///" + t.Addr
		if t.Group {
			target = endpoints.DialTarget(t)
			opts = append(opts, groups.DialOptions(t)...)
		}
		conn, err := dialer.NewClient(target, t.Client, opts...)
		if err != nil {
			return nil, err
		}
		return conn, nil
	}
}
