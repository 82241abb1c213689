package app

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/budget"
	"github.com/promontory-io/promontory/libs/hashring"
	"github.com/promontory-io/promontory/libs/objstore"
	"github.com/promontory-io/promontory/libs/promapi/procstatus"
	"github.com/promontory-io/promontory/libs/service"
	"github.com/promontory-io/promontory/libs/service/flags"
	"github.com/promontory-io/promontory/libs/service/grpcserver"
	"github.com/promontory-io/promontory/libs/service/lifecycle"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/libs/webui"
	"github.com/promontory-io/promontory/services/receiver/internal/api"
	"github.com/promontory-io/promontory/services/receiver/internal/forward"
	"github.com/promontory-io/promontory/services/receiver/internal/grpcapi"
	"github.com/promontory-io/promontory/services/receiver/internal/limits"
	"github.com/promontory-io/promontory/services/receiver/internal/remotewrite"
	"github.com/promontory-io/promontory/services/receiver/internal/tenants"
	"github.com/promontory-io/promontory/services/receiver/internal/verdict"
)

// Run wires a receiver and serves until ctx ends.
func Run(ctx context.Context, cfg Config, p *service.Process) error {
	for _, f := range cfg.Features {
		p.Logger.Warn("--enable-feature: has no effect", zap.String("feature", f))
	}
	rules, err := relabelRules(&cfg.Write.Relabel)
	if err != nil {
		return err
	}
	bucket, err := newBucket(&cfg.Upload, p)
	if err != nil {
		return err
	}
	var rings atomic.Pointer[hashring.Rings]
	multi := newTenants(cfg, bucket, &rings, p)
	if cfg.keeps() {
		p.Group.AddPart(tenantsPart(multi, cfg))
	}
	forwarder, err := newForwarder(cfg, multi, p)
	if err != nil {
		return err
	}
	p.Group.AddPart(waitsAtStop("forwarder", forwarder.Close))
	if err := addRings(cfg, forwarder, multi, &rings, p); err != nil {
		return err
	}
	limiter, err := newLimiter(cfg, forwarder, multi, p)
	if err != nil {
		return err
	}
	p.Group.Add("limits", limiter.Run)

	// Who was let in before a stop is served to the end: readiness says who should come, not who may.
	var started atomic.Bool
	p.Status.OnReadyChange(func(ready bool) {
		if ready {
			started.Store(true)
		}
	})
	server := grpcapi.New(grpcapi.Config{
		Limits: storeapi.Limits{Series: cfg.SeriesLimit, Samples: cfg.SamplesLimit},
		Router: cfg.hasRing(), Ingester: cfg.keeps(),
	}, grpcapi.Deps{Tenants: multi, Forwarder: forwarder, Reads: readBudget(cfg, p), Ready: started.Load, Logger: p.Logger, Registerer: p.Registry})
	_, err = p.GRPC(grpcserver.Options{
		Register:      []func(grpc.ServiceRegistrar){server.Register},
		ServerOptions: []grpc.ServerOption{storeapi.ServerOption()},
	})
	if err != nil {
		return err
	}
	writes := newAPI(cfg, rules, api.Deps{
		Writer: forwarder, Limits: limiter, Tenants: multi, Cluster: forwarder, Ready: started.Load, Logger: p.Logger, Registerer: p.Registry,
	})
	srv, err := listen(cfg.Write, cfg.Common.HTTP.GracePeriod, routes(cfg, writes, p), p.Logger)
	if err != nil {
		return err
	}
	p.Group.AddPart(srv.part())
	return p.Serve(ctx)
}

// readBudget is what reads may hold. Writes have their own, taken off first: neither can starve the other.
func readBudget(cfg Config, p *service.Process) *budget.Budget {
	limit := cfg.ReadBytes
	if limit == 0 {
		total, source := budget.ProcessLimit()
		limit = budget.Share(total, cfg.Write.MaxBytes)
		p.Logger.Info("memory budget of reads", zap.Int64("bytes", limit), zap.Int64("memory", total), zap.String("source", string(source)))
	}
	return budget.New(limit, p.Registry)
}

// routes are the paths of the write address.
func routes(cfg Config, a *api.API, p *service.Process) http.Handler {
	source := cfg.source()
	mw := p.Middleware(func(r *http.Request) string {
		tenant, err := source.Tenant(r)
		if err != nil {
			return cfg.Tenant.Default // names that are none must not become label values
		}
		return tenant
	})
	mux := http.NewServeMux()
	receive, otlp := mw.Plain("receive", a.Receive()), mw.Plain("otlp", a.OTLP())
	mux.Handle("POST /api/v1/receive", receive)
	mux.Handle("POST /api/v1/write", receive)
	mux.Handle("POST /api/v1/otlp", otlp)
	mux.Handle("POST /api/v1/otlp/v1/metrics", otlp)
	status := map[string]http.Handler{
		"GET /api/v1/status/tsdb":      mw.Wrap("tsdb_status", a.TSDBStatus()),
		"GET /api/v1/status/hashrings": mw.Wrap("hashrings", a.Hashrings()),
		"GET /api/v1/status/tenants":   mw.Wrap("tenants", a.TenantList()),
	}
	// Status is for operators too, who reach the HTTP address and perhaps not the one that senders write to.
	for pattern, h := range status {
		mux.Handle(pattern, h)
		p.HTTP.Handle(pattern, h)
	}
	procstatus.Handle(p.HTTP, p.Flags, mw.Wrap, p.Logger)
	pages := webui.Config{Service: "receiver", Pages: []webui.Page{webui.Tenants, webui.Flags, webui.Status}, Wrap: mw.Wrap}
	p.HTTP.Handle("/", webui.Over(pages, http.NotFoundHandler()))
	return mux
}

func newAPI(cfg Config, rules []*relabel.Config, deps api.Deps) *api.API {
	c := api.DefaultConfig()
	c.Tenant, c.SplitLabel, c.Relabel = cfg.source(), cfg.Tenant.SplitLabel, rules
	c.MaxBody, c.MaxBytes = cfg.Write.MaxBody, cfg.Write.MaxBytes
	c.Router, c.Replicas = cfg.hasRing(), cfg.Ring.Replicas
	c.OTLP = api.OTLPConfig{TargetInfo: cfg.OTLP.TargetInfo, Promote: cfg.OTLP.Promote}
	// Only a node that both forwards and keeps takes requests that are copies over HTTP.
	c.ReplicaHeader = ""
	if cfg.hasRing() && cfg.keeps() {
		c.ReplicaHeader = cfg.Ring.ReplicaHeader
	}
	return api.New(c, deps)
}

func relabelRules(content *flags.Content) ([]*relabel.Config, error) {
	if !content.IsSet() {
		return nil, nil
	}
	var rules []*relabel.Config
	if err := content.Decode(&rules); err != nil {
		return nil, fmt.Errorf("--receive.relabel-config: %w", err)
	}
	var errs []error
	for i, r := range rules {
		if r == nil {
			errs = append(errs, fmt.Errorf("--receive.relabel-config: %s: rule %d is empty", content.Source(), i))
			continue
		}
		if err := r.Validate(model.UTF8Validation); err != nil {
			errs = append(errs, fmt.Errorf("--receive.relabel-config: %s: rule %d: %w", content.Source(), i, err))
		}
	}
	return rules, errors.Join(errs...)
}

// newBucket opens the bucket, nil where there is none.
func newBucket(cfg *UploadConfig, p *service.Process) (objstore.Bucket, error) {
	if !cfg.Bucket.IsSet() {
		p.Logger.Info("no bucket configured, blocks are not uploaded")
		return nil, nil
	}
	content, err := cfg.Bucket.Bytes()
	if err != nil {
		return nil, err
	}
	bkt, err := objstore.New(content, component, p.Logger, p.Registry, objstore.WithSource(cfg.Bucket.Source()))
	if err != nil {
		return nil, err
	}
	return bkt, nil
}

func newTenants(cfg Config, bucket objstore.Bucket, rings *atomic.Pointer[hashring.Rings], p *service.Process) *tenants.Multi {
	o := tenants.DefaultOptions()
	t := cfg.TSDB
	o.Dir, o.Labels, o.TenantLabel = t.Path, externalLabels(cfg.Labels), cfg.Tenant.Label
	o.BlockDuration, o.MaxBlockDuration, o.Retention, o.MaxBytes = t.MinBlock, t.MaxBlock, t.Retention, t.MaxBytes
	o.WALCompression, o.NoLockfile, o.MaxExemplars = t.WALCompression, t.NoLockfile, t.MaxExemplars
	o.OutOfOrderWindow, o.OutOfOrderCapMax, o.TooFarInFuture = t.OutOfOrder, t.OutOfOrderCapMax, t.TooFarInFuture
	o.WriteQueueSize, o.SnapshotOnStop, o.OpenWait = t.WriteQueueSize, t.Snapshot, t.OpenWait
	o.HashFunc, o.UploadConcurrency = block.HashFunc(cfg.Upload.HashFunc), cfg.Upload.Concurrency
	o.UploadOutOfOrder, o.SkipCorrupted = cfg.Upload.OutOfOrder, cfg.Upload.SkipCorrupted
	return tenants.New(o, tenants.Deps{
		Bucket: bucket, Logger: p.Logger, Registerer: p.Registry,
		RingLabels: func(tenant string) labels.Labels {
			if r := rings.Load(); r != nil {
				return r.ExternalLabels(tenant)
			}
			return labels.EmptyLabels()
		},
	})
}

func externalLabels(ls []flags.Label) labels.Labels {
	b := labels.NewScratchBuilder(len(ls))
	for _, l := range ls {
		b.Add(l.Name, l.Value)
	}
	b.Sort()
	return b.Labels()
}

// tenantsPart opens the databases and keeps them. It is ready when it knows which there are: writes and
// reads do not wait for their logs.
func tenantsPart(multi *tenants.Multi, cfg Config) lifecycle.Part {
	ready := make(chan struct{})
	upkeep, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	return lifecycle.Part{
		Name: "tenants", Ready: ready,
		Run: func(ctx context.Context) error {
			defer close(done)
			defer context.AfterFunc(ctx, stop)()
			if err := multi.Start(); err != nil {
				return fmt.Errorf("--tsdb.path=%s: %w", cfg.TSDB.Path, err)
			}
			if err := multi.Create(cfg.Tenant.Default); err != nil {
				return err
			}
			close(ready)
			return multi.Run(upkeep)
		},
		Stop: func(ctx context.Context) error {
			stop()
			<-done
			return multi.Stop(ctx)
		},
	}
}

// waitsAtStop is a part that has only something to do when it stops.
func waitsAtStop(name string, f func() error) lifecycle.Part {
	stopped := make(chan struct{})
	return lifecycle.Part{
		Name: name,
		Run: func(ctx context.Context) error {
			select {
			case <-stopped:
			case <-ctx.Done():
			}
			return nil
		},
		Stop: func(context.Context) error {
			close(stopped)
			return f()
		},
	}
}

// local is what the forwarder keeps here.
type local struct{ *tenants.Multi }

var _ forward.Local = local{}

// Describe implements forward.Local.
func (l local) Describe(tenant string, ms []remotewrite.Metadata) {
	if t := l.Tenant(tenant); t != nil {
		t.Describe(ms)
	}
}

// Append implements forward.Local.
func (l local) Append(ctx context.Context, tenant string, ss []remotewrite.Series, pick []uint32) ([]verdict.Failure, error) {
	return l.Multi.Append(ctx, tenant, ss, pick)
}

func newForwarder(cfg Config, multi *tenants.Multi, p *service.Process) (*forward.Forwarder, error) {
	opts := []grpc.DialOption{
		// A node that comes back is used again soon.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 500 * time.Millisecond},
			MinConnectTimeout: 2 * time.Second,
		}),
	}
	if cfg.Ring.ServiceCfg.IsSet() {
		content, err := cfg.Ring.ServiceCfg.Bytes()
		if err != nil {
			return nil, err
		}
		opts = append(opts, grpc.WithDefaultServiceConfig(string(content)))
	}
	dialer := p.Dialer()
	fc := forward.DefaultConfig()
	fc.Replicas, fc.Timeout, fc.MaxBackoff = cfg.Ring.Replicas, cfg.Ring.Timeout, cfg.Ring.MaxBackoff
	deps := forward.Deps{
		Dial: func(addr string) (forward.Conn, error) {
			conn, err := dialer.NewClient("passthrough:///"+addr, cfg.Client, opts...)
			if err != nil {
				return nil, err
			}
			return conn, nil
		},
		Logger: p.Logger, Registerer: p.Registry,
	}
	if cfg.keeps() {
		fc.Local, deps.Local = localAddress(cfg), local{multi}
	}
	return forward.New(fc, deps), nil
}

// localAddress is our own address in the rings.
func localAddress(cfg Config) string {
	if cfg.Ring.Local != "" {
		return cfg.Ring.Local
	}
	return "local"
}

// addRings loads the hashrings, or makes one of this node alone.
func addRings(cfg Config, f *forward.Forwarder, multi *tenants.Multi, rings *atomic.Pointer[hashring.Rings], p *service.Process) error {
	reshuffled := make(chan struct{}, 1)
	apply := func(r *hashring.Rings) {
		old := rings.Swap(r)
		f.SetRings(r)
		if old == nil || !cfg.keeps() || !r.Reshuffles(old) {
			return
		}
		select {
		case reshuffled <- struct{}{}:
		default:
		}
	}
	loader := newRingLoader(cfg.Ring, apply, p.Logger, p.Registry)
	if !cfg.hasRing() {
		apply(hashring.SingleRings(localAddress(cfg)))
		return nil
	}
	if err := loader.start(); err != nil {
		return fmt.Errorf("hashrings: %w", err)
	}
	p.Group.OnReload("hashrings", func(context.Context) error { return loader.load(true) })
	p.Group.AddPart(lifecycle.Part{Name: "hashrings", Run: loader.run, Ready: loader.loaded})
	// What is kept here belongs to other nodes then: it is in the bucket soon, and is not kept in two heads for hours.
	p.Group.Add("reshuffle", func(ctx context.Context) error {
		for {
			select {
			case <-reshuffled:
				p.Logger.Info("hashrings have moved series to other nodes: heads are flushed")
				multi.Flush(ctx)
			case <-ctx.Done():
				return nil
			}
		}
	})
	return nil
}

func newLimiter(cfg Config, f *forward.Forwarder, multi *tenants.Multi, p *service.Process) (*limits.Limiter, error) {
	c := &counter{forwarder: f, local: multi}
	o := limits.Options{
		Path: cfg.Limits.Path(), Interval: cfg.LimitsInterval, Count: c.count, Logger: p.Logger.Named("limits"), Registerer: p.Registry,
	}
	if cfg.Limits.IsSet() {
		o.Load = cfg.Limits.Bytes
	}
	return limits.New(o)
}
