package distributed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/util/annotations"
	"github.com/prometheus/prometheus/util/stats"
	"github.com/thanos-io/promql-engine/api"

	"github.com/promontory-io/promontory/libs/storeapi"
	prometheuscopy "github.com/promontory-io/promontory/proto/gen/prometheus_copy"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/services/querier/internal/deadline"
	"github.com/promontory-io/promontory/services/querier/internal/receipt"
	"github.com/promontory-io/promontory/services/querier/internal/selects"
)

// batchSize is how many series engines are asked to put into one frame.
const batchSize = 64

// Options are what a query says to all its engines.
type Options struct {
	ReplicaLabels       []string
	PartialResponse     bool
	MaxSourceResolution time.Duration
}

// Engines turns partitions into what promql-engine distributes over.
func Engines(partitions []Partition, opts Options) api.RemoteEndpoints {
	list := make([]api.RemoteEngine, len(partitions))
	for i := range partitions {
		list[i] = &engine{Partition: partitions[i], opts: opts}
	}
	return api.NewStaticEndpoints(list)
}

// engine is one peer.
type engine struct {
	Partition
	opts Options
}

var _ api.RemoteEngine = (*engine)(nil)

func (e *engine) MinT() int64                         { return e.MinTime }
func (e *engine) MaxT() int64                         { return e.MaxTime }
func (e *engine) LabelSets() []labels.Labels          { return e.Labels }
func (e *engine) PartitionLabelSets() []labels.Labels { return e.Partition.Partition }

// NewRangeQuery prepares the part of a query that is for this peer. The text is all that counts.
func (e *engine) NewRangeQuery(_ context.Context, opts promql.QueryOpts, part api.RemoteQuery, start, end time.Time, step time.Duration) (promql.Query, error) {
	q := &query{engine: e, text: part.String(), start: start, end: end}
	q.req = &thanos.QueryRangeRequest{
		Query: q.text, StartTimeSeconds: start.Unix(), EndTimeSeconds: end.Unix(), IntervalSeconds: max(int64(step/time.Second), 1),
		MaxResolutionSeconds: int64(e.opts.MaxSourceResolution / time.Second), ReplicaLabels: e.opts.ReplicaLabels,
		EnableDedup: true, EnablePartialResponse: e.opts.PartialResponse,
		LookbackDeltaSeconds: int64(opts.LookbackDelta() / time.Second),
		Engine:               thanos.EngineType_THANOS, ResponseBatchSize: batchSize,
	}
	return q, nil
}

// query is the part of one peer. It belongs to one goroutine, but for Cancel.
type query struct {
	engine     *engine
	text       string
	start, end time.Time
	req        *thanos.QueryRangeRequest
	cancel     context.CancelFunc
	samples    *stats.QuerySamples
}

var _ promql.Query = (*query)(nil)

// Exec asks the peer. One that fails is missing from the answer under partial response, else the error.
func (q *query) Exec(ctx context.Context) *promql.Result {
	ctx, q.cancel = context.WithCancel(ctx)
	begin := time.Now()
	account := receipt.Store{Addr: q.engine.Endpoint.Addr, Component: q.engine.Endpoint.ComponentType, LabelSets: q.engine.Endpoint.LabelSets}
	result, warnings, err := q.fetch(ctx, &account)
	account.Elapsed = time.Since(begin)
	out := &promql.Result{Value: result}
	for _, w := range warnings {
		out.Warnings.Add(selects.Warning(q.engine.Endpoint.Describe() + " warns: " + w))
	}
	account.Warnings = warnings
	if len(warnings) > 0 {
		account.State = receipt.Warned
		account.Gaps = q.gaps(warnings[0])
	}
	if err != nil {
		account.State, account.Err, account.Gaps = receipt.Failed, err.Error(), q.gaps(err.Error())
		out = q.failed(ctx, out, err)
	}
	receipt.From(ctx).Add(account)
	return out
}

// failed decides what the failure of the peer means.
func (q *query) failed(ctx context.Context, out *promql.Result, err error) *promql.Result {
	if over := deadline.Over(ctx, err); over != nil {
		return &promql.Result{Err: fmt.Errorf("%w while waiting for %s", over, q.engine.Endpoint.Describe())}
	}
	text := fmt.Sprintf("%s failed, its part of the query may be missing: %v", q.engine.Endpoint.Describe(), err)
	if !q.engine.opts.PartialResponse {
		return &promql.Result{Err: storeapi.Abortedf("%s", text)}
	}
	// Half an answer may be half of an aggregation of which the other half is not known to be missing.
	out.Value = promql.Matrix{}
	out.Warnings.Add(selects.Warning(text))
	return out
}

// gaps are what is missing without the peer.
func (q *query) gaps(reason string) []receipt.Gap {
	out := make([]receipt.Gap, 0, len(q.engine.Endpoint.LabelSets))
	for _, set := range q.engine.Endpoint.LabelSets {
		out = append(out, receipt.Gap{
			Addr: q.engine.Endpoint.Addr, Component: q.engine.Endpoint.ComponentType, Labels: set,
			MinTime: q.start.UnixMilli(), MaxTime: q.end.UnixMilli(), Reason: reason,
		})
	}
	return out
}

// fetch reads the answer of the peer. Infos of its engine are not told from warnings on the wire: what begins as one
// is dropped, since this side's engine says the same.
func (q *query) fetch(ctx context.Context, account *receipt.Store) (promql.Matrix, []string, error) {
	begin := time.Now()
	if end, ok := ctx.Deadline(); ok {
		q.req.TimeoutSeconds = max(int64(time.Until(end)/time.Second), 1)
	}
	// All messages of one answer are small next to the engine's own; they come in batches.
	stream, err := thanos.NewQueryClient(q.engine.Endpoint.Conn).QueryRange(ctx, q.req)
	if err != nil {
		return nil, nil, storeapi.FromStatus(err)
	}
	var out promql.Matrix
	var warnings []string
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return out, warnings, nil
		}
		if err != nil {
			return nil, warnings, storeapi.FromStatus(err)
		}
		if account.Frames++; account.Frames == 1 {
			account.FirstFrame = time.Since(begin)
		}
		switch {
		case m.GetWarnings() != "":
			if w := m.GetWarnings(); !isAnnotation(w) {
				warnings = append(warnings, w)
			}
		case m.GetTimeseries() != nil:
			out = append(out, series(m.GetTimeseries(), account))
		case m.GetTimeseriesBatch() != nil:
			for _, ts := range m.GetTimeseriesBatch().GetSeries() {
				out = append(out, series(ts, account))
			}
		case m.GetStats() != nil:
			q.samples = &stats.QuerySamples{TotalSamples: m.GetStats().GetSamplesTotal(), PeakSamples: int(m.GetStats().GetPeakSamples())}
		}
	}
}

// isAnnotation reports whether a warning is a remark of the peer's engine on the expression, which is no sign of missing data.
func isAnnotation(w string) bool {
	return hasPrefix(w, annotations.PromQLInfo.Error()) || hasPrefix(w, annotations.PromQLWarning.Error())
}

func hasPrefix(s, prefix string) bool { return len(s) >= len(prefix) && s[:len(prefix)] == prefix }

// series translates one series of an answer.
func series(ts *prometheuscopy.TimeSeries, account *receipt.Store) promql.Series {
	b := labels.NewScratchBuilder(len(ts.GetLabels()))
	for _, l := range ts.GetLabels() {
		b.Add(l.GetName(), l.GetValue())
	}
	b.Sort()
	out := promql.Series{Metric: b.Labels()}
	for _, s := range ts.GetSamples() {
		out.Floats = append(out.Floats, promql.FPoint{T: s.GetTimestamp(), F: s.GetValue()})
	}
	for _, h := range ts.GetHistograms() {
		out.Histograms = append(out.Histograms, promql.HPoint{T: h.GetTimestamp(), H: storeapi.FloatHistogram(h)})
	}
	account.Series++
	account.Samples += int64(len(out.Floats) + len(out.Histograms))
	return out
}

// Close implements promql.Query.
func (q *query) Close() { q.Cancel() }

// Cancel implements promql.Query.
func (q *query) Cancel() {
	if q.cancel != nil {
		q.cancel()
	}
}

// Statement implements promql.Query; there is none for a text.
func (q *query) Statement() parser.Statement { return nil }

// Stats implements promql.Query.
func (q *query) Stats() *stats.Statistics { return &stats.Statistics{Samples: q.samples} }

// String is the text for the peer.
func (q *query) String() string { return q.text }
