package httpapi

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/util/stats"

	"github.com/promontory-io/promontory/libs/promapi"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/services/querier/internal/active"
	"github.com/promontory-io/promontory/services/querier/internal/engine"
	"github.com/promontory-io/promontory/services/querier/internal/grpcapi"
	"github.com/promontory-io/promontory/services/querier/internal/selects"
)

// statsPerStep is the value of the parameter stats that asks for the samples of each step, too.
const statsPerStep = "all"

func (a *API) query(ctx context.Context, r *request) (promapi.Data, promapi.Notes, error) {
	q, err := r.InstantQuery(a.cfg.Defaults, r.now)
	if err != nil {
		return nil, promapi.Notes{}, err
	}
	return a.evaluate(ctx, r, &q.QueryOptions, instant(q))
}

func (a *API) queryRange(ctx context.Context, r *request) (promapi.Data, promapi.Notes, error) {
	q, err := r.RangeQuery(a.cfg.Defaults)
	if err != nil {
		return nil, promapi.Notes{}, err
	}
	a.metrics.timespan.Observe(q.End.Sub(q.Start).Seconds())
	return a.evaluate(ctx, r, &q.QueryOptions, ranged(q))
}

func (a *API) queryExplain(ctx context.Context, r *request) (promapi.Data, promapi.Notes, error) {
	q, err := r.InstantQuery(a.cfg.Defaults, r.now)
	if err != nil {
		return nil, promapi.Notes{}, err
	}
	return a.explain(ctx, r, &q.QueryOptions, instant(q))
}

func (a *API) queryRangeExplain(ctx context.Context, r *request) (promapi.Data, promapi.Notes, error) {
	q, err := r.RangeQuery(a.cfg.Defaults)
	if err != nil {
		return nil, promapi.Notes{}, err
	}
	return a.explain(ctx, r, &q.QueryOptions, ranged(q))
}

func instant(q *promapi.InstantQuery) grpcapi.QuerySpec {
	s := spec(&q.QueryOptions)
	s.Start, s.End = q.Time, q.Time
	return s
}

func ranged(q *promapi.RangeQuery) grpcapi.QuerySpec {
	s := spec(&q.QueryOptions)
	s.Start, s.End, s.Step = q.Start, q.End, q.Step
	return s
}

func spec(o *promapi.QueryOptions) grpcapi.QuerySpec {
	return grpcapi.QuerySpec{
		Text: o.Query, Engine: o.Engine, LookbackDelta: o.LookbackDelta,
		MaxSourceResolution: o.MaxSourceResolution, PerStepStats: o.Stats == statsPerStep,
	}
}

// errNoAnalysis and errNoExplanation are for requests to an engine that has no tree of operators.
var (
	errNoAnalysis    = errors.New("the query cannot be analyzed by this engine: use engine=thanos")
	errNoExplanation = errors.New("the query cannot be explained by this engine: use engine=thanos")
)

// fellBack is the warning of an answer whose analysis was asked of the right engine, and is not there.
const fellBack = "no analysis: the thanos engine cannot evaluate this query, so the prometheus engine did"

// evaluate runs a query and makes its answer.
func (a *API) evaluate(ctx context.Context, r *request, o *promapi.QueryOptions, spec grpcapi.QuerySpec) (promapi.Data, promapi.Notes, error) {
	none := promapi.Notes{}
	if o.Analyze && o.Engine != promapi.EngineThanos {
		return nil, none, promapi.NewError(promapi.ErrorBadData, errNoAnalysis)
	}
	if o.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.Timeout)
		defer cancel()
	}
	kind := "query"
	if spec.Step > 0 {
		kind = "query_range"
	}
	ctx, err := a.begin(ctx, r, active.Info{Kind: kind, Text: o.Query, Start: spec.Start, End: spec.End, Step: spec.Step})
	if err != nil {
		return nil, none, err
	}
	costs := &observed{}
	spec.Operators = o.Analyze
	query, err := a.prepare(ctx, r, o, spec, costs)
	if err != nil {
		return nil, none, err
	}
	waiting := time.Now()
	leave, err := a.queries.Enter(ctx)
	r.queued = time.Since(waiting)
	if err != nil {
		return nil, none, cancelled(ctx, fmt.Errorf("wait for other queries to end: %w", err))
	}
	r.active.Run()
	start := time.Now()
	result := query.Exec(ctx)
	// Not held until the answer is written: a client that does not read would keep others from asking.
	leave()
	a.metrics.queryDone(r.tenant, time.Since(start), costs.list())
	if result.Err != nil {
		return nil, none, cancelled(ctx, result.Err)
	}

	data := &promapi.QueryData{Result: result.Value}
	if o.Stats != "" {
		data.Stats = stats.NewQueryStats(query.Stats())
	}
	notes := promapi.NotesFrom(result.Warnings, spec.Text).Flat()
	if o.Analyze {
		analysis, err := engine.Analyze(query, costs.list())
		if err != nil {
			notes = notes.Join(promapi.Notes{Warnings: []string{fellBack}})
		} else {
			data.Analysis = *analysis
		}
	}
	return data, notes, nil
}

// prepare parses a query and makes it ready to run, and has it closed after the answer.
func (a *API) prepare(ctx context.Context, r *request, o *promapi.QueryOptions, spec grpcapi.QuerySpec, costs *observed) (promql.Query, error) {
	if r.enforce != nil {
		enforced, err := r.enforce.QueryBy(a.deps.Parse, spec.Text)
		if err != nil {
			return nil, promapi.NewError(promapi.ErrorBadData, err)
		}
		spec.Text = enforced
	}
	if err := a.allowed(spec.Text); err != nil {
		return nil, err
	}
	opts := a.selection(r, &o.Selection)
	opts.MaxSourceResolution = o.MaxSourceResolution
	opts.Observe = costs.add
	if s := o.Shard; s != nil {
		opts.Shard = &thanos.ShardInfo{ShardIndex: s.ShardIndex, TotalShards: s.TotalShards, By: s.By, Labels: s.Labels}
	}
	if o.Dedup && o.Shard == nil && len(o.StoreMatchers) == 0 {
		spec.Remote = &grpcapi.RemoteSpec{ReplicaLabels: o.ReplicaLabels, PartialResponse: o.PartialResponse}
	}
	query, err := a.deps.Engine.NewQuery(ctx, a.deps.Storage.Queryable(opts), spec)
	if err != nil {
		if ctx.Err() != nil {
			return nil, err
		}
		return nil, promapi.NewError(promapi.ErrorBadData, err)
	}
	r.after(query.Close)
	return query, nil
}

// explain answers with the tree of operators that would evaluate a query.
func (a *API) explain(ctx context.Context, r *request, o *promapi.QueryOptions, spec grpcapi.QuerySpec) (promapi.Data, promapi.Notes, error) {
	spec.Operators = true
	query, err := a.prepare(ctx, r, o, spec, &observed{})
	if err != nil {
		return nil, promapi.Notes{}, err
	}
	tree, err := engine.Explain(query)
	if err != nil {
		return nil, promapi.Notes{}, promapi.NewError(promapi.ErrorBadData, errNoExplanation)
	}
	return promapi.JSON{Value: tree}, promapi.Notes{}, nil
}

// allowed refuses a query with a selector that is denied. One that cannot be parsed is left to the engine.
func (a *API) allowed(query string) error {
	if a.cfg.Deny.Empty() {
		return nil
	}
	expr, err := a.deps.Parse(query)
	if err != nil {
		return nil //nolint:nilerr // the engine says so, in its own words
	}
	if err := a.cfg.Deny.Expr(expr); err != nil {
		return promapi.NewError(promapi.ErrorBadData, err)
	}
	return nil
}

// begin lists a request among those that run, until its answer was written.
func (a *API) begin(ctx context.Context, r *request, info active.Info) (context.Context, error) {
	info.Tenant = r.tenant
	ctx, q, err := a.cfg.Active.Begin(ctx, info)
	if err != nil {
		return nil, err
	}
	r.active = q
	r.after(q.End)
	return ctx, nil
}

// cancelled gives the error of a query that was ended by request its reason.
func cancelled(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, active.ErrCancelled) {
		return promapi.NewError(promapi.ErrorCanceled, cause)
	}
	return err
}

// selection is how a request reads series.
func (a *API) selection(r *request, s *promapi.Selection) selects.Options {
	out := selects.Options{
		Dedup: s.Dedup, ReplicaLabels: s.ReplicaLabels, StoreMatchers: s.StoreMatchers, PartialResponse: s.PartialResponse,
		GatewayStats: r.gatewayStats,
	}
	if r.active != nil {
		out.Spend = r.active.Spend
	}
	return out
}
