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
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"
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
	// Distribution, if set, has peers evaluate what they can.
	Distribution *Distribution
}

// Engines evaluates queries. It is safe for concurrent use.
type Engines struct {
	cfg        Config
	prometheus *promql.Engine
	thanos     *thanosengine.Engine
	peers      *distributor // nil in local mode
	parse      func(string) (parser.Expr, error)
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
	e := &Engines{cfg: cfg, parse: Parser(cfg.XFunctions)}
	if cfg.ActiveQueryPath != "" {
		e.tracker = promql.NewActiveQueryTracker(cfg.ActiveQueryPath, max(cfg.MaxConcurrent, 1), logger)
	}
	e.prometheus = promql.NewEngine(e.options(logger, reg, promapi.EnginePrometheus, ModeLocal))
	e.thanos = thanosengine.New(e.thanosOptions(logger, reg, ModeLocal))
	if cfg.Distribution != nil {
		e.peers = newDistributor(*cfg.Distribution, e.thanosOptions(logger, reg, ModeDistributed), reg)
	}
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

func (e *Engines) options(logger *slog.Logger, reg prometheus.Registerer, name promapi.Engine, mode string) promql.EngineOpts {
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
		opts.Reg = prometheus.WrapRegistererWith(prometheus.Labels{"mode": mode, "engine": string(name)}, reg)
	}
	if e.tracker != nil {
		opts.ActiveQueryTracker = e.tracker
	}
	return opts
}

// EnableExperimentalFunctions lets both engines parse experimental functions. The
// parser's switch is one for the whole process in this version of the library, so
// it is thrown before the first query and never back.
//
// mad_over_time is mended on the way: newer versions of the library return NaN where a sample is NaN, this one takes it for the
// smallest number.
func EnableExperimentalFunctions() { enableExperimental() }

var enableExperimental = sync.OnceFunc(func() {
	parser.EnableExperimentalFunctions = true
	const name = "mad_over_time"
	original := promql.FunctionCalls[name]
	promql.FunctionCalls[name] = func(vs []promql.Vector, m promql.Matrix, args parser.Expressions, enh *promql.EvalNodeHelper) (promql.Vector, annotations.Annotations) {
		out, annos := original(vs, m, args, enh)
		if len(out) > 0 && slices.ContainsFunc(m[0].Floats, func(p promql.FPoint) bool { return math.IsNaN(p.F) }) {
			out[len(out)-1].F = math.NaN()
		}
		return out, annos
	}
})

// Parse parses an expression as Prometheus' engine would.
func Parse(expr string) (parser.Expr, error) { return parser.ParseExpr(expr) }

// Parse parses an expression with all functions that any of the engines has.
func (e *Engines) Parse(expr string) (parser.Expr, error) { return e.parse(expr) }

// Parser returns what parses expressions, with the x-functions where xFunctions is true.
func Parser(xFunctions bool) func(expr string) (parser.Expr, error) {
	if !xFunctions {
		return Parse
	}
	functions := maps.Clone(parser.Functions)
	maps.Copy(functions, parse.XFunctions)
	return func(expr string) (parser.Expr, error) {
		p := parser.NewParser(expr, parser.WithFunctions(functions))
		defer p.Close()
		return p.ParseExpr()
	}
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

// parallel is promql-engine as it reads the samples of spec.
func (e *Engines) parallel(spec grpcapi.QuerySpec) maker {
	if spec.Operators {
		return e.thanos
	}
	return wide{e.thanos}
}

// wide is promql-engine with as many readers for each selector as there are processors; by itself it takes half as many. Decoding
// is most of the work, and whoever waits for it does little else.
type wide struct{ *thanosengine.Engine }

func (w wide) options(o promql.QueryOpts) *thanosengine.QueryOpts {
	return &thanosengine.QueryOpts{
		LookbackDeltaParam: o.LookbackDelta(), EnablePerStepStatsParam: o.EnablePerStepStats(), DecodingConcurrency: runtime.GOMAXPROCS(0),
	}
}

// NewInstantQuery implements maker.
func (w wide) NewInstantQuery(ctx context.Context, q storage.Queryable, opts promql.QueryOpts, qs string, ts time.Time) (promql.Query, error) {
	return w.MakeInstantQuery(ctx, q, w.options(opts), qs, ts)
}

// NewRangeQuery implements maker.
func (w wide) NewRangeQuery(ctx context.Context, q storage.Queryable, opts promql.QueryOpts, qs string, start, end time.Time, interval time.Duration) (promql.Query, error) {
	return w.MakeRangeQuery(ctx, q, w.options(opts), qs, start, end, interval)
}

// NewQuery parses and prepares spec over q; see [grpcapi.Engine].
func (e *Engines) NewQuery(ctx context.Context, q storage.Queryable, spec grpcapi.QuerySpec) (promql.Query, error) {
	name := spec.Engine
	if name == "" {
		name = e.cfg.Default
	}
	switch name {
	case promapi.EnginePrometheus:
		return e.exact(ctx, q, spec)
	case promapi.EngineThanos:
		if !e.cfg.DisableFallback {
			return e.carefully(ctx, q, spec)
		}
		query, err := e.peers.query(ctx, q, spec, e.queryOptions(spec))
		if query != nil || err != nil {
			return query, err
		}
		return e.make(ctx, e.parallel(spec), q, spec)
	}
	return nil, fmt.Errorf("engine %q is unknown", name)
}

// carefully prepares a query of promql-engine, or of the other where the answers are known to differ or there would be none.
func (e *Engines) carefully(ctx context.Context, q storage.Queryable, spec grpcapi.QuerySpec) (promql.Query, error) {
	again := func(ctx context.Context) (promql.Query, error) {
		e.fallbacks.Inc()
		return e.exact(ctx, q, spec)
	}
	c := &careful{again: again}
	from := q
	// Where the expression is wrong the engine says so, in its own words.
	if expr, err := e.Parse(spec.Text); err == nil {
		if e.differs(expr, spec) {
			return again(ctx)
		}
		if matchesVectors(expr) {
			c.kinds = &kinds{}
			from = watched{q, c.kinds}
		}
	}
	query, err := e.peers.query(ctx, from, spec, e.queryOptions(spec))
	if query == nil && err == nil {
		query, err = e.make(ctx, e.parallel(spec), from, spec)
	}
	if err != nil {
		if thanosengine.IsUnimplemented(err) {
			return again(ctx)
		}
		return nil, err
	}
	c.Query = query
	return c, nil
}

// exact prepares a query of Prometheus' engine.
func (e *Engines) exact(ctx context.Context, q storage.Queryable, spec grpcapi.QuerySpec) (promql.Query, error) {
	query, err := e.make(ctx, e.prometheus, q, spec)
	if err != nil || spec.Step <= 0 {
		return query, err
	}
	return &inPieces{Query: query, spec: spec, make: func(ctx context.Context, spec grpcapi.QuerySpec) (promql.Query, error) {
		return e.make(ctx, e.prometheus, q, spec)
	}}, nil
}

func (e *Engines) make(ctx context.Context, m maker, q storage.Queryable, spec grpcapi.QuerySpec) (promql.Query, error) {
	opts := e.queryOptions(spec)
	if spec.Step > 0 {
		return m.NewRangeQuery(ctx, q, opts, spec.Text, spec.Start, spec.End, spec.Step)
	}
	return m.NewInstantQuery(ctx, q, opts, spec.Text, spec.Start)
}

func (e *Engines) queryOptions(spec grpcapi.QuerySpec) promql.QueryOpts {
	return promql.NewPrometheusQueryOpts(spec.PerStepStats, e.lookback(spec))
}
