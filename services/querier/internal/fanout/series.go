package fanout

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/services/querier/internal/deadline"
)

// Series returns the merged series of all stores that ms and the time range of req
// concern. ms stand for the matchers of the message. Of req, hints, step and range are not passed on.
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
	warnings, err := p.reportMissing(missing, q, abort, opts.Stats)
	if err != nil {
		return nil, err
	}
	m := &merge{proxy: p, ctx: ctx, query: q, targets: ask, abort: abort, stats: opts.Stats, early: warnings}
	m.Stream = storeapi.Limit(storeapi.Merge(m.open(req), storeapi.MergeOptions{OnError: m.onError}), req.GetLimit())
	return m, nil
}

// reportMissing turns stores that cannot be asked into warnings, or into the error of the request.
func (p *Proxy) reportMissing(missing []target, q query, abort bool, stats *Stats) (warnings []string, err error) {
	for _, t := range missing {
		text := t.missingText(q, t.Err)
		stats.Add(StoreStats{Addr: t.Addr, Missing: true, Err: t.Err.Error()})
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
	proxy   *Proxy
	ctx     context.Context //nolint:containedctx // that of the request, whose stream this is
	query   query
	targets []target
	sources []*source
	abort   bool
	stats   *Stats
	early   []string // warnings known from the start
	closed  bool
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
	for _, s := range m.sources {
		st := StoreStats{Addr: s.target.Addr, StreamStats: s.client.Stats()}
		if s.failed != nil {
			st.Missing, st.Err = true, s.failed.Error()
		}
		m.stats.Add(st)
	}
}

// onError decides about the failure of stream i.
func (m *merge) onError(i int, err error) (string, error) {
	s := m.sources[i]
	switch ctxErr := deadline.Over(m.ctx, err); {
	case errors.Is(ctxErr, context.DeadlineExceeded):
		// This is the stream that was being waited for.
		return "", fmt.Errorf("%w while waiting for %s", ctxErr, s.target.Describe())
	case ctxErr != nil:
		return "", ctxErr // the caller gave up: no store is to blame
	}
	s.failed = err
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
	client := t.Store.Client.Series(m.ctx, r, storeapi.StreamOptions{
		FrameTimeout: m.proxy.cfg.ResponseTimeout, Ahead: m.proxy.cfg.ReadAhead,
	})
	s := &source{client: client, target: t, abort: m.abort, empty: m.proxy.metrics.emptyStreams.Inc}
	var out storeapi.Stream = s
	if len(remove) > 0 {
		out = storeapi.WithoutLabels(out, remove)
	}
	return storeapi.FilterShard(out, shard), s
}

func strategy(abort bool) thanos.PartialResponseStrategy {
	if abort {
		return thanos.PartialResponseStrategy_ABORT
	}
	return thanos.PartialResponseStrategy_WARN
}

// source is the stream of one store. Where nothing may be missing, a warning of the store ends it.
type source struct {
	client  *storeapi.ClientStream
	target  target
	abort   bool
	any     bool
	err     error
	failed  error
	empty   func()
	counted bool
}

var _ storeapi.Stream = (*source)(nil)

func (s *source) Next() bool {
	if s.err != nil {
		return false
	}
	ok := s.client.Next()
	if s.abort {
		if w := s.client.Warnings(); len(w) > 0 {
			s.err = errors.New(w[0])
			return false
		}
	}
	switch {
	case ok:
		s.any = true
	case !s.any && !s.counted && s.client.Err() == nil:
		s.counted = true
		s.empty()
	}
	return ok
}

func (s *source) At() *storeapi.Series { return s.client.At() }

func (s *source) Err() error {
	if s.err != nil {
		return s.err
	}
	return s.client.Err()
}

// Warnings are those of the store with its name, which it does not know itself.
func (s *source) Warnings() []string  { return s.target.Said(s.client.Warnings()) }
func (s *source) Hints() []*anypb.Any { return s.client.Hints() }
func (s *source) Close()              { s.client.Close() }
