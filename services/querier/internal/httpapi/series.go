package httpapi

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/promontory-io/promontory/libs/promapi"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/services/querier/internal/active"
	"github.com/promontory-io/promontory/services/querier/internal/selects"
)

// truncated is the warning of an answer that a limit cut.
const truncated = "results truncated due to limit"

// hintSeries is what stands for a function in the hints of a select that wants labels only.
const hintSeries = "series"

// open returns the querier for the range of q. It is closed after the answer.
func (a *API) open(r *request, q *promapi.MetadataQuery, opts selects.Options) (storage.Querier, error) {
	if r.enforce != nil {
		q.Matchers = r.enforce.MatcherSets(q.Matchers)
	}
	for _, ms := range q.Matchers {
		if err := a.cfg.Deny.Matchers(ms); err != nil {
			return nil, promapi.NewError(promapi.ErrorBadData, err)
		}
	}
	querier, err := a.deps.Storage.Queryable(opts).Querier(promapi.Millis(q.Start), promapi.Millis(q.End))
	if err != nil {
		return nil, fmt.Errorf("open storage: %w", err)
	}
	r.after(func() { _ = querier.Close() }) // the answer is out: nobody is left to tell
	return querier, nil
}

func (a *API) series(ctx context.Context, r *request) (promapi.Data, promapi.Notes, error) {
	q, err := r.SeriesQuery(a.cfg.Defaults, r.now)
	if err != nil {
		return nil, promapi.Notes{}, err
	}
	ctx, err = a.begin(ctx, r, active.Info{Kind: "series", Text: strings.Join(r.Values["match[]"], ", "), Start: q.Start, End: q.End})
	if err != nil {
		return nil, promapi.Notes{}, err
	}
	r.active.Run()
	opts := a.selection(r, &q.Selection)
	opts.SkipChunks = true
	querier, err := a.open(r, q, opts)
	if err != nil {
		return nil, promapi.Notes{}, err
	}
	hints := &storage.SelectHints{
		Start: promapi.Millis(q.Start), End: promapi.Millis(q.End), Func: hintSeries, Limit: oneMore(q.Limit),
	}
	sets := make([]storage.SeriesSet, len(q.Matchers))
	for i, ms := range q.Matchers {
		sets[i] = querier.Select(ctx, true, hints, ms...)
	}
	set := sets[0]
	if len(sets) > 1 {
		set = storage.NewMergeSeriesSet(sets, 0, storage.ChainedSeriesMerge)
	}
	out, cut := promapi.LabelSets{}, false
	for set.Next() {
		if q.Limit > 0 && len(out) == q.Limit {
			// Of each select no more than one series is left to read, and only at the end are its warnings known.
			cut = true
			continue
		}
		out = append(out, set.At().Labels())
	}
	if err := set.Err(); err != nil {
		return nil, promapi.Notes{}, cancelled(ctx, err)
	}
	return out, limitNotes(set.Warnings(), cut), nil
}

func (a *API) labelNames(ctx context.Context, r *request) (promapi.Data, promapi.Notes, error) {
	return a.labels(ctx, r, storage.Querier.LabelNames)
}

func (a *API) labelValues(ctx context.Context, r *request) (promapi.Data, promapi.Notes, error) {
	name, err := promapi.ParseLabelName(r.http.PathValue("name"))
	if err != nil {
		return nil, promapi.Notes{}, err
	}
	return a.labels(ctx, r, func(q storage.Querier, ctx context.Context, hints *storage.LabelHints, ms ...*labels.Matcher) ([]string, annotations.Annotations, error) {
		return q.LabelValues(ctx, name, hints, ms...)
	})
}

type labelCall func(q storage.Querier, ctx context.Context, hints *storage.LabelHints, ms ...*labels.Matcher) ([]string, annotations.Annotations, error)

// labels puts a label call to the storage, for each selector of match[], or once without.
func (a *API) labels(ctx context.Context, r *request, call labelCall) (promapi.Data, promapi.Notes, error) {
	q, err := r.LabelsQuery(a.cfg.Defaults, r.now)
	if err != nil {
		return nil, promapi.Notes{}, err
	}
	querier, err := a.open(r, q, a.selection(r, &q.Selection))
	if err != nil {
		return nil, promapi.Notes{}, err
	}
	sets := q.Matchers
	if len(sets) == 0 {
		sets = [][]*labels.Matcher{nil}
	}
	hints := &storage.LabelHints{Limit: oneMore(q.Limit)}
	var annos annotations.Annotations
	lists := make([][]string, 0, len(sets))
	for _, ms := range sets {
		found, warnings, err := call(querier, ctx, hints, ms...)
		if err != nil {
			return nil, promapi.Notes{}, err
		}
		annos.Merge(warnings)
		lists = append(lists, found)
	}
	out := storeapi.Union(lists...)
	cut := q.Limit > 0 && len(out) > q.Limit
	if cut {
		out = out[:q.Limit]
	}
	return promapi.Strings(out), limitNotes(annos, cut), nil
}

// oneMore is the limit to ask for to see whether there is more than was asked for.
func oneMore(limit int) int {
	if limit <= 0 {
		return 0
	}
	return limit + 1
}

func limitNotes(annos annotations.Annotations, cut bool) promapi.Notes {
	if cut {
		annos.Add(errors.New(truncated))
	}
	return promapi.NotesFrom(annos, "").Flat()
}
