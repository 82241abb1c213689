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
	"github.com/promontory-io/promontory/services/querier/internal/endpoints"
	"github.com/promontory-io/promontory/services/querier/internal/engine"
	"github.com/promontory-io/promontory/services/querier/internal/fanout"
	"github.com/promontory-io/promontory/services/querier/internal/gather"
	"github.com/promontory-io/promontory/services/querier/internal/grpcapi"
	"github.com/promontory-io/promontory/services/querier/internal/httpapi"
	"github.com/promontory-io/promontory/services/querier/internal/selects"
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

	proxy := fanout.New(set, fanout.Config{
		SelectorLabels: own, Relabel: rules,
		ResponseTimeout: cfg.Query.ResponseTimeout, ReadAhead: cfg.Query.MaxBufferedResponses,
	}, p.Logger, p.Registry)
	creator := selects.New(proxy, selects.Config{
		MaxConcurrent: cfg.Query.MaxConcurrentSelects, Dedup: dedup.Func(cfg.Query.DedupFunc),
	}, p.Registry)
	gatherer := gather.New(set, gather.Config{
		ReplicaLabels: cfg.Query.ReplicaLabels, SelectorLabels: own, ResponseTimeout: cfg.Query.ResponseTimeout,
	}, p.Logger)

	engines := newEngines(cfg, p)
	defer func() { closeErr = errors.Join(closeErr, engines.Close()) }()

	api, err := newAPI(cfg, p, httpapi.Deps{
		Engine: engines, Parse: engines.Parse, Storage: creator, Gatherer: gatherer, Stores: set,
	})
	if err != nil {
		return err
	}
	cfg.Web.Normalize(true)
	cfg.Web.Mount(p.HTTP, "/graph", api)

	server := grpcapi.New(grpcapi.Config{
		Limits:                     storeapi.Limits{Series: cfg.SeriesLimit, Samples: cfg.SamplesLimit},
		QueryTimeout:               cfg.Query.Timeout,
		ReplicaLabels:              cfg.Query.ReplicaLabels,
		InstantMaxSourceResolution: cfg.Query.InstantMaxSourceResolution,
	}, grpcapi.Deps{
		Proxy: proxy, Gatherer: gatherer, Selects: creator, Engine: engines, Ready: p.Status.Ready,
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

func newEngines(cfg Config, p *service.Process) *engine.Engines {
	if slices.Contains(cfg.Query.Features, FeatureExperimentalFunctions) {
		engine.EnableExperimentalFunctions()
	}
	return engine.New(engine.Config{
		Default:                   promapi.Engine(cfg.Query.Engine),
		LookbackDelta:             cfg.Query.LookbackDelta,
		DynamicLookback:           cfg.Query.DynamicLookbackDelta,
		Timeout:                   cfg.Query.Timeout,
		DefaultEvaluationInterval: cfg.Query.DefaultEvaluationInterval,
		XFunctions:                cfg.Query.XFunctions,
		DisableFallback:           cfg.Query.DisableFallback,
		ActiveQueryPath:           cfg.Query.ActiveQueryPath,
		MaxConcurrent:             cfg.Query.MaxConcurrent,
		Mode:                      cfg.Query.Mode,
	}, logging.Slog(p.Logger.Named("engine")), p.Registry)
}

// newAPI makes the HTTP API; what deps leaves out is that of the process.
func newAPI(cfg Config, p *service.Process, deps httpapi.Deps) (*httpapi.API, error) {
	tenants := httpapi.Tenancy{
		Source: tenancy.Source{
			Header:  cfg.Tenancy.Header,
			Default: cfg.Tenancy.DefaultTenant,
			Field:   tenancy.CertificateField(cfg.Tenancy.CertificateField),
		},
		Enforce: cfg.Tenancy.Enforce,
		Label:   cfg.Tenancy.Label,
	}
	deps.Wrap = p.Middleware(tenants.Tenant).Wrap
	deps.Logger, deps.Registerer = p.Logger, p.Registry
	return httpapi.New(httpapi.Config{
		Defaults: promapi.Defaults{
			Engine:                     promapi.Engine(cfg.Query.Engine),
			ReplicaLabels:              cfg.Query.ReplicaLabels,
			PartialResponse:            cfg.Partial.Query,
			AutoDownsampling:           cfg.Query.AutoDownsampling,
			InstantMaxSourceResolution: cfg.Query.InstantMaxSourceResolution,
			Step:                       cfg.Query.DefaultStep,
			MetadataRange:              cfg.Query.MetadataRange,
		},
		Partial: httpapi.PartialResponse{
			Rules: cfg.Partial.Rules, Targets: cfg.Partial.Targets, Metadata: cfg.Partial.Metadata,
			Exemplars: cfg.Partial.Exemplars, Status: cfg.Partial.Status,
		},
		Timeout:       cfg.Query.Timeout,
		MaxConcurrent: cfg.Query.MaxConcurrent,
		CORS:          cfg.Web.CORS,
		Tenancy:       tenants,
		Telemetry:     httpapi.Telemetry(cfg.Telemetry),
		Flags:         p.Flags,
	}, deps)
}

// warn says at start what was asked for and will not be as expected.
func warn(cfg Config, logger *zap.Logger) {
	if cfg.Query.Mode == ModeDistributed {
		logger.Warn("queries are evaluated here, over the Store API: --query.mode=distributed has no effect")
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
