package fanout

import (
	"context"
	"errors"
	"slices"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/promontory-io/promontory/libs/dedup"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/services/querier/internal/deadline"
	"github.com/promontory-io/promontory/services/querier/internal/endpoints"
	"github.com/promontory-io/promontory/services/querier/internal/receipt"
)

// Series returns the merged series of all stores that ms and the time range of req
// concern. ms stand for the matchers of the message. Of req, hints, step and range are not passed on. A store that is
// still waited for when most of the time of ctx is over is given up, so that the rest can be answered.
//
// It returns before stores have answered. Failures of stores are warnings of the stream, or its
// error (ErrAborted) under the strategy ABORT; the end of ctx is always its error. The returned
// error is an ErrInvalid for a request without matchers, or an ErrAborted when ABORT is asked for and no
// store is known. The stream must be closed.
func (p *Proxy) Series(ctx context.Context, req *thanos.SeriesRequest, ms []*labels.Matcher, opts Options) (storeapi.Stream, error) {
	if err := storeapi.CheckRange(req.GetMinTime(), req.GetMaxTime()); err != nil {
		return nil, err
	}
	rest, ok := p.ownLabels(ms)
	if !ok {
		return storeapi.NewSliceStream(nil, nil, nil), nil
	}
	if len(rest) == 0 {
		return nil, storeapi.Invalidf("no matchers specified besides those on the external labels of the querier")
	}
	q := query{mint: req.GetMinTime(), maxt: req.GetMaxTime(), ms: rest, storeMatchers: opts.StoreMatchers, relabel: p.cfg.Relabel}
	ask, missing, known := pick(p.source.Endpoints(), q)
	abort := storeapi.Strategy(req.GetPartialResponseDisabled(), req.GetPartialResponseStrategy()) == thanos.PartialResponseStrategy_ABORT
	if known == 0 && abort {
		return nil, storeapi.Abortedf("No StoreAPIs available")
	}
	if decidedByLabels(ask, rest) {
		return nil, storeapi.Invalidf("no matchers left besides those on external labels in %s", storeapi.FormatMatchers(ms))
	}
	ask, missing = p.admit(ask, missing)
	warnings, err := reportMissing(missing, q, abort)
	m := &merge{
		proxy: p, ctx: ctx, query: q, targets: ask, missing: missing, abort: abort, opts: opts,
		replicaLabels: req.GetWithoutReplicaLabels(), early: warnings,
	}
	if err != nil {
		m.account()
		return nil, err
	}
	m.Stream = storeapi.Limit(storeapi.Merge(m.open(req), storeapi.MergeOptions{OnError: m.onError}), req.GetLimit())
	return m, nil
}

// reportMissing turns stores that cannot be asked into warnings, or into the error of the request.
func reportMissing(missing []target, q query, abort bool) (warnings []string, err error) {
	for _, t := range missing {
		text := t.missingText(q, t.err)
		if abort {
			return nil, storeapi.Abortedf("%s", text)
		}
		warnings = append(warnings, text)
	}
	return warnings, nil
}

// merge is the answer to one request.
type merge struct {
	storeapi.Stream
	proxy         *Proxy
	ctx           context.Context //nolint:containedctx // that of the request, whose stream this is
	query         query
	targets       []target
	missing       []target
	sources       []*source
	abort         bool
	opts          Options
	replicaLabels []string
	early         []string // warnings known from the start
	closed        bool
}

// Warnings puts what was known from the start first.
func (m *merge) Warnings() []string {
	if len(m.early) == 0 {
		return m.Stream.Warnings()
	}
	return append(slices.Clip(m.early), m.Stream.Warnings()...)
}

// Close also counts what the stores contributed.
func (m *merge) Close() {
	if m.closed {
		return
	}
	m.closed = true
	m.Stream.Close()
	m.account()
}

// account adds what each store contributed, and what is missing, to the stats of the request.
func (m *merge) account() {
	accounts := make([]receipt.Store, 0, len(m.targets)+len(m.missing))
	targets := m.targets
	if len(m.sources) == 0 {
		for _, t := range targets {
			t.call.Dropped() // another one was missing, so nobody was asked
		}
		targets = nil
	}
	for _, s := range m.sources {
		accounts = append(accounts, s.account())
	}
	accounts = append(accounts, lostStores(m.missing)...)
	settle(m.query, slices.Concat(targets, m.missing), accounts, m.replicaLabels)
	m.opts.add(accounts)
}

func (o *Options) add(accounts []receipt.Store) {
	if o.Queued != nil {
		queued := o.Queued()
		for i := range accounts {
			accounts[i].Queued = queued
		}
	}
	o.Stats.Add(accounts...)
}

// onError decides about the failure of stream i.
func (m *merge) onError(i int, err error) (string, error) {
	s := m.sources[i]
	if spent := (overspent{}); errors.As(err, &spent) {
		return "", spent.error
	}
	switch ctxErr := deadline.Over(m.ctx, err); {
	case errors.Is(ctxErr, context.DeadlineExceeded):
		// This is the stream that was being waited for.
		s.failed = err
		return "", s.late(ctxErr)
	case ctxErr != nil:
		return "", ctxErr // the caller gave up: no store is to blame
	}
	s.failed = err
	if m.abort && errors.Is(err, storeapi.ErrLate) {
		return "", s.late(context.DeadlineExceeded)
	}
	text := s.target.missingText(m.query, err)
	if m.abort {
		return "", storeapi.Abortedf("%s", text)
	}
	return text, nil
}

// open starts the stream of each store.
func (m *merge) open(req *thanos.SeriesRequest) []storeapi.Stream {
	streams := make([]storeapi.Stream, len(m.targets))
	m.sources = make([]*source, len(m.targets))
	for i, t := range m.targets {
		streams[i], m.sources[i] = m.openOne(req, t)
	}
	return streams
}

// cutsChunks reports whether a store answers from Prometheus' remote read, which cuts chunks to the
// range asked for, or may ask somebody who does.
func cutsChunks(t target) bool {
	return t.ComponentType == endpoints.ComponentSidecar || t.ComponentType == endpoints.ComponentQuery
}

// openOne starts the stream of one store and adds what that store cannot do itself.
func (m *merge) openOne(req *thanos.SeriesRequest, t target) (storeapi.Stream, *source) {
	ms := m.query.ms
	if len(t.extra) > 0 {
		ms = append(slices.Clip(ms), t.extra...)
	}
	r := &thanos.SeriesRequest{
		MinTime:                 req.GetMinTime(),
		MaxTime:                 req.GetMaxTime(),
		Matchers:                storeapi.WireMatchers(ms),
		MaxResolutionWindow:     req.GetMaxResolutionWindow(),
		Aggregates:              req.GetAggregates(),
		PartialResponseDisabled: m.abort,
		PartialResponseStrategy: strategy(m.abort),
		SkipChunks:              req.GetSkipChunks(),
		QueryHints:              req.GetQueryHints(),
		Limit:                   req.GetLimit(),
		ResponseBatchSize:       req.GetResponseBatchSize(),
	}
	remove, shard := req.GetWithoutReplicaLabels(), storeapi.NewShard(req.GetShardInfo())
	if t.Store.SupportsWithoutReplicaLabels {
		r.WithoutReplicaLabels, remove = remove, nil
	}
	// A shard is computed without replica labels: a store that leaves them in cannot compute it.
	if t.Store.SupportsSharding && len(remove) == 0 {
		r.ShardInfo, shard = req.GetShardInfo(), nil
	}
	if len(remove) > 0 || shard != nil {
		r.Limit = 0 // what is cut off there might be what is left here
	}
	if m.opts.GatewayStats {
		r.Hints = gatewayHints()
	}
	if m.opts.WholeChunks && cutsChunks(t) {
		r.MinTime, r.MaxTime = dedup.Uncut(r.GetMinTime(), r.GetMaxTime())
	}
	s := &source{call: m.call(t, r), target: t, abort: m.abort, empty: m.proxy.metrics.emptyStreams.Inc}
	var out storeapi.Stream = s
	if len(remove) > 0 {
		out = storeapi.WithoutLabels(out, remove)
	}
	return storeapi.FilterShard(out, shard), s
}

// call asks one store, or one replica of a group and perhaps another.
func (m *merge) call(t target, r *thanos.SeriesRequest) call {
	opts := storeapi.StreamOptions{FrameTimeout: m.proxy.cfg.ResponseTimeout, Ahead: m.proxy.cfg.ReadAhead}
	opts.Deadline, opts.Grace, _ = deadline.Leaf(m.ctx)
	if f := m.opts.OnFrame; f != nil {
		opts.OnFrame = func(bytes int) error {
			if err := f(bytes); err != nil {
				return overspent{err}
			}
			return nil
		}
	}
	open := func() *storeapi.ClientStream { return t.Store.Client.Series(m.ctx, r, opts) }
	if t.Group {
		return m.proxy.hedge(m.ctx, t.Addr, open)
	}
	return plain{open()}
}

func strategy(abort bool) thanos.PartialResponseStrategy {
	if abort {
		return thanos.PartialResponseStrategy_ABORT
	}
	return thanos.PartialResponseStrategy_WARN
}
