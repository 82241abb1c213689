package evaluate

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/rules"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/rulefile"
	"github.com/promontory-io/promontory/services/ruler/internal/query"
)

// ErrIncomplete tells that something was missing that a group requires.
var ErrIncomplete = errors.New("data that the group requires are missing")

// queryFunc returns how rules of a strategy are evaluated.
func (e *Evaluator) queryFunc(s rulefile.Strategy) rules.QueryFunc {
	partial := s == rulefile.Warn
	return func(ctx context.Context, text string, t time.Time) (promql.Vector, error) {
		ev := evaluationOf(ctx)
		ctx = context.WithValue(ctx, textKey{}, text)
		result, err := e.ask(ctx, ev, text, t, partial)
		if err != nil {
			return nil, err
		}
		if len(result.Missing) > 0 {
			if ev != nil && ev.group != nil && len(ev.group.Require) > 0 {
				if err := e.covered(ctx, text, t, ev.group.Require, result); err != nil {
					return nil, err
				}
			}
			e.metrics.warnings.WithLabelValues(strings.ToLower(string(s))).Inc()
			e.logger.Warn("evaluated an incomplete answer", zap.String("query", text), zap.String("querier", result.From), zap.Strings("missing", result.Missing))
		}
		return result.Vector(t)
	}
}

// ask evaluates an expression: by a querier, or here where it reads what the group has just recorded.
func (e *Evaluator) ask(ctx context.Context, ev *evaluation, text string, t time.Time, partial bool) (query.Result, error) {
	if ev == nil {
		return e.deps.Query.Query(ctx, text, t, partial)
	}
	expr, err := parser.ParseExpr(text)
	if err != nil {
		return query.Result{}, fmt.Errorf("parse %q: %w", text, err)
	}
	if !ev.writes.Reads(expr) {
		return e.deps.Query.Query(ctx, text, t, partial)
	}
	var all query.Result
	receipt, told := &query.Receipt{Coverage: query.Incomplete}, true
	value, err := e.engine.Eval(ctx, expr, t, ev.writes, func(ctx context.Context, part string, at time.Time) (parser.Value, error) {
		r, err := e.deps.Query.Query(ctx, part, at, partial)
		all.From = r.From
		for _, m := range r.Missing {
			if !slices.Contains(all.Missing, m) {
				all.Missing = append(all.Missing, m)
			}
		}
		if len(r.Missing) > 0 && r.Receipt == nil {
			told = false
		} else if len(r.Missing) > 0 {
			receipt.Missing = append(receipt.Missing, r.Receipt.Missing...)
		}
		return r.Value, err
	})
	all.Value = value
	if told {
		all.Receipt = receipt
	}
	return all, err
}

// covered tells whether an incomplete answer has everything that is required: nil, or what may be missing.
//
// The querier's receipt tells. Where it has none, two things have to speak for it: no warning names a store whose labels may match a
// requirement, and the same expression, restricted to what is required, has a complete answer; it
// touches the same data of the same stores.
func (e *Evaluator) covered(ctx context.Context, text string, t time.Time, require [][]*labels.Matcher, result query.Result) error {
	if r := result.Receipt; r != nil && len(r.Missing) > 0 {
		return lacks(r.Missing, require)
	}
	for _, m := range result.Missing {
		for _, lset := range labelSetsIn(m) {
			for _, ms := range require {
				if mayMatch(lset, ms) {
					return fmt.Errorf("%w: %s", ErrIncomplete, m)
				}
			}
		}
	}
	for _, ms := range require {
		restricted, err := restrict(text, ms)
		if err != nil {
			return err
		}
		if _, err := e.deps.Query.Query(ctx, restricted, t, false); err != nil {
			return fmt.Errorf("%w: %w", ErrIncomplete, err)
		}
	}
	return nil
}

// lacks returns what is required and missing, nil for nothing.
func lacks(missing []query.Missing, require [][]*labels.Matcher) error {
	var errs []error
	for _, m := range missing {
		if !m.Covered && slices.ContainsFunc(require, func(ms []*labels.Matcher) bool { return mayMatch(m.Labels, ms) }) {
			errs = append(errs, fmt.Errorf("%w: %s", ErrIncomplete, m))
		}
	}
	return errors.Join(errs...)
}

var labelSet = regexp.MustCompile(`\{[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\]|\\.)*"(?:, ?[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\]|\\.)*")*\}`)

// labelSetsIn returns the label sets that a warning names.
func labelSetsIn(text string) (out []labels.Labels) {
	for _, s := range labelSet.FindAllString(text, -1) {
		ms, err := parser.ParseMetricSelector(s)
		if err != nil {
			continue
		}
		b := labels.NewScratchBuilder(len(ms))
		for _, m := range ms {
			b.Add(m.Name, m.Value)
		}
		b.Sort()
		out = append(out, b.Labels())
	}
	return out
}

// mayMatch reports whether a store with these labels may have series that match.
func mayMatch(lset labels.Labels, ms []*labels.Matcher) bool {
	return !slices.ContainsFunc(ms, func(m *labels.Matcher) bool { return lset.Has(m.Name) && !m.Matches(lset.Get(m.Name)) })
}

// restrict adds matchers to all selectors of an expression.
func restrict(text string, ms []*labels.Matcher) (string, error) {
	expr, err := parser.ParseExpr(text)
	if err != nil {
		return "", fmt.Errorf("parse %q: %w", text, err)
	}
	parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
		if vs, ok := n.(*parser.VectorSelector); ok {
			for _, m := range ms {
				if m.Name == labels.MetricName && vs.Name != "" {
					// A second matcher on the name cannot be written behind a name.
					vs.Name = ""
				}
				vs.LabelMatchers = append(vs.LabelMatchers, m)
			}
		}
		return nil
	})
	return expr.String(), nil
}
