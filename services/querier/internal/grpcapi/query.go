package grpcapi

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"google.golang.org/grpc"

	"github.com/promontory-io/promontory/libs/service/requestctx"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/libs/tenancy"
	prometheuscopy "github.com/promontory-io/promontory/proto/gen/prometheus_copy"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/services/querier/internal/active"
	"github.com/promontory-io/promontory/services/querier/internal/selects"
)

// queryServer evaluates PromQL for peers. It works from the text of a query and ignores a plan.
type queryServer struct {
	thanos.UnimplementedQueryServer
	cfg  Config
	deps Deps
}

// request is what both kinds of queries say alike.
type request interface {
	GetQuery() string
	GetTimeoutSeconds() int64
	GetMaxResolutionSeconds() int64
	GetReplicaLabels() []string
	GetStoreMatchers() []*thanos.StoreMatchers
	GetEnableDedup() bool
	GetEnablePartialResponse() bool
	GetShardInfo() *thanos.ShardInfo
	GetLookbackDeltaSeconds() int64
	GetEngine() thanos.EngineType
	GetResponseBatchSize() int64
}

// frames makes the messages of one kind of answer.
type frames[M any] struct {
	warning func(string) *M
	series  func(*prometheuscopy.TimeSeries) *M
	batch   func(*thanos.TimeSeriesBatch) *M
	stats   func(*thanos.QueryStats) *M
}

// Query evaluates at one instant. A failure under partial response is a warning that ends the answer.
func (s *queryServer) Query(req *thanos.QueryRequest, stream grpc.ServerStreamingServer[thanos.QueryResponse]) error {
	at := time.Now()
	if t := req.GetTimeSeconds(); t != 0 {
		at = time.Unix(t, 0)
	}
	resolution := s.cfg.InstantMaxSourceResolution
	spec := QuerySpec{Start: at, End: at}
	return evaluate(s, req, spec, resolution, req.GetEnablePartialResponse(), stream, frames[thanos.QueryResponse]{
		warning: func(w string) *thanos.QueryResponse {
			return &thanos.QueryResponse{Result: &thanos.QueryResponse_Warnings{Warnings: w}}
		},
		series: func(ts *prometheuscopy.TimeSeries) *thanos.QueryResponse {
			return &thanos.QueryResponse{Result: &thanos.QueryResponse_Timeseries{Timeseries: ts}}
		},
		batch: func(b *thanos.TimeSeriesBatch) *thanos.QueryResponse {
			return &thanos.QueryResponse{Result: &thanos.QueryResponse_TimeseriesBatch{TimeseriesBatch: b}}
		},
		stats: func(st *thanos.QueryStats) *thanos.QueryResponse {
			return &thanos.QueryResponse{Result: &thanos.QueryResponse_Stats{Stats: st}}
		},
	})
}

// QueryRange evaluates over a range.
func (s *queryServer) QueryRange(req *thanos.QueryRangeRequest, stream grpc.ServerStreamingServer[thanos.QueryRangeResponse]) error {
	spec := QuerySpec{
		Start: time.Unix(req.GetStartTimeSeconds(), 0), End: time.Unix(req.GetEndTimeSeconds(), 0),
		Step: time.Duration(req.GetIntervalSeconds()) * time.Second,
	}
	switch {
	case spec.Step <= 0:
		return storeapi.ToStatus(storeapi.Invalidf("interval of %d seconds is not positive", req.GetIntervalSeconds()))
	case spec.End.Before(spec.Start):
		return storeapi.ToStatus(storeapi.Invalidf("query ends (%d) before it starts (%d)", req.GetEndTimeSeconds(), req.GetStartTimeSeconds()))
	}
	return evaluate(s, req, spec, 0, false, stream, frames[thanos.QueryRangeResponse]{
		warning: func(w string) *thanos.QueryRangeResponse {
			return &thanos.QueryRangeResponse{Result: &thanos.QueryRangeResponse_Warnings{Warnings: w}}
		},
		series: func(ts *prometheuscopy.TimeSeries) *thanos.QueryRangeResponse {
			return &thanos.QueryRangeResponse{Result: &thanos.QueryRangeResponse_Timeseries{Timeseries: ts}}
		},
		batch: func(b *thanos.TimeSeriesBatch) *thanos.QueryRangeResponse {
			return &thanos.QueryRangeResponse{Result: &thanos.QueryRangeResponse_TimeseriesBatch{TimeseriesBatch: b}}
		},
		stats: func(st *thanos.QueryStats) *thanos.QueryRangeResponse {
			return &thanos.QueryRangeResponse{Result: &thanos.QueryRangeResponse_Stats{Stats: st}}
		},
	})
}

// options are what the request says about where data come from.
func (s *queryServer) options(req request, resolution time.Duration) (selects.Options, error) {
	opts := selects.Options{
		Dedup:               req.GetEnableDedup(),
		ReplicaLabels:       req.GetReplicaLabels(),
		MaxSourceResolution: resolution,
		PartialResponse:     req.GetEnablePartialResponse(),
		Shard:               req.GetShardInfo(),
	}
	if len(opts.ReplicaLabels) == 0 {
		opts.ReplicaLabels = s.cfg.ReplicaLabels
	}
	for _, set := range req.GetStoreMatchers() {
		ms, err := storeapi.Matchers(set.GetLabelMatchers())
		if err != nil {
			return opts, err
		}
		opts.StoreMatchers = append(opts.StoreMatchers, ms)
	}
	return opts, nil
}

// evaluate runs a query and sends the answer: warnings, series, statistics.
func evaluate[M any](s *queryServer, req request, spec QuerySpec, resolution time.Duration, failSoftly bool, stream grpc.ServerStreamingServer[M], f frames[M]) error {
	ctx := stream.Context()
	timeout := s.cfg.QueryTimeout
	if t := req.GetTimeoutSeconds(); t > 0 {
		timeout = time.Duration(t) * time.Second
	}
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	if r := req.GetMaxResolutionSeconds(); r > 0 {
		resolution = time.Duration(r) * time.Second
	}
	opts, err := s.options(req, resolution)
	if err != nil {
		return storeapi.ToStatus(err)
	}
	spec.Text, spec.Engine, spec.MaxSourceResolution = req.GetQuery(), engineOf(req.GetEngine()), resolution
	spec.LookbackDelta = s.cfg.LookbackDelta
	if l := req.GetLookbackDeltaSeconds(); l > 0 {
		spec.LookbackDelta = time.Duration(l) * time.Second
	}
	if spec.Text, err = s.restrict(ctx, spec.Text); err != nil {
		return storeapi.ToStatus(err)
	}
	ctx, running, err := s.begin(ctx, spec)
	if err != nil {
		return storeapi.ToStatus(err)
	}
	defer running.End()
	opts.Spend = running.Spend
	query, err := s.deps.Engine.NewQuery(ctx, s.deps.Selects.Queryable(opts), spec)
	if err != nil {
		return err // as it is: peers see the parser's text under the code Unknown
	}
	defer query.Close()
	leave, err := s.deps.Gate.Enter(ctx)
	if err != nil {
		return storeapi.ToStatus(fmt.Errorf("wait for other queries to end: %w", err))
	}
	running.Run()
	result := query.Exec(ctx)
	leave()
	if result.Err != nil {
		if failSoftly {
			return stream.Send(f.warning(result.Err.Error()))
		}
		return storeapi.ToStatus(storeapi.Abortedf("%v", result.Err))
	}
	return sendResult(stream, f, req, query, result)
}

// restrict gives each selector of a query the tenant's matcher, where that is asked for, and refuses denied ones.
func (s *queryServer) restrict(ctx context.Context, query string) (string, error) {
	if expr, err := s.deps.Parse(query); err == nil {
		if err := s.deps.Deny.Expr(expr); err != nil {
			return "", storeapi.Invalidf("%v", err)
		}
	}
	if s.cfg.EnforceLabel == "" {
		return query, nil
	}
	e, err := tenancy.NewEnforcer(s.cfg.EnforceLabel, requestctx.TenantOrDefault(ctx))
	if err != nil {
		return "", storeapi.Invalidf("%v", err)
	}
	out, err := e.QueryBy(s.deps.Parse, query)
	if err != nil {
		return "", storeapi.Invalidf("%v", err)
	}
	return out, nil
}

// begin lists a query among those that run.
func (s *queryServer) begin(ctx context.Context, spec QuerySpec) (context.Context, *active.Query, error) {
	return s.deps.Active.Begin(ctx, active.Info{
		Kind: "grpc", Text: spec.Text, Tenant: requestctx.TenantOrDefault(ctx), Start: spec.Start, End: spec.End, Step: spec.Step,
	})
}

func sendResult[M any](stream grpc.ServerStreamingServer[M], f frames[M], req request, query promql.Query, result *promql.Result) error {
	warnings, infos := result.Warnings.AsStrings(req.GetQuery(), 0, 0)
	for _, w := range append(warnings, infos...) {
		if err := stream.Send(f.warning(w)); err != nil {
			return fmt.Errorf("send warning: %w", err)
		}
	}
	var batch []*prometheuscopy.TimeSeries
	err := eachSeries(result, func(ts *prometheuscopy.TimeSeries) error {
		if req.GetResponseBatchSize() <= 1 {
			return stream.Send(f.series(ts))
		}
		if batch = append(batch, ts); int64(len(batch)) < req.GetResponseBatchSize() {
			return nil
		}
		full := batch
		batch = nil
		return stream.Send(f.batch(&thanos.TimeSeriesBatch{Series: full}))
	})
	if err == nil && len(batch) > 0 {
		err = stream.Send(f.batch(&thanos.TimeSeriesBatch{Series: batch}))
	}
	if err != nil {
		return fmt.Errorf("send series: %w", err)
	}
	stats := &thanos.QueryStats{}
	if st := query.Stats(); st != nil && st.Samples != nil {
		stats.SamplesTotal, stats.PeakSamples = st.Samples.TotalSamples, int64(st.Samples.PeakSamples)
	}
	return stream.Send(f.stats(stats))
}

// eachSeries calls yield for each series of a result. A scalar is a series without labels.
func eachSeries(result *promql.Result, yield func(*prometheuscopy.TimeSeries) error) error {
	switch v := result.Value.(type) {
	case promql.Matrix:
		for i := range v {
			ts := &prometheuscopy.TimeSeries{Labels: wireLabels(v[i].Metric)}
			for _, p := range v[i].Floats {
				ts.Samples = append(ts.Samples, &prometheuscopy.Sample{Timestamp: p.T, Value: p.F})
			}
			for _, p := range v[i].Histograms {
				ts.Histograms = append(ts.Histograms, storeapi.WireHistogram(p.T, p.H))
			}
			if err := yield(ts); err != nil {
				return err
			}
		}
	case promql.Vector:
		for i := range v {
			ts := &prometheuscopy.TimeSeries{Labels: wireLabels(v[i].Metric)}
			if v[i].H != nil {
				ts.Histograms = []*prometheuscopy.Histogram{storeapi.WireHistogram(v[i].T, v[i].H)}
			} else {
				ts.Samples = []*prometheuscopy.Sample{{Timestamp: v[i].T, Value: v[i].F}}
			}
			if err := yield(ts); err != nil {
				return err
			}
		}
	case promql.Scalar:
		return yield(&prometheuscopy.TimeSeries{Samples: []*prometheuscopy.Sample{{Timestamp: v.T, Value: v.V}}})
	case promql.String:
		return storeapi.Invalidf("a query that is a string has no series to send")
	}
	return nil
}

func wireLabels(lset labels.Labels) []*prometheuscopy.Label {
	out := make([]*prometheuscopy.Label, 0, lset.Len())
	lset.Range(func(l labels.Label) { out = append(out, &prometheuscopy.Label{Name: l.Name, Value: l.Value}) })
	return out
}
