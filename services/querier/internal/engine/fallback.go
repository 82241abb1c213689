package engine

import (
	"context"
	"strings"
	"sync/atomic"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/promontory-io/promontory/services/querier/internal/grpcapi"
)

// What follows is where promql-engine is known to answer otherwise than Prometheus' engine. The latter evaluates these queries:
// those of a certain shape at once, others again when the first has run.

// differs tells whether the shape of an expression alone is enough to know.
func (e *Engines) differs(expr parser.Expr, spec grpcapi.QuerySpec) bool {
	// timestamp() of anything but a selector is the time of the evaluation, of which it forgets the milliseconds.
	fractions := spec.Start.UnixMilli()%1000 != 0 || spec.Step.Milliseconds()%1000 != 0
	found := false
	parser.Inspect(expr, func(n parser.Node, path []parser.Node) error {
		call, ok := n.(*parser.Call)
		if !ok {
			return nil
		}
		switch call.Func.Name {
		case "timestamp":
			_, selector := inner(call.Args[0]).(*parser.VectorSelector)
			found = found || !selector && (fractions || within[*parser.SubqueryExpr](path))
		case "first_over_time":
			// It drops the name of the metric.
			_, sub := inner(call.Args[0]).(*parser.SubqueryExpr)
			found = found || sub
		case "sort", "sort_desc":
			// Over a range they sort nothing, and leave histograms out all the same.
			found = found || spec.Step > 0
		case "mad_over_time", "ts_of_first_over_time", "ts_of_last_over_time", "ts_of_max_over_time", "ts_of_min_over_time":
			// Where floats are NaN, or follow histograms, they take other samples.
			found = true
		}
		return nil
	})
	return found
}

// inner returns what parentheses enclose.
func inner(e parser.Expr) parser.Expr {
	for {
		switch p := e.(type) {
		case *parser.ParenExpr:
			e = p.Expr
		case *parser.StepInvariantExpr:
			e = p.Expr
		default:
			return e
		}
	}
}

func within[T parser.Node](path []parser.Node) bool {
	for _, n := range path {
		if _, ok := n.(T); ok {
			return true
		}
	}
	return false
}

// matchesVectors tells whether an expression puts vectors together series by series.
func matchesVectors(expr parser.Expr) bool {
	found := false
	parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
		if b, ok := n.(*parser.BinaryExpr); ok {
			found = found || b.VectorMatching != nil && b.LHS.Type() == parser.ValueTypeVector && b.RHS.Type() == parser.ValueTypeVector
		}
		return nil
	})
	return found
}

// kinds are the kinds of samples that a query has met.
type kinds struct{ seen atomic.Uint32 }

const (
	sawFloat = 1 << iota
	sawHistogram
)

func (k *kinds) both() bool { return k.seen.Load() == sawFloat|sawHistogram }

// watched is a storage whose samples are noted by their kind.
type watched struct {
	storage.Queryable

	kinds *kinds
}

func (w watched) Querier(mint, maxt int64) (storage.Querier, error) {
	q, err := w.Queryable.Querier(mint, maxt)
	if err != nil {
		return nil, err
	}
	return watchedQuerier{q, w.kinds}, nil
}

type watchedQuerier struct {
	storage.Querier

	kinds *kinds
}

func (w watchedQuerier) Select(ctx context.Context, sorted bool, hints *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	return watchedSet{w.Querier.Select(ctx, sorted, hints, ms...), w.kinds}
}

type watchedSet struct {
	storage.SeriesSet

	kinds *kinds
}

func (w watchedSet) At() storage.Series { return watchedSeries{w.SeriesSet.At(), w.kinds} }

type watchedSeries struct {
	storage.Series

	kinds *kinds
}

func (w watchedSeries) Iterator(it chunkenc.Iterator) chunkenc.Iterator {
	own, ok := it.(*watchedIterator)
	if !ok {
		own = &watchedIterator{}
		own.Iterator = w.Series.Iterator(it)
	} else {
		own.Iterator = w.Series.Iterator(own.Iterator)
	}
	own.kinds, own.noted = w.kinds, 0
	return own
}

type watchedIterator struct {
	chunkenc.Iterator

	kinds *kinds
	// noted is what this iterator has told already, so that the others are left alone.
	noted uint32
}

func (w *watchedIterator) note(v chunkenc.ValueType) chunkenc.ValueType {
	var kind uint32
	switch v {
	case chunkenc.ValFloat:
		kind = sawFloat
	case chunkenc.ValHistogram, chunkenc.ValFloatHistogram:
		kind = sawHistogram
	}
	if kind&^w.noted != 0 {
		w.noted |= kind
		w.kinds.seen.Or(kind)
	}
	return v
}

func (w *watchedIterator) Next() chunkenc.ValueType        { return w.note(w.Iterator.Next()) }
func (w *watchedIterator) Seek(t int64) chunkenc.ValueType { return w.note(w.Iterator.Seek(t)) }

// sameLabels is how both engines begin to say that two series of a result have the same labels.
const sameLabels = "vector cannot contain metrics with the same labelset"

func meets(err error) bool { return err != nil && strings.Contains(err.Error(), sameLabels) }

// careful is a query of promql-engine that is evaluated again by Prometheus' engine where the answers of the two are known to
// differ: vectors that are matched when series turn from histograms to floats, and series that get the same labels at different times.
type careful struct {
	promql.Query

	kinds *kinds // nil where no vectors are matched
	again func(ctx context.Context) (promql.Query, error)
	// second is the query that was run again; nil where it was not.
	second promql.Query
}

// Exec implements promql.Query.
func (c *careful) Exec(ctx context.Context) *promql.Result {
	res := c.Query.Exec(ctx)
	if !meets(res.Err) && (c.kinds == nil || !c.kinds.both()) || ctx.Err() != nil {
		return res
	}
	second, err := c.again(ctx)
	if err != nil {
		return &promql.Result{Err: err}
	}
	c.second = second
	return second.Exec(ctx)
}

// Close implements promql.Query.
func (c *careful) Close() {
	c.Query.Close()
	if c.second != nil {
		c.second.Close()
	}
}

// Cancel implements promql.Query.
func (c *careful) Cancel() {
	c.Query.Cancel()
}

// tree returns the query whose operators made the answer.
func tree(q promql.Query) promql.Query {
	if c, ok := q.(*careful); ok {
		if c.second != nil {
			return c.second
		}
		return c.Query
	}
	return q
}
