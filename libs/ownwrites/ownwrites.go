// Package ownwrites lets a rule read what has just been recorded, whether or not queriers can know it already:
// by earlier rules of its group in the same evaluation, or by a back-fill that has yet to upload its blocks.
//
// An expression that reads such a series is evaluated here. All parts of it that do not are still
// evaluated by a querier, and only their results come here; of the series themselves, the samples that
// queriers have are fetched and the new ones are added.
package ownwrites

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
)

// Query asks a querier.
type Query func(ctx context.Context, expr string, t time.Time) (parser.Value, error)

// sample is one that was recorded.
type sample struct {
	t int64
	f float64
	h *histogram.FloatHistogram
}

// Writes are samples that were recorded. It is safe for concurrent use.
type Writes struct {
	// external are the labels under which queriers see what is recorded.
	external labels.Labels

	mu     sync.Mutex
	series map[string]*written // guarded by mu
	names  map[string]struct{} // guarded by mu
}

type written struct {
	labels  labels.Labels
	samples []sample // by time; never changed in place but for the last
}

// New returns writes that are empty.
func New(external labels.Labels) *Writes {
	return &Writes{external: external, series: map[string]*written{}, names: map[string]struct{}{}}
}

func (w *Writes) add(lset labels.Labels, s sample) {
	b := labels.NewBuilder(lset)
	w.external.Range(func(l labels.Label) { b.Set(l.Name, l.Value) })
	lset = b.Labels()
	w.mu.Lock()
	defer w.mu.Unlock()
	key := lset.String()
	old := w.series[key]
	if old == nil {
		w.series[key] = &written{lset, []sample{s}}
		w.names[lset.Get(labels.MetricName)] = struct{}{}
		return
	}
	last := &old.samples[len(old.samples)-1]
	switch {
	case last.t != s.t:
		old.samples = append(old.samples, s)
	case value.IsStaleNaN(s.f) && !value.IsStaleNaN(last.f):
		// Another rule has recorded the series that this one has not any more.
	default:
		*last = s
	}
}

// Add adds a sample, of a float where h is nil. Those of a series come in the order of time. Labels are those that the
// rule gives, external ones left out.
func (w *Writes) Add(lset labels.Labels, t int64, f float64, h *histogram.FloatHistogram) {
	w.add(lset, sample{t: t, f: f, h: h})
}

// reads reports whether a selector may select anything written.
func (w *Writes) reads(ms []*labels.Matcher) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for name := range w.names {
		if !slices.ContainsFunc(ms, func(m *labels.Matcher) bool { return m.Name == labels.MetricName && !m.Matches(name) }) {
			return true
		}
	}
	return false
}

func (w *Writes) selected(ms []*labels.Matcher) []*written {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []*written
	for _, s := range w.series {
		if !slices.ContainsFunc(ms, func(m *labels.Matcher) bool { return !m.Matches(s.labels.Get(m.Name)) }) {
			out = append(out, &written{s.labels, slices.Clone(s.samples)})
		}
	}
	return out
}

// Reads reports whether an expression may read anything written.
func (w *Writes) Reads(expr parser.Expr) bool {
	found := false
	parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
		if vs, ok := n.(*parser.VectorSelector); ok && w.reads(vs.LabelMatchers) {
			found = true
		}
		return nil
	})
	return found
}

// Record returns an appender that also adds to w what it commits.
func (w *Writes) Record(app storage.Appender) storage.Appender {
	return &recorder{Appender: app, writes: w}
}

type recorder struct {
	storage.Appender
	writes  *Writes
	pending []pending
}

type pending struct {
	labels labels.Labels
	sample sample
}

func (r *recorder) Append(ref storage.SeriesRef, lset labels.Labels, t int64, v float64) (storage.SeriesRef, error) {
	ref, err := r.Appender.Append(ref, lset, t, v)
	if err == nil {
		r.pending = append(r.pending, pending{lset, sample{t: t, f: v}})
	}
	return ref, err
}

func (r *recorder) AppendHistogram(ref storage.SeriesRef, lset labels.Labels, t int64, h *histogram.Histogram, fh *histogram.FloatHistogram) (storage.SeriesRef, error) {
	ref, err := r.Appender.AppendHistogram(ref, lset, t, h, fh)
	if err == nil && fh != nil {
		r.pending = append(r.pending, pending{lset, sample{t: t, h: fh}})
	}
	return ref, err
}

func (r *recorder) Commit() error {
	if err := r.Appender.Commit(); err != nil {
		return err
	}
	for _, p := range r.pending {
		r.writes.add(p.labels, p.sample)
	}
	return nil
}

// Engine evaluates expressions that read own writes.
type Engine struct{ engine *promql.Engine }

// maxSamples bounds what one evaluation holds.
const maxSamples = 10_000_000

// NewEngine returns an engine.
func NewEngine(timeout time.Duration) *Engine {
	return &Engine{engine: promql.NewEngine(promql.EngineOpts{
		MaxSamples: maxSamples, Timeout: timeout, EnableAtModifier: true, EnableNegativeOffset: true,
		NoStepSubqueryIntervalFn: func(int64) int64 { return time.Minute.Milliseconds() },
	})}
}

// Eval evaluates expr at t, with w over what queriers know.
func (e *Engine) Eval(ctx context.Context, expr parser.Expr, t time.Time, w *Writes, ask Query) (parser.Value, error) {
	p := &parts{ctx: ctx, at: t, writes: w, ask: ask}
	rewritten, err := p.rewrite(expr)
	if err != nil {
		return nil, err
	}
	q, err := e.engine.NewInstantQuery(ctx, p, nil, rewritten.String(), t)
	if err != nil {
		return nil, fmt.Errorf("evaluate %s: %w", rewritten, err)
	}
	defer q.Close()
	result := q.Exec(ctx)
	if result.Err != nil {
		return nil, result.Err
	}
	// What the engine returns is its own only until the query is closed.
	switch v := result.Value.(type) {
	case promql.Vector:
		return slices.Clone(v), nil
	default:
		return v, nil
	}
}

// partLabel marks a selector that stands for the result of a part.
const partLabel = "__promontory_part__"

// parts is one evaluation.
type parts struct {
	ctx     context.Context //nolint:containedctx // it lives as long as one call
	at      time.Time
	writes  *Writes
	ask     Query
	results []promql.Vector
}

func selects(expr parser.Expr) bool {
	found := false
	parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
		if _, ok := n.(*parser.VectorSelector); ok {
			found = true
		}
		return nil
	})
	return found
}

// rewrite replaces the largest parts that do not read own writes by their results.
func (p *parts) rewrite(expr parser.Expr) (parser.Expr, error) {
	if expr == nil || !selects(expr) {
		return expr, nil
	}
	if !p.writes.Reads(expr) {
		return p.remote(expr)
	}
	var err error
	switch n := expr.(type) {
	case *parser.ParenExpr:
		n.Expr, err = p.rewrite(n.Expr)
	case *parser.UnaryExpr:
		n.Expr, err = p.rewrite(n.Expr)
	case *parser.BinaryExpr:
		if n.LHS, err = p.rewrite(n.LHS); err == nil {
			n.RHS, err = p.rewrite(n.RHS)
		}
	case *parser.AggregateExpr:
		if n.Expr, err = p.rewrite(n.Expr); err == nil && n.Param != nil {
			n.Param, err = p.rewrite(n.Param)
		}
	case *parser.Call:
		if n.Func.Name == "info" {
			break // its second argument only looks like a selector
		}
		for i := range n.Args {
			if n.Args[i], err = p.rewrite(n.Args[i]); err != nil {
				break
			}
		}
	}
	return expr, err
}

// remote asks for the result of a part.
func (p *parts) remote(expr parser.Expr) (parser.Expr, error) {
	typ := expr.Type()
	if typ != parser.ValueTypeVector && typ != parser.ValueTypeScalar {
		return expr, nil // its samples are fetched
	}
	v, err := p.ask(p.ctx, expr.String(), p.at)
	if err != nil {
		return nil, err
	}
	switch v := v.(type) {
	case promql.Scalar:
		return &parser.NumberLiteral{Val: v.V}, nil
	case promql.Vector:
		if typ == parser.ValueTypeScalar {
			if len(v) == 1 {
				return &parser.NumberLiteral{Val: v[0].F}, nil
			}
			return &parser.NumberLiteral{Val: math.NaN()}, nil
		}
		p.results = append(p.results, v)
		return &parser.VectorSelector{LabelMatchers: []*labels.Matcher{
			labels.MustNewMatcher(labels.MatchEqual, partLabel, fmt.Sprint(len(p.results)-1)),
		}}, nil
	default:
		return nil, fmt.Errorf("%s is a %s, want a %s", expr, v.Type(), typ)
	}
}
