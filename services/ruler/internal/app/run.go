package app

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/common/model"
	promconfig "github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/storage"
	"github.com/thanos-io/promql-engine/execution/parse"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/ship"
	"github.com/promontory-io/promontory/libs/discovery"
	"github.com/promontory-io/promontory/libs/objstore"
	"github.com/promontory-io/promontory/libs/promapi/httpclient"
	"github.com/promontory-io/promontory/libs/rulefile"
	"github.com/promontory-io/promontory/libs/service"
	"github.com/promontory-io/promontory/libs/service/flags"
	"github.com/promontory-io/promontory/libs/service/grpcserver"
	"github.com/promontory-io/promontory/libs/service/lifecycle"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/libs/webui"
	"github.com/promontory-io/promontory/services/ruler/internal/database"
	"github.com/promontory-io/promontory/services/ruler/internal/evaluate"
	"github.com/promontory-io/promontory/services/ruler/internal/forward"
	"github.com/promontory-io/promontory/services/ruler/internal/gaps"
	"github.com/promontory-io/promontory/services/ruler/internal/grpcapi"
	"github.com/promontory-io/promontory/services/ruler/internal/httpapi"
	"github.com/promontory-io/promontory/services/ruler/internal/memory"
	"github.com/promontory-io/promontory/services/ruler/internal/notify"
	"github.com/promontory-io/promontory/services/ruler/internal/peers"
	"github.com/promontory-io/promontory/services/ruler/internal/query"
)

// component names the ruler in metrics and to buckets.
const component = "rule"

// uploadInterval is how often the folder is looked at for new blocks.
const uploadInterval = 30 * time.Second

// Run wires a ruler and serves until ctx ends.
func Run(ctx context.Context, cfg Config, p *service.Process) (err error) {
	enableFeatures(cfg.Rules, p.Logger)
	external := externalLabels(cfg.Labels)
	clients := newClientMetrics(p.Registry)

	queriers, err := newQueriers(cfg.Query, clients, p)
	if err != nil {
		return err
	}
	p.Group.AddPart(lifecycle.Part{Name: "queriers", Run: func(ctx context.Context) error {
		queriers.prepare(ctx)
		return queriers.run(ctx)
	}})
	client := query.New(queriers.all, p.Logger)

	queue, sender, err := addAlerts(cfg, external, clients, p)
	if err != nil {
		return err
	}
	store, err := addStorage(cfg, external, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.close()) }()

	mem, err := memory.Open(memory.Config{
		Path:            filepath.Join(cfg.DataDir, memory.FileName),
		OutageTolerance: cfg.Rules.OutageTolerance, GracePeriod: cfg.Rules.GracePeriod, ResendDelay: cfg.Rules.ResendDelay,
		Series: evaluate.Past{Local: store.local, Query: client, Ignored: ignored(external, cfg.Rules.IgnoredLabels)}.Series,
	}, p.Logger)
	if err != nil {
		return fmt.Errorf("--data-dir: %w", err)
	}
	p.Group.Add("memory", mem.Run)

	skipped, err := gaps.Open(filepath.Join(cfg.DataDir, gaps.FileName), p.Logger)
	if err != nil {
		return fmt.Errorf("--data-dir: %w", err)
	}
	p.Group.Add("gaps", skipped.Run)

	evaluator, err := newEvaluator(ctx, cfg, external, evaluate.Deps{
		Query: client, Appendable: store.appendable, Memory: mem, Gaps: skipped, Logger: p.Logger, Registerer: p.Registry,
	}, queue)
	if err != nil {
		return err
	}
	queriers.excuse = evaluator.Excuse // nothing is asked before rules are evaluated
	reload := newReloader(cfg.RuleFiles, evaluator, p.Logger, p.Registry)
	if err := reload.load(ctx); err != nil {
		return fmt.Errorf("--rule-file: %w", err)
	}
	p.Group.OnReload("rules", reload.load)
	ready := make(chan struct{})
	p.Group.AddPart(lifecycle.Part{Name: "rules", Ready: ready, Run: func(ctx context.Context) error {
		select {
		case <-store.opened:
		case <-ctx.Done():
		}
		close(ready)
		return evaluator.Run(ctx)
	}})

	cfg.Web.Normalize(false)
	wrap := p.Middleware(nil).Wrap
	cfg.Web.Mount(p.HTTP, "", webui.Over(webui.Config{
		Service: "ruler", Pages: []webui.Page{webui.Alerts, webui.Rules, webui.Gaps, webui.Ruler, webui.Flags, webui.Status}, Wrap: wrap,
	}, httpapi.New(httpapi.Deps{
		Rules: evaluator, External: external, Reload: reload.load,
		Status: statusOf(external, cfg.RemoteWrite.IsSet(), evaluator, reload, client, sender, queue),
		Wrap:   wrap, CORS: cfg.Web.CORS, Flags: p.Flags, Logger: p.Logger.Named("httpapi"),
	})))
	server := grpcapi.New(storeapi.Limits{Series: cfg.SeriesLimit, Samples: cfg.SamplesLimit}, grpcapi.Deps{
		Rules: evaluator, External: external, Database: store.database, Ready: p.Status.Ready, Registerer: p.Registry,
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

// functions guards the parser's table of functions, which is one for the whole process.
var functions sync.Once

// enableFeatures throws switches of the parser, which are one for the whole process in this version
// of the library: before the first rule is parsed, and never back.
func enableFeatures(cfg RulesConfig, logger *zap.Logger) {
	for _, f := range cfg.Features {
		if f != featureExperimentalFunctions {
			logger.Warn("--enable-feature: unknown feature is ignored", zap.String("feature", f))
		}
	}
	experimental := slices.Contains(cfg.Features, featureExperimentalFunctions)
	if !experimental && !cfg.XFunctions {
		return
	}
	functions.Do(func() {
		parser.EnableExperimentalFunctions = experimental
		if cfg.XFunctions {
			maps.Copy(parser.Functions, parse.XFunctions)
		}
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

// ignored are labels that series have for queriers and not for rules.
func ignored(external labels.Labels, names []string) []string {
	out := slices.Clone(names)
	external.Range(func(l labels.Label) { out = append(out, l.Name) })
	return out
}

// addAlerts adds the parts that bring alerts to Alertmanagers.
func addAlerts(cfg Config, external labels.Labels, clients *clientMetrics, p *service.Process) (*notify.Queue, *notify.Sender, error) {
	relabeling, err := relabelRules(&cfg.Alert.Relabel)
	if err != nil {
		return nil, nil, err
	}
	entries, err := alertmanagers(&cfg.Alertmanagers)
	if err != nil {
		return nil, nil, err
	}
	logger := p.Logger.Named("alerts")
	if len(entries) == 0 {
		logger.Warn("no Alertmanager configured, alerts are not sent")
	}
	resolver, err := discovery.NewResolver(discovery.ResolverType(cfg.Query.DNSResolver))
	if err != nil {
		return nil, nil, fmt.Errorf("--query.sd-dns-resolver: %w", err)
	}
	sections := make([]peers.Section, len(entries))
	for i, e := range entries {
		sections[i] = e.Section
	}
	pool, err := peers.NewPool(peers.Options{
		Sections: sections, DefaultPort: alertmanagerPort, DNSInterval: cfg.Alertmanagers.DNSInterval, Resolver: resolver,
		MetricPrefix: "thanos_rule_alertmanagers_", Logger: logger, Registerer: p.Registry,
	})
	if err != nil {
		return nil, nil, fmt.Errorf("alertmanagers: %w", err)
	}
	var managers []notify.Alertmanager
	for i, e := range entries {
		client, err := httpclient.New(e.HTTP, userAgent())
		if err != nil {
			return nil, nil, fmt.Errorf("alertmanagers: http_config: %w", err)
		}
		client.Transport = clients.wrap("alertmanager", p.Tracing.RoundTripper("alertmanager", client.Transport))
		managers = append(managers, notify.Alertmanager{
			Client: client, Timeout: time.Duration(e.Timeout), Version: e.APIVersion, URLs: urlsOf(pool, i),
		})
	}
	queue := notify.NewQueue(notify.QueueConfig{
		Capacity: notify.DefaultCapacity, Batch: notify.DefaultBatch,
		Drop: cfg.Alert.LabelDrop, External: external, Relabel: relabeling,
	}, logger, p.Registry)
	sender := notify.NewSender(queue, managers, logger, p.Registry)
	p.Group.Add("alertmanagers", pool.Run)
	p.Group.Add("alerts", func(ctx context.Context) error {
		pool.Prepare(ctx)
		err := sender.Run(ctx)
		for _, m := range managers {
			m.Client.CloseIdleConnections()
		}
		return err
	})
	return queue, sender, nil
}

func relabelRules(content *flags.Content) ([]*relabel.Config, error) {
	if !content.IsSet() {
		return nil, nil
	}
	var out []*relabel.Config
	if err := content.Decode(&out); err != nil {
		return nil, fmt.Errorf("--alert.relabel-config: %w", err)
	}
	var errs []error
	for i, r := range out {
		if r == nil {
			errs = append(errs, fmt.Errorf("--alert.relabel-config: %s: rule %d is empty", content.Source(), i))
			continue
		}
		if err := r.Validate(model.UTF8Validation); err != nil {
			errs = append(errs, fmt.Errorf("--alert.relabel-config: %s: rule %d: %w", content.Source(), i, err))
		}
	}
	return out, errors.Join(errs...)
}

func newEvaluator(ctx context.Context, cfg Config, external labels.Labels, deps evaluate.Deps, queue *notify.Queue) (*evaluate.Evaluator, error) {
	link, err := newLinks(cfg.Alert)
	if err != nil {
		return nil, err
	}
	base, err := externalURL(cfg.Alert)
	if err != nil {
		return nil, err
	}
	deps.Notify = func(_ context.Context, expr string, alerts ...*rules.Alert) {
		to, err := link.of(expr)
		if err != nil {
			deps.Logger.Warn("link of an alert", zap.Error(err))
		}
		out := make([]*notify.Alert, 0, len(alerts))
		for _, a := range alerts {
			n := &notify.Alert{Labels: a.Labels, Annotations: a.Annotations, StartsAt: a.FiredAt, EndsAt: a.ValidUntil, GeneratorURL: to}
			if !a.ResolvedAt.IsZero() {
				n.EndsAt = a.ResolvedAt
			}
			out = append(out, n)
		}
		queue.Push(out...)
	}
	return evaluate.New(ctx, evaluate.Config{
		External: external, Dropped: cfg.Alert.LabelDrop, Interval: cfg.Rules.Interval, QueryOffset: cfg.Rules.QueryOffset,
		Concurrency: cfg.Rules.Concurrency, ResendDelay: cfg.Rules.ResendDelay, OutageTolerance: cfg.Rules.OutageTolerance,
		GracePeriod: cfg.Rules.GracePeriod, ExternalURL: base,
	}, deps), nil
}

// store is where recorded samples go.
type store struct {
	appendable storage.Appendable
	local      storage.Queryable  // nil without a database
	database   *database.Database // nil without a database
	opened     <-chan struct{}
	close      func() error
}

func addStorage(cfg Config, external labels.Labels, p *service.Process) (*store, error) {
	if cfg.RemoteWrite.IsSet() {
		return addForwarding(cfg, external, p)
	}
	shipperFile := ""
	if cfg.Bucket.IsSet() {
		shipperFile = cfg.Shipper.MetaFileName
	}
	db := database.New(database.Config{
		Dir: cfg.DataDir, BlockDuration: cfg.TSDB.BlockDuration, Retention: cfg.TSDB.Retention,
		WALCompression: cfg.TSDB.WALCompression, NoLockfile: cfg.TSDB.NoLockfile, ShipperFile: shipperFile,
	}, p.Logger, p.Registry)
	p.Group.AddPart(lifecycle.Part{Name: "database", Run: db.Run, Ready: db.Opened()})
	if cfg.Bucket.IsSet() {
		if err := addUploads(cfg, external, db, p); err != nil {
			return nil, err
		}
	} else {
		p.Logger.Info("no bucket configured, blocks are not uploaded")
	}
	return &store{appendable: db, local: db, database: db, opened: db.Opened(), close: func() error { return nil }}, nil
}

// addForwarding makes the ruler stateless.
func addForwarding(cfg Config, external labels.Labels, p *service.Process) (*store, error) {
	var doc struct {
		RemoteWrite []*promconfig.RemoteWriteConfig `yaml:"remote_write"`
	}
	if err := cfg.RemoteWrite.Decode(&doc); err != nil {
		return nil, fmt.Errorf("--remote-write.config: %w", err)
	}
	if len(doc.RemoteWrite) == 0 || slices.Contains(doc.RemoteWrite, nil) {
		return nil, fmt.Errorf("--remote-write.config: %s: needs targets under remote_write", cfg.RemoteWrite.Source())
	}
	logger := p.Logger.Named("remote_write")
	log, err := forward.Open(filepath.Join(cfg.DataDir, "remote-write"), external, forward.DefaultMaxBytes, logger, p.Registry)
	if err != nil {
		return nil, fmt.Errorf("--data-dir: %w", err)
	}
	sender, err := forward.NewSender(log, doc.RemoteWrite, logger, p.Registry)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("--remote-write.config: %s: %w", cfg.RemoteWrite.Source(), err), log.Close())
	}
	p.Group.Add("remote_write", sender.Run)
	opened := make(chan struct{})
	close(opened)
	return &store{appendable: log, opened: opened, close: log.Close}, nil
}

// addUploads opens the bucket and adds the loop that ships blocks. A bucket that cannot be reached delays
// uploads and nothing else.
func addUploads(cfg Config, external labels.Labels, db *database.Database, p *service.Process) error {
	content, err := cfg.Bucket.Bytes()
	if err != nil {
		return err
	}
	bkt, err := objstore.New(content, component, p.Logger, p.Registry, objstore.WithSource(cfg.Bucket.Source()))
	if err != nil {
		return err
	}
	logger := p.Logger.Named("uploads")
	shipper, err := ship.New(logger, bkt, ship.Config{
		Dir: cfg.DataDir, Labels: func() labels.Labels { return external }, Source: block.SourceRuler,
		MetaFileName: cfg.Shipper.MetaFileName, HashFunc: block.HashFunc(cfg.HashFunc), UploadConcurrency: cfg.Shipper.Concurrency,
		UploadCompacted: cfg.Shipper.UploadCompacted, AllowOutOfOrder: cfg.Shipper.AllowOutOfOrder, SkipCorrupted: cfg.Shipper.SkipCorrupted,
	}, p.Registry)
	if err != nil {
		return err
	}
	p.Group.Add("uploads", func(ctx context.Context) error {
		defer func() {
			if err := bkt.Close(); err != nil {
				logger.Warn("close bucket", zap.Error(err))
			}
		}()
		select {
		case <-db.Opened():
		case <-ctx.Done():
			return nil
		}
		ticker := time.NewTicker(uploadInterval)
		defer ticker.Stop()
		for {
			uploaded, err := shipper.Sync(ctx)
			if err != nil && ctx.Err() == nil {
				logger.Error("upload of blocks failed, trying again", zap.Int("uploaded", uploaded), zap.Duration("retry_in", uploadInterval), zap.Error(err))
			}
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return nil
			}
		}
	})
	return nil
}

// reloader reads rule files.
type reloader struct {
	patterns  []string
	evaluator *evaluate.Evaluator
	logger    *zap.Logger
	good      prometheus.Gauge
	goodAt    prometheus.Gauge

	mu sync.Mutex // held while rules are loaded

	lastMu  sync.Mutex
	loaded  time.Time // guarded by lastMu; with success
	failure error     // guarded by lastMu; since then
}

// last returns when rules were loaded with success, and what has gone wrong since.
func (r *reloader) last() (loaded time.Time, failure string) {
	r.lastMu.Lock()
	defer r.lastMu.Unlock()
	if r.failure != nil {
		failure = r.failure.Error()
	}
	return r.loaded, failure
}

func newReloader(patterns []string, e *evaluate.Evaluator, logger *zap.Logger, reg prometheus.Registerer) *reloader {
	f := promauto.With(reg)
	return &reloader{
		patterns: patterns, evaluator: e, logger: logger,
		good: f.NewGauge(prometheus.GaugeOpts{
			Name: "thanos_rule_config_last_reload_successful", Help: "Whether the rules could be loaded the last time.",
		}),
		goodAt: f.NewGauge(prometheus.GaugeOpts{
			Name: "thanos_rule_config_last_reload_success_timestamp_seconds", Help: "When the rules were last loaded.",
		}),
	}
}

// load makes the rules in the files those that are evaluated, or says why that cannot be and leaves all as it is.
func (r *reloader) load(context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	set, err := rulefile.Read(r.patterns)
	if err == nil {
		err = r.evaluator.Load(set)
	}
	r.lastMu.Lock()
	if r.failure = err; err == nil {
		r.loaded = time.Now()
	}
	r.lastMu.Unlock()
	if err != nil {
		r.good.Set(0)
		return fmt.Errorf("load rules, those loaded before go on: %w", err)
	}
	r.good.Set(1)
	r.goodAt.SetToCurrentTime()
	r.logger.Info("rules are loaded", zap.Int("groups", len(set.Groups)))
	return nil
}
