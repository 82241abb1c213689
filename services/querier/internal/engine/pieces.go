package engine

import (
	"context"
	"sort"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/promontory-io/promontory/services/querier/internal/frontend/plan"
	"github.com/promontory-io/promontory/services/querier/internal/grpcapi"
)

// inPieces is a range query of Prometheus' engine that is evaluated in pieces when the whole fails because series get the same
// labels. That is no error as long as they do not have them at the same step, but this version of the engine looks at the
// whole range in some places. Pieces are halved until they can be evaluated, or are one step and the error is true.
type inPieces struct {
	promql.Query

	make func(ctx context.Context, spec grpcapi.QuerySpec) (promql.Query, error)
	spec grpcapi.QuerySpec
	// more are the queries of the pieces: what they returned is theirs until they are closed.
	more []promql.Query
}

// Exec implements promql.Query.
func (p *inPieces) Exec(ctx context.Context) *promql.Result {
	res := p.Query.Exec(ctx)
	if !meets(res.Err) || !p.spec.Start.Before(p.spec.End) || ctx.Err() != nil {
		return res
	}
	whole := p.spec
	expr, err := Parse(whole.Text)
	if err != nil {
		return res
	}
	// What is relative to the ends of the range is so to those of the whole.
	if plan.Pin(expr, plan.Range{Start: whole.Start.UnixMilli(), End: whole.End.UnixMilli(), Step: whole.Step.Milliseconds()}) {
		whole.Text = expr.String()
	}
	j := joined{at: map[string]int{}, warnings: annotations.Annotations{}}
	steps := int(whole.End.Sub(whole.Start)/whole.Step) + 1
	if err := p.halves(ctx, whole, steps, &j); err != nil {
		return &promql.Result{Err: err, Warnings: j.warnings}
	}
	sort.Sort(j.matrix)
	return &promql.Result{Value: j.matrix, Warnings: j.warnings}
}

// halves evaluates the two halves of a piece of so many steps, which itself cannot be.
func (p *inPieces) halves(ctx context.Context, spec grpcapi.QuerySpec, steps int, j *joined) error {
	first, second := spec, spec
	half := steps / 2
	first.End = spec.Start.Add(time.Duration(half-1) * spec.Step)
	second.Start = spec.Start.Add(time.Duration(half) * spec.Step)
	if err := p.piece(ctx, first, half, j); err != nil {
		return err
	}
	return p.piece(ctx, second, steps-half, j)
}

func (p *inPieces) piece(ctx context.Context, spec grpcapi.QuerySpec, steps int, j *joined) error {
	q, err := p.make(ctx, spec)
	if err != nil {
		return err
	}
	res := q.Exec(ctx)
	if meets(res.Err) && steps > 1 && ctx.Err() == nil {
		q.Close()
		return p.halves(ctx, spec, steps, j)
	}
	p.more = append(p.more, q)
	j.warnings.Merge(res.Warnings)
	if res.Err != nil {
		return res.Err
	}
	m, err := res.Matrix()
	if err != nil {
		return err
	}
	j.add(m)
	return nil
}

// Close implements promql.Query.
func (p *inPieces) Close() {
	p.Query.Close()
	for _, q := range p.more {
		q.Close()
	}
}

// joined is the results of pieces that follow each other.
type joined struct {
	matrix   promql.Matrix
	at       map[string]int
	warnings annotations.Annotations
}

func (j *joined) add(m promql.Matrix) {
	var buf []byte
	for _, s := range m {
		buf = s.Metric.Bytes(buf)
		i, ok := j.at[string(buf)]
		if !ok {
			i = len(j.matrix)
			j.at[string(buf)] = i
			j.matrix = append(j.matrix, promql.Series{Metric: s.Metric})
		}
		// Appended to new slices: those of the pieces go back to the engine's pool.
		j.matrix[i].Floats = append(j.matrix[i].Floats, s.Floats...)
		j.matrix[i].Histograms = append(j.matrix[i].Histograms, s.Histograms...)
	}
}
