package unittest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/tsdb"

	"github.com/promontory-io/promontory/libs/rulefile"
)

// century is the length of blocks: longer than any test, so that nothing is ever compacted.
const century = 100 * 365 * 24 * time.Hour

// maxSamples bounds a query of a test.
const maxSamples = 50_000_000

// world is what a test evaluates rules in. It belongs to one goroutine.
type world struct {
	dir    string
	db     *tsdb.DB
	engine *promql.Engine
	groups []*rules.Group

	start    time.Time
	interval time.Duration // between samples of the input
	input    []loaded
}

// loaded is a series of the input and how many of its values are in the database.
type loaded struct {
	labels labels.Labels
	values []parser.SequenceValue
	done   int
}

func newWorld(doc *document, t *testCase, set *rulefile.Set) (w *world, err error) {
	w = &world{interval: time.Duration(t.Interval)}
	if w.start, err = t.start(); err != nil {
		return nil, err
	}
	for _, s := range t.Input {
		lset, values, err := parser.ParseSeriesDesc(s.Series + " " + s.Values)
		if err != nil {
			return nil, fmt.Errorf("input_series %q: %w", s.Series, err)
		}
		w.input = append(w.input, loaded{labels: lset, values: values})
	}
	if w.dir, err = os.MkdirTemp("", "promontory-check-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	o := tsdb.DefaultOptions()
	o.MinBlockDuration, o.MaxBlockDuration, o.RetentionDuration = century.Milliseconds(), century.Milliseconds(), 0
	o.NoLockfile = true
	if w.db, err = tsdb.Open(w.dir, slog.New(slog.DiscardHandler), nil, o, nil); err != nil {
		return nil, err
	}
	every := time.Duration(doc.EvaluationInterval)
	w.engine = promql.NewEngine(promql.EngineOpts{
		MaxSamples: maxSamples, Timeout: time.Minute, EnableAtModifier: true, EnableNegativeOffset: true,
		NoStepSubqueryIntervalFn: func(int64) int64 { return every.Milliseconds() },
	})
	return w, w.loadRules(doc, t, set)
}

func (w *world) loadRules(doc *document, t *testCase, set *rulefile.Set) error {
	m := rules.NewManager(&rules.ManagerOptions{
		NameValidationScheme: model.UTF8Validation,
		QueryFunc:            rules.EngineQueryFunc(w.engine, w.db),
		Appendable:           w.db,
		Queryable:            w.db,
		Context:              context.Background(), // that of an evaluation is what counts
		NotifyFunc:           func(context.Context, string, ...*rules.Alert) {},
		Logger:               slog.New(slog.DiscardHandler),
		GroupLoader:          set.Loader(""),
	})
	groups, errs := m.LoadGroups(w.interval, labels.FromMap(t.ExternalLabels), t.ExternalURL, nil, false, set.AllFiles()...)
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	take := func(file, name string) {
		key := rules.GroupKey(file, name)
		if g := groups[key]; g != nil {
			w.groups = append(w.groups, g)
			delete(groups, key)
		}
	}
	for _, name := range doc.GroupEvalOrder {
		for _, g := range set.Groups {
			if g.Name == name {
				take(g.File, g.Name)
			}
		}
	}
	for _, g := range set.Groups {
		take(g.File, g.Name)
	}
	for _, g := range w.groups {
		for _, r := range g.AlertingRules() {
			r.SetRestored(true) // there is nothing to restore, and until then they record nothing
		}
	}
	return nil
}

func (w *world) close() error {
	var err error
	if w.db != nil {
		err = w.db.Close()
	}
	return errors.Join(err, os.RemoveAll(w.dir))
}

// load brings the input into the database up to t, inclusive.
func (w *world) load(ctx context.Context, t time.Time) error {
	app := w.db.Appender(ctx)
	for i := range w.input {
		s := &w.input[i]
		for ; s.done < len(s.values); s.done++ {
			at := w.start.Add(time.Duration(s.done) * w.interval)
			if at.After(t) {
				break
			}
			v := s.values[s.done]
			var err error
			switch {
			case v.Omitted:
			case v.Histogram != nil:
				_, err = app.AppendHistogram(0, s.labels, at.UnixMilli(), nil, v.Histogram)
			default:
				_, err = app.Append(0, s.labels, at.UnixMilli(), v.Value)
			}
			if err != nil {
				return errors.Join(fmt.Errorf("load %s: %w", s.labels, err), app.Rollback())
			}
		}
	}
	return app.Commit()
}

// evaluate evaluates all groups at t.
func (w *world) evaluate(ctx context.Context, t time.Time) error {
	var errs []error
	for _, g := range w.groups {
		g.Eval(ctx, t)
		for _, r := range g.Rules() {
			if err := r.LastError(); err != nil {
				errs = append(errs, fmt.Errorf("%s: group %s, rule %s, at %s: %w", g.File(), g.Name(), r.Name(), t.Sub(w.start), err))
			}
		}
	}
	return errors.Join(errs...)
}

// firing returns the firing alerts of a name, of all groups.
func (w *world) firing(name string) (out []alert) {
	for _, g := range w.groups {
		for _, r := range g.AlertingRules() {
			if r.Name() != name {
				continue
			}
			for _, a := range r.ActiveAlerts() {
				if a.State == rules.StateFiring {
					out = append(out, alert{labels: a.Labels, annotations: a.Annotations})
				}
			}
		}
	}
	return out
}

// query evaluates an expression at t.
func (w *world) query(ctx context.Context, expr string, t time.Time) (promql.Vector, error) {
	v, err := rules.EngineQueryFunc(w.engine, w.db)(ctx, expr, t)
	if err != nil {
		return nil, err
	}
	out := make(promql.Vector, len(v))
	for i, s := range v {
		s.Metric = s.Metric.Copy()
		if s.H != nil {
			s.H = s.H.Copy()
		}
		out[i] = s
	}
	return out, nil
}

// equal compares floats; NaN equals itself. With fuzzy it overlooks the last bit.
func equal(a, b float64, fuzzy bool) bool {
	if a == b || math.IsNaN(a) && math.IsNaN(b) && value.IsStaleNaN(a) == value.IsStaleNaN(b) {
		return true
	}
	return fuzzy && (math.Nextafter(a, math.Inf(-1)) == b || math.Nextafter(a, math.Inf(1)) == b)
}
