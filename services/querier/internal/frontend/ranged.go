package frontend

import (
	"context"
	"strconv"
	"time"

	"github.com/prometheus/prometheus/promql/parser"

	"github.com/promontory-io/promontory/libs/promapi"
	"github.com/promontory-io/promontory/services/querier/internal/frontend/answer"
	"github.com/promontory-io/promontory/services/querier/internal/frontend/plan"
)

// ranges is a range query that can be taken apart.
type ranges struct {
	*call
	query *promapi.RangeQuery
	// text is the expression, with the ends of the range put in for start() and end().
	text string
	// resolution is that of the query, or the coarser one that is asked for in its place where coarser is set.
	resolution time.Duration
	coarser    bool
	interval   int64
	shards     []string
	// cached tells that parts may be kept and taken, fresh up to when.
	cached bool
	fresh  int64
}

// whole are parameters whose answers cannot be put together from parts.
func whole(q *promapi.QueryOptions, form promapi.Form) bool {
	receipt, err := form.Bool("receipt", false)
	return q.Analyze || q.Stats == "all" || q.Shard != nil || receipt || err != nil
}

func (f *Frontend) queryRange(ctx context.Context, c *call) (*outcome, error) {
	q, err := c.form.RangeQuery(f.cfg.Defaults)
	if err != nil {
		return nil, err
	}
	c.start, c.end, c.statsAsked = q.Start, q.End, q.Stats != ""
	if limit := f.cfg.Range.MaxLength; limit > 0 && q.End.Sub(q.Start) > limit {
		return nil, promapi.BadData("the query time range exceeds the limit (query length: %s, limit: %s)", q.End.Sub(q.Start), limit)
	}
	r := plan.Range{Start: q.Start.UnixMilli(), End: q.End.UnixMilli(), Step: q.Step.Milliseconds()}
	if f.cfg.Range.Align {
		r = r.Align()
	}
	x := &ranges{call: c, query: q, text: q.Query, resolution: q.MaxSourceResolution, interval: f.cfg.Range.Intervals.For(r)}
	expr, err := f.deps.Parse(q.Query)
	if err != nil || whole(&q.QueryOptions, c.form) {
		// Where the expression is wrong the querier says so.
		return f.verbatim(ctx, f.ranged, c, f.rangeForm(x, r, ""))
	}
	if plan.Pin(expr, r) {
		x.text = expr.String()
	}
	x.shards = f.shards(expr, opRange)
	x.fresh = c.begin.Add(-f.cfg.Range.MaxFreshness).UnixMilli()
	x.cached = f.deps.RangeCache != nil && q.Dedup && len(q.StoreMatchers) == 0 &&
		!noStore(c.http.Header) && plan.Cacheable(expr, x.fresh)

	out, err := f.evaluate(ctx, x, r)
	if err != nil || out.answer == nil || !f.cfg.Range.Downsampled || !q.AutoResolution {
		return out, err
	}
	return f.coarser(ctx, x, r, out)
}

// coarserResolutions are those that data are downsampled to.
func coarserResolutions() []time.Duration { return []time.Duration{5 * time.Minute, time.Hour} }

// coarser asks for the beginning of an answer where it is missing: there may be only downsampled data, coarser than the step allows.
func (f *Frontend) coarser(ctx context.Context, x *ranges, r plan.Range, out *outcome) (*outcome, error) {
	for _, resolution := range coarserResolutions() {
		if resolution <= x.query.MaxSourceResolution {
			continue
		}
		first, any, err := out.answer.First()
		if err != nil {
			return nil, err
		}
		missing := r
		if any {
			missing.End = first - r.Step
		}
		if missing.End < missing.Start {
			break
		}
		f.metrics.extra.Inc()
		again := *x
		again.resolution, again.coarser = resolution, true
		more, err := f.evaluate(ctx, &again, missing)
		if err != nil {
			return nil, err
		}
		parts := []*answer.Answer{more.answer}
		if any {
			parts = append(parts, out.answer)
		}
		joined, err := answer.Join(parts)
		if err != nil {
			return nil, err
		}
		out = &outcome{answer: joined, noStore: out.noStore || more.noStore, hits: out.hits + more.hits, parts: out.parts + more.parts}
	}
	return out, nil
}

// rangeForm returns the parameters of a query over r for one shard; empty is all series.
func (f *Frontend) rangeForm(x *ranges, r plan.Range, shard string) map[string][]string {
	pairs := []string{"query", x.text, "start", seconds(r.Start), "end", seconds(r.End), "step", stepText(x.form, r.Step)}
	if shard != "" {
		pairs = append(pairs, "shard_info", shard)
	}
	if x.coarser {
		pairs = append(pairs, "max_source_resolution", strconv.FormatInt(int64(x.resolution/time.Second), 10))
	}
	if f.cfg.SetPartial {
		pairs = append(pairs, "partial_response", strconv.FormatBool(x.query.PartialResponse))
	}
	if f.cfg.ForceStats && !x.statsAsked {
		pairs = append(pairs, "stats", "true")
	}
	return x.with(pairs...)
}

// seconds writes a time as the API reads it, to the millisecond.
func seconds(ms int64) string { return string(promapi.AppendTimestamp(nil, ms)) }

// stepText is the step in the client's words, so that it is read as the client's is.
func stepText(form promapi.Form, ms int64) string {
	if text := form.Get("step"); text != "" {
		return text
	}
	return strconv.FormatInt(ms, 10) + "ms"
}

// shards returns the values of shard_info into which a query can be divided, or one empty text.
func (f *Frontend) shards(expr parser.Expr, op string) []string {
	if f.cfg.VerticalShards < 2 {
		return []string{""}
	}
	how, ok := plan.Shard(expr)
	ok = ok && expr.Type() == parser.ValueTypeVector
	f.metrics.sharded.WithLabelValues(strconv.FormatBool(ok), op).Inc()
	if !ok {
		return []string{""}
	}
	return how.Infos(f.cfg.VerticalShards)
}
