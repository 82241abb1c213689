// Package engine evaluates PromQL with Prometheus' engine or with promql-engine,
// chosen per request.
//
// Both sit behind one call. What differs between them is kept here: the x-functions
// and the operator trees of the one, the fall-back to the other for what the first
// cannot do, and where each takes its options.
package engine

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	thanosengine "github.com/thanos-io/promql-engine/engine"
	"github.com/thanos-io/promql-engine/execution/parse"

	"github.com/promontory-io/promontory/libs/downsample"
	"github.com/promontory-io/promontory/libs/promapi"
	"github.com/promontory-io/promontory/services/querier/internal/grpcapi"
)

// Config is what flags say about the engines.
type Config struct {
	// Default evaluates queries that do not name an engine.
	Default promapi.Engine
	// LookbackDelta is how old a sample may be; 0 means five minutes.
	LookbackDelta time.Duration
	// DynamicLookback raises the default lookback to the resolution that may be served.
	DynamicLookback bool
	// Timeout ends a query.
	Timeout time.Duration
	// DefaultEvaluationInterval is the step of sub-queries that do not say theirs.
	DefaultEvaluationInterval time.Duration
	// XFunctions adds xrate, xincrease and xdelta to promql-engine.
	XFunctions bool
	// DisableFallback makes an expression that promql-engine cannot evaluate an error,
	// instead of evaluating it with Prometheus' engine.
	DisableFallback bool
	// ActiveQueryPath is a folder in which running queries are noted, so that those
	// of a process that died can be logged at the next start; empty for none.
	ActiveQueryPath string
	// MaxConcurrent is how many queries run at once.
	MaxConcurrent int
	// Mode is the value of the metrics' label of that name: local or distributed.
	Mode string
}

// Engines evaluates queries. It is safe for concurrent use.
type Engines struct {
	cfg        Config
	prometheus *promql.Engine
	thanos     *thanosengine.Engine
	functions  map[string]*parser.Function
	fallbacks  prometheus.Counter
	tracker    *promql.ActiveQueryTracker
}

var _ grpcapi.Engine = (*Engines)(nil)

// defaultLookback is the lookback of both engines where nothing else is said.
const defaultLookback = 5 * time.Minute

// New returns both engines. It logs the queries that were running when the process
// last ended. Close releases the file of active queries.
func New(cfg Config, logger *slog.Logger, reg prometheus.Registerer) *Engines {
	if cfg.LookbackDelta == 0 {
		cfg.LookbackDelta = defaultLookback
	}
	if cfg.Default == "" {
		cfg.Default = promapi.EnginePrometheus
	}
	if cfg.Mode == "" {
		cfg.Mode = "local"
	}
	e := &Engines{cfg: cfg, functions: maps.Clone(parser.Functions)}
	if cfg.XFunctions {
		maps.Copy(e.functions, parse.XFunctions)
	}
	if cfg.ActiveQueryPath != "" {
		e.tracker = promql.NewActiveQueryTracker(cfg.ActiveQueryPath, max(cfg.MaxConcurrent, 1), logger)
	}
	e.prometheus = promql.NewEngine(e.options(logger, reg, promapi.EnginePrometheus))
	e.thanos = thanosengine.New(thanosengine.Opts{
		EngineOpts:       e.options(logger, reg, promapi.EngineThanos),
		EnableXFunctions: cfg.XFunctions,
		EnableAnalysis:   true,
	})
	e.fallbacks = promauto.With(reg).NewCounter(prometheus.CounterOpts{
		Name: "promontory_querier_engine_fallbacks_total",
		Help: "Queries for the thanos engine that it could not evaluate and Prometheus' engine did.",
	})
	return e
}

// Close forgets the running queries.
func (e *Engines) Close() error {
	if e.tracker == nil {
		return nil
	}
	return e.tracker.Close()
}

func (e *Engines) options(logger *slog.Logger, reg prometheus.Registerer, name promapi.Engine) promql.EngineOpts {
	opts := promql.EngineOpts{
		Logger:        logger,
		MaxSamples:    math.MaxInt32,
		Timeout:       e.cfg.Timeout,
		LookbackDelta: e.cfg.LookbackDelta,
		NoStepSubqueryIntervalFn: func(int64) int64 {
			return e.cfg.DefaultEvaluationInterval.Milliseconds()
		},
		EnableAtModifier:     true,
		EnableNegativeOffset: true,
		// Prometheus' engine keeps them where a query asks for them and this is on. To the other this
		// means that every query asks.
		EnablePerStepStats: name == promapi.EnginePrometheus,
	}
	if reg != nil {
		opts.Reg = prometheus.WrapRegistererWith(prometheus.Labels{"mode": e.cfg.Mode, "engine": string(name)}, reg)
	}
	if e.tracker != nil {
		opts.ActiveQueryTracker = e.tracker
	}
	return opts
}

// EnableExperimentalFunctions lets both engines parse experimental functions. The
// parser's switch is one for the whole process in this version of the library, so
// it is thrown before the first query and never back.
func EnableExperimentalFunctions() { parser.EnableExperimentalFunctions = true }

// Parse parses an expression as Prometheus' engine would.
func Parse(expr string) (parser.Expr, error) { return parser.ParseExpr(expr) }

// Parse parses an expression with all functions that any of the engines has.
func (e *Engines) Parse(expr string) (parser.Expr, error) {
	if !e.cfg.XFunctions {
		return Parse(expr)
	}
	p := parser.NewParser(expr, parser.WithFunctions(e.functions))
	defer p.Close()
	return p.ParseExpr()
}

// lookback is the lookback of a query: the request's, else the default, raised to
// the coarsest resolution the query may be served where that is on.
func (e *Engines) lookback(spec grpcapi.QuerySpec) time.Duration {
	if spec.LookbackDelta > 0 {
		return spec.LookbackDelta
	}
	if e.cfg.DynamicLookback {
		return downsample.Lookback(e.cfg.LookbackDelta, spec.MaxSourceResolution)
	}
	return e.cfg.LookbackDelta
}

// maker is what both engines offer.
type maker interface {
	NewInstantQuery(ctx context.Context, q storage.Queryable, opts promql.QueryOpts, qs string, ts time.Time) (promql.Query, error)
	NewRangeQuery(ctx context.Context, q storage.Queryable, opts promql.QueryOpts, qs string, start, end time.Time, interval time.Duration) (promql.Query, error)
}

// NewQuery parses and prepares spec over q; see [grpcapi.Engine].
func (e *Engines) NewQuery(ctx context.Context, q storage.Queryable, spec grpcapi.QuerySpec) (promql.Query, error) {
	name := spec.Engine
	if name == "" {
		name = e.cfg.Default
	}
	switch name {
	case promapi.EnginePrometheus:
		return e.make(ctx, e.prometheus, q, spec)
	case promapi.EngineThanos:
		if !e.cfg.DisableFallback && e.losesMilliseconds(spec) {
			e.fallbacks.Inc()
			return e.make(ctx, e.prometheus, q, spec)
		}
		query, err := e.make(ctx, e.thanos, q, spec)
		if err == nil || !thanosengine.IsUnimplemented(err) || e.cfg.DisableFallback {
			return query, err
		}
		e.fallbacks.Inc()
		return e.make(ctx, e.prometheus, q, spec)
	}
	return nil, fmt.Errorf("engine %q is unknown", name)
}

// losesMilliseconds tells whether promql-engine would answer with a rounded time: timestamp() of anything but a
// selector is the time of the evaluation, and there it forgets the milliseconds.
func (e *Engines) losesMilliseconds(spec grpcapi.QuerySpec) bool {
	if !strings.Contains(spec.Text, "timestamp") ||
		spec.Start.UnixMilli()%1000 == 0 && spec.Step.Milliseconds()%1000 == 0 {
		return false
	}
	expr, err := e.Parse(spec.Text)
	if err != nil {
		return false // the engine says so, in its own words
	}
	found := false
	parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
		call, ok := n.(*parser.Call)
		if !ok || call.Func.Name != "timestamp" || len(call.Args) == 0 {
			return nil
		}
		arg := call.Args[0]
		for {
			inner, ok := arg.(*parser.ParenExpr)
			if !ok {
				break
			}
			arg = inner.Expr
		}
		if _, ok := arg.(*parser.VectorSelector); !ok {
			found = true
		}
		return nil
	})
	return found
}

func (e *Engines) make(ctx context.Context, m maker, q storage.Queryable, spec grpcapi.QuerySpec) (promql.Query, error) {
	opts := promql.NewPrometheusQueryOpts(spec.PerStepStats, e.lookback(spec))
	if spec.Step > 0 {
		return m.NewRangeQuery(ctx, q, opts, spec.Text, spec.Start, spec.End, spec.Step)
	}
	return m.NewInstantQuery(ctx, q, opts, spec.Text, spec.Start)
}
