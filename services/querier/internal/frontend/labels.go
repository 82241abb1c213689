package frontend

import (
	"context"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/promontory-io/promontory/libs/promapi"
	"github.com/promontory-io/promontory/services/querier/internal/frontend/answer"
	"github.com/promontory-io/promontory/services/querier/internal/frontend/plan"
	"github.com/promontory-io/promontory/services/querier/internal/frontend/results"
)

// labelGrid is to what the ends of a call are rounded, outward, where answers are kept: a page that asks for "the last day" every
// few seconds then asks for the same day for a while. It may get labels of as much more time.
const labelGrid = 5 * time.Minute

// truncated is the warning of a list that a limit cut, as the querier has it.
const truncated = "results truncated due to limit"

// labelCall answers a call for label names, label values or series, interval by interval.
func (f *Frontend) labelCall(ctx context.Context, c *call) (*outcome, error) {
	defaults := f.cfg.Defaults
	defaults.PartialResponse = f.cfg.Labels.PartialResponse || !f.cfg.SetPartial && defaults.PartialResponse
	if f.cfg.Labels.DefaultRange > 0 {
		defaults.MetadataRange = f.cfg.Labels.DefaultRange
	}
	read := c.form.LabelsQuery
	if c.op == opSeries {
		read = c.form.SeriesQuery
	}
	q, err := read(defaults, c.begin)
	if err != nil {
		return nil, err
	}
	c.start, c.end = q.Start, q.End
	var pairs []string
	if f.cfg.SetPartial {
		pairs = append(pairs, "partial_response", strconv.FormatBool(q.PartialResponse))
	}
	cached := f.deps.LabelsCache != nil && q.Dedup && len(q.StoreMatchers) == 0 && !noStore(c.http.Header)
	cuts, bounded := f.windows(c, q, cached)
	if !bounded {
		return f.verbatim(ctx, f.labels, c, c.with(pairs...))
	}
	f.metrics.split.WithLabelValues("labels").Add(float64(len(cuts)))
	if len(cuts) == 1 && !cached {
		return f.verbatim(ctx, f.labels, c, c.with(append(pairs, "start", seconds(cuts[0].Start), "end", seconds(cuts[0].End))...))
	}

	lists := make([]*answer.Answer, len(cuts))
	keys := make([]string, len(cuts))
	out := &outcome{parts: len(cuts)}
	if cached {
		for i, cut := range cuts {
			keys[i] = f.labelsKey(c, q, cut)
		}
		for i, entry := range f.deps.LabelsCache.Get(ctx, keys) {
			if len(entry) == 1 {
				lists[i] = entry[0].Answer
				out.hits++
			}
		}
	}
	incomplete := make([]bool, len(cuts))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(max(f.cfg.Labels.Parallelism, 1))
	for i, cut := range cuts {
		if lists[i] != nil {
			continue
		}
		g.Go(func() error {
			form := c.with(append(slices.Clone(pairs), "start", seconds(cut.Start), "end", seconds(cut.End))...)
			got, err := f.fetch(gctx, f.labels, c, form)
			if err != nil {
				return err
			}
			lists[i] = got.answer
			cutShort := slices.Equal(got.answer.Warnings, []string{truncated})
			incomplete[i] = got.noStore && !cutShort
			if cached && !got.noStore && cut.End <= c.begin.Add(-f.cfg.Labels.MaxFreshness).UnixMilli() {
				f.deps.LabelsCache.Put(keys[i], results.Entry{{Start: cut.Start, End: cut.End, Answer: got.answer}})
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var over bool
	if out.answer, over, err = answer.Lists(lists, q.Limit); err != nil {
		return nil, err
	}
	if over {
		out.answer.Warnings = answer.AddNotes(out.answer.Warnings, []string{truncated})
	}
	out.noStore = slices.Contains(incomplete, true) || slices.Contains(out.answer.Warnings, truncated)
	return out, nil
}

// windows cuts the range of a call. bounded is false where it has an open end, of which there is no half.
func (f *Frontend) windows(c *call, q *promapi.MetadataQuery, cached bool) (cuts []plan.Range, bounded bool) {
	if !q.Start.After(promapi.MinTime) || !q.End.Before(promapi.MaxTime) {
		return nil, false
	}
	start, end := q.Start.UnixMilli(), q.End.UnixMilli()
	interval := f.cfg.Labels.Interval.Milliseconds()
	if interval > 0 && (end-start)/interval > maxWindows {
		return nil, false
	}
	grid, fresh := int64(0), c.begin.Add(-f.cfg.Labels.MaxFreshness).UnixMilli()
	if cached {
		grid = labelGrid.Milliseconds()
	}
	return plan.Window(start, end, interval, grid, fresh), true
}

// maxWindows is into how many parts a call is cut at most; what is longer goes in one.
const maxWindows = 1000

// labelsKey is what has to be equal for one list to serve for another.
func (f *Frontend) labelsKey(c *call, q *promapi.MetadataQuery, cut plan.Range) string {
	return f.key(c, c.op, c.http.URL.Path, sorted(c.form.Values["match[]"]),
		strconv.FormatInt(cut.Start, 10), strconv.FormatInt(cut.End, 10), strconv.Itoa(q.Limit),
		strconv.FormatBool(q.Dedup), strconv.FormatBool(q.PartialResponse), sorted(q.ReplicaLabels), sorted(c.form.Values["storeMatch[]"]))
}
