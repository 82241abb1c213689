package frontend

import (
	"context"
	"strconv"

	"golang.org/x/sync/errgroup"

	"github.com/promontory-io/promontory/services/querier/internal/frontend/answer"
	"github.com/promontory-io/promontory/services/querier/internal/frontend/plan"
)

// query answers an instant query, shard by shard where that is possible.
func (f *Frontend) query(ctx context.Context, c *call) (*outcome, error) {
	q, err := c.form.InstantQuery(f.cfg.Defaults, c.begin)
	if err != nil {
		return nil, err
	}
	c.start, c.end, c.statsAsked = q.Time, q.Time, q.Stats != ""
	// All shards, and all tries, are about the same time.
	pairs := []string{"time", seconds(q.Time.UnixMilli())}
	if f.cfg.SetPartial {
		pairs = append(pairs, "partial_response", strconv.FormatBool(q.PartialResponse))
	}
	if f.cfg.ForceStats && !c.statsAsked {
		pairs = append(pairs, "stats", "true")
	}
	expr, err := f.deps.Parse(q.Query)
	if err != nil || whole(&q.QueryOptions, c.form) {
		return f.verbatim(ctx, f.instant, c, c.with(pairs...))
	}
	infos := f.shards(expr, opInstant)
	if len(infos) == 1 && !f.cfg.ForceStats {
		return f.verbatim(ctx, f.instant, c, c.with(pairs...))
	}
	pieces := make([]*piece, len(infos))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(max(f.cfg.Range.Parallelism, 1))
	for i, info := range infos {
		form := c.with(pairs...)
		if info != "" {
			form.Set("shard_info", info)
		}
		g.Go(func() (err error) {
			pieces[i], err = f.fetch(ctx, f.instant, c, form)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	out := &outcome{parts: len(pieces)}
	shards := make([]*answer.Answer, len(pieces))
	for i, p := range pieces {
		shards[i] = p.answer
		out.noStore = out.noStore || p.noStore
	}
	out.answer, err = answer.Union(shards, plan.Ordered(expr))
	return out, err
}
