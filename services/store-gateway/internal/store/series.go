package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/promontory-io/promontory/libs/budget"
	"github.com/promontory-io/promontory/libs/service/requestctx"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/hintspb"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/services/store-gateway/internal/blockread"
)

const (
	// minBatchBytes and maxBatchBytes bound a batch of one block: below, requests to
	// the bucket become too many, above they get no cheaper.
	minBatchBytes = 64 << 10
	maxBatchBytes = 2 << 20
	// requestBytes is what a request holds besides its blocks' data: frames, in making and on their way.
	requestBytes = 64 << 10
)

// Series writes the series that match.
func (s *Store) Series(ctx context.Context, req *thanos.SeriesRequest, ms []*labels.Matcher, w *storeapi.Writer) error {
	t := turnOf(ctx)
	r := &seriesRequest{
		s: s, turn: t, req: req, ms: ms, w: w, begin: time.Now(), tenant: requestctx.TenantOrDefault(ctx),
		troubles: troubles{
			strategy: storeapi.Strategy(req.GetPartialResponseDisabled(), req.GetPartialResponseStrategy()),
			warn:     w.Warning, metrics: s.metrics,
		},
	}
	return r.answer(ctx)
}

// seriesRequest is one request on its way.
type seriesRequest struct {
	s        *Store
	turn     *turn
	req      *thanos.SeriesRequest
	ms       []*labels.Matcher
	w        *storeapi.Writer
	begin    time.Time
	tenant   string
	troubles troubles

	hints         hintspb.SeriesRequestHints
	blockMatchers []*labels.Matcher
	blocks        []*Block
	stats         blockread.Stats
	// found is when all blocks had their first series.
	found time.Duration
}

func (r *seriesRequest) answer(ctx context.Context) (err error) {
	v, err := r.s.current()
	if err != nil {
		return err
	}
	if err := unpack(r.req.GetHints(), "SeriesRequestHints", &r.hints); err != nil {
		return err
	}
	if r.blockMatchers, err = blockMatchers(r.hints.GetBlockMatchers()); err != nil {
		return err
	}
	mint, maxt, ok := r.s.clip(r.req.GetMinTime(), r.req.GetMaxTime())
	if !ok {
		return r.sendHints()
	}
	queries, err := r.plan(v, mint, maxt)
	if err != nil {
		return err
	}
	err = r.troubles.aside(v.aside, func(a *Aside) bool {
		return a.touches(r.ms, r.blockMatchers, mint, maxt, r.req.GetMaxResolutionWindow())
	})
	if err != nil {
		return err
	}
	if len(queries) > 0 {
		err = r.admitted(ctx, queries)
	}
	r.s.metrics.observe(r.tenant, r.stats.Tally(), r.w.Stats(), r.found, time.Since(r.begin))
	if err != nil {
		return err
	}
	return r.sendHints()
}

// plan says what is asked of which block; r.blocks has the blocks in the same order.
func (r *seriesRequest) plan(v *view, mint, maxt int64) (queries []*blockread.Query, err error) {
	limits := &blockread.Limits{
		Series: r.s.cfg.MaxSeries, Chunks: r.s.cfg.MaxChunks, Bytes: r.s.cfg.MaxBytes,
		OnDrop: func(reason string) { r.s.metrics.dropped.WithLabelValues(reason, r.tenant).Inc() },
	}
	aggrs := aggregates(r.req.GetAggregates())
	for _, p := range v.parts(r.ms) {
		choices := p.set.Choose(mint, maxt, r.req.GetMaxResolutionWindow(), keep(r.blockMatchers))
		if len(choices) > 0 && len(p.matchers) == 0 {
			return nil, errNoMatchers(r.ms)
		}
		for _, c := range choices {
			r.blocks = append(r.blocks, c.Block)
			queries = append(queries, &blockread.Query{
				Matchers: p.matchers, MinTime: c.MinTime, MaxTime: c.MaxTime,
				Without: r.req.GetWithoutReplicaLabels(), SkipChunks: r.req.GetSkipChunks(), Aggrs: aggrs,
				Shard: r.req.GetShardInfo(), Limit: r.req.GetLimit(), Tenant: r.tenant,
				Limits: limits, Stats: &r.stats,
			})
		}
	}
	batch := r.batchBytes(len(queries))
	for _, q := range queries {
		q.BatchBytes = batch
	}
	return queries, nil
}

// batchBytes shares a request's memory among its blocks, each of which has two batches.
func (r *seriesRequest) batchBytes(blocks int) int64 {
	return min(max(r.s.cfg.RequestBytes/int64(max(2*blocks, 1)), minBatchBytes), maxBatchBytes)
}

// admitted answers the queries. The request begins with what looking for series takes; when their number is known it waits for what it
// cannot do without, before anything else is read.
func (r *seriesRequest) admitted(ctx context.Context, queries []*blockread.Query) error {
	memory, release, err := r.s.reserve(ctx, requestBytes+int64(len(queries))*blockread.LookupBytes, r.ms)
	if err != nil {
		err = blame(err, len(queries))
		r.s.refused(err, r.tenant)
		return err
	}
	defer release()
	defer r.s.watch(r.turn)()
	memory.Admit(len(queries), func(ctx context.Context, bytes, total int64) error {
		answers := smallAnswers
		if !r.s.budget.IsSmall(bytes) || !memory.SmallAnswer(total) {
			answers = largeAnswers
			if err := memory.MarkLarge(bytes); err != nil {
				return blame(err, len(queries))
			}
		}
		// First the memory: whoever is behind the gate can always go on, and so makes room for those before it.
		if err := memory.Grow(ctx, bytes); err != nil {
			return blame(err, len(queries))
		}
		return r.s.begin(ctx, r.turn, answers)
	})
	for _, q := range queries {
		q.Memory = memory
	}
	err = r.stream(ctx, queries)
	r.s.refused(err, r.tenant)
	return err
}

// blame says in a refusal how many blocks there are.
func blame(err error, blocks int) error {
	var refusal *budget.Refusal
	if !errors.As(err, &refusal) {
		return err
	}
	return blockread.Blame(err, fmt.Sprintf("reading %d blocks at once", blocks), refusal.Who)
}

// reserve admits a request that needs so many bytes to begin. Everything it holds in the end goes back with release.
func (s *Store) reserve(ctx context.Context, bytes int64, ms []*labels.Matcher) (m *blockread.Memory, release func(), err error) {
	res := turnOf(ctx).res
	if res != nil {
		release = func() {} // whoever made the reservation releases it
		err = res.Grow(ctx, bytes)
	} else if res, err = s.budget.Acquire(ctx, bytes, storeapi.FormatMatchers(ms)); err == nil {
		release = res.Release
	}
	if err != nil {
		return nil, nil, err
	}
	m = blockread.NewMemory(s.budget, res)
	m.OnLookUp(s.lookUp)
	return m, release, nil
}

// refused counts requests that did not fit the memory.
func (s *Store) refused(err error, tenant string) {
	var refusal *budget.Refusal
	if errors.As(err, &refusal) {
		s.metrics.dropped.WithLabelValues("memory", tenant).Inc()
	}
}

// stream reads all blocks at once and sends what they have, merged.
func (r *seriesRequest) stream(ctx context.Context, queries []*blockread.Query) error {
	m := &merger{onEnd: func(st *blockread.Stream) error {
		b := st.Block()
		return r.troubles.read(ctx, st.Err(), fmt.Sprintf("series of %s between %d and %d are incomplete", b.External, b.Meta.MinTime, b.Meta.MaxTime))
	}}
	// Streams that are cut off, by the limit or an error, have their say in the stats only after
	// they are closed.
	defer m.close()
	for i, q := range queries {
		m.streams = append(m.streams, r.blocks[i].Series(ctx, q))
	}
	if err := m.start(); err != nil {
		return err
	}
	r.found = time.Since(r.begin)
	sizes := r.s.metrics.chunkSizes.batch(r.tenant)
	defer sizes.flush()
	for !r.w.Full() {
		item, err := m.next()
		if err != nil || item == nil {
			return err
		}
		for i := range item.Chunks {
			sizes.add(&item.Chunks[i])
		}
		if err := r.s.send(ctx, r.turn, func() error { return r.w.Series(item.Labels, item.Chunks) }); err != nil {
			return err
		}
	}
	return nil
}

// sendHints tells what the answer cost, if the request asks for it. Peers that do not
// ask get no hints: none were ever sent to them.
func (r *seriesRequest) sendHints() error {
	if !r.hints.GetEnableQueryStats() {
		return nil
	}
	all := time.Since(r.begin)
	hints, err := pack("SeriesResponseHints", &hintspb.SeriesResponseHints{
		QueriedBlocks: queried(r.blocks),
		QueryStats:    queryStats(r.stats.Tally(), r.w.Stats(), r.found, all-r.found),
	})
	if err != nil {
		return err
	}
	return r.w.Hints(hints)
}
