package selects

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/promontory-io/promontory/libs/dedup"
	"github.com/promontory-io/promontory/libs/downsample"
	"github.com/promontory-io/promontory/libs/gate"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/services/querier/internal/fanout"
	"github.com/promontory-io/promontory/services/querier/internal/receipt"
)

// batchSize is how many series stores are asked to put into one frame.
const batchSize = 64

// querier serves the selects of one query over one time range.
type querier struct {
	creator    *Creator
	opts       Options
	gate       *gate.Gate
	mint, maxt int64

	mu     sync.Mutex // guards sets and closed
	sets   []*seriesSet
	closed bool
}

var _ storage.Querier = (*querier)(nil)

var errClosed = errors.New("select after the querier was closed")

// Select implements storage.Querier. The set is always sorted, whatever is asked. It begins
// to be read at once and in the background, so that the selects of one query wait for stores together.
func (q *querier) Select(ctx context.Context, _ bool, hints *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	req, view := q.request(hints)
	stats := &receipt.Stats{}
	ctx, cancel := context.WithCancel(ctx)
	s := &seriesSet{
		ctx: ctx, cancel: cancel, opened: make(chan struct{}), view: view, stores: stats,
		started: time.Now(), matchers: ms, hints: hints, observe: q.opts.Observe,
		ahead: newAhead(q.creator.ahead, hints, req.GetSkipChunks()),
	}
	if !q.keep(s) {
		s.fail(errClosed)
		close(s.opened)
		return s
	}
	opts := fanout.Options{
		StoreMatchers: q.opts.StoreMatchers, Stats: stats, GatewayStats: q.opts.GatewayStats,
		Queued: func() time.Duration { return s.queued },
	}
	// Cut chunks look different in every range to a merge that goes by what chunks say.
	opts.WholeChunks = view.merge == dedup.Exact && !req.GetSkipChunks()
	if q.opts.Spend != nil {
		selector := storeapi.FormatMatchers(ms)
		opts.OnFrame = func(bytes int) error { return q.opts.Spend(ctx, selector, bytes) }
	}
	go s.open(q.gate, func(ctx context.Context) (storeapi.Stream, error) {
		return q.creator.series.Series(ctx, req, ms, opts)
	})
	return s
}

// labelOptions are those of a label call.
func (q *querier) labelOptions(ctx context.Context) fanout.Options {
	o := fanout.Options{StoreMatchers: q.opts.StoreMatchers, Stats: receipt.From(ctx)}
	if q.opts.Dedup {
		o.ReplicaLabels = q.opts.ReplicaLabels
	}
	return o
}

// keep remembers a set for Close; false after it.
func (q *querier) keep(s *seriesSet) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false
	}
	q.sets = append(q.sets, s)
	return true
}

// request is what stores are asked for, and how their answer is read.
func (q *querier) request(hints *storage.SelectHints) (*thanos.SeriesRequest, view) {
	mint, maxt, function := q.mint, q.maxt, ""
	resolution := q.opts.MaxSourceResolution
	req := &thanos.SeriesRequest{
		PartialResponseDisabled: !q.opts.PartialResponse,
		PartialResponseStrategy: q.strategy(),
		SkipChunks:              q.opts.SkipChunks,
		ShardInfo:               q.opts.Shard,
		ResponseBatchSize:       batchSize,
	}
	if hints != nil {
		mint, maxt, function = hints.Start, hints.End, hints.Func
		resolution = downsample.CapResolution(resolution, function, time.Duration(hints.Range)*time.Millisecond)
		req.Limit = int64(hints.Limit)
		req.QueryHints = wireHints(hints)
		// The engine says "series" when it wants labels only.
		req.SkipChunks = req.SkipChunks || function == "series"
	}
	req.MaxResolutionWindow = resolution.Milliseconds()
	aggrs := downsample.AggregatesFor(function)
	for _, a := range aggrs {
		req.Aggregates = append(req.Aggregates, thanos.Aggr(a))
	}
	v := view{mint: mint, maxt: maxt, function: function, aggrs: aggrs}
	if hints != nil && hints.Range > 0 {
		v.spacing = spacingOf(function)
	}
	if q.opts.dedups() {
		req.WithoutReplicaLabels = q.opts.ReplicaLabels
		v.merge = q.creator.cfg.Dedup
		if !req.GetSkipChunks() {
			// What is chosen for a time must not depend on where the range begins.
			mint, maxt = dedup.Widened(v.merge, mint, maxt, resolution)
		}
	}
	req.MinTime, req.MaxTime = mint, maxt
	v.from, v.to = mint, maxt
	return req, v
}

func (o *Options) dedups() bool { return o.Dedup && len(o.ReplicaLabels) > 0 }

func (q *querier) strategy() thanos.PartialResponseStrategy {
	if q.opts.PartialResponse {
		return thanos.PartialResponseStrategy_WARN
	}
	return thanos.PartialResponseStrategy_ABORT
}

func wireHints(h *storage.SelectHints) *thanos.QueryHints {
	out := &thanos.QueryHints{StepMillis: h.Step}
	if h.Func != "" {
		out.Func = &thanos.Func{Name: h.Func}
	}
	if len(h.Grouping) > 0 || h.By {
		out.Grouping = &thanos.Grouping{By: h.By, Labels: h.Grouping}
	}
	if h.Range != 0 {
		out.Range = &thanos.Range{Millis: h.Range}
	}
	return out
}

// LabelNames implements storage.LabelQuerier.
func (q *querier) LabelNames(ctx context.Context, hints *storage.LabelHints, ms ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	resp, err := q.creator.series.LabelNames(ctx, &thanos.LabelNamesRequest{
		PartialResponseDisabled: !q.opts.PartialResponse, PartialResponseStrategy: q.strategy(),
		Start: q.mint, End: q.maxt, Limit: limitOf(hints),
	}, ms, q.labelOptions(ctx))
	return resp.GetNames(), warnings(resp.GetWarnings()), err
}

// LabelValues implements storage.LabelQuerier.
func (q *querier) LabelValues(ctx context.Context, name string, hints *storage.LabelHints, ms ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	resp, err := q.creator.series.LabelValues(ctx, &thanos.LabelValuesRequest{
		Label: name, PartialResponseDisabled: !q.opts.PartialResponse, PartialResponseStrategy: q.strategy(),
		Start: q.mint, End: q.maxt, Limit: limitOf(hints),
	}, ms, q.labelOptions(ctx))
	return resp.GetValues(), warnings(resp.GetWarnings()), err
}

func limitOf(hints *storage.LabelHints) int64 {
	if hints == nil {
		return 0
	}
	return int64(hints.Limit)
}

func warnings(texts []string) annotations.Annotations {
	var out annotations.Annotations
	for _, text := range texts {
		out.Add(Warning(text))
	}
	return out
}

// Close ends all streams of the querier. Series that were handed out stay readable.
func (q *querier) Close() error {
	q.mu.Lock()
	sets := slices.Clone(q.sets)
	q.sets, q.closed = nil, true
	q.mu.Unlock()
	for _, s := range sets {
		s.close()
	}
	return nil
}
