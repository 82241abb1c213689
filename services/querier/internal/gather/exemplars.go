package gather

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"google.golang.org/grpc"

	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/services/querier/internal/endpoints"
)

// Exemplars is ExemplarAnswers with replica labels removed and the exemplars of equal series
// merged: equal ones appear once, sorted by time; series are sorted by labels. The caller owns
// the result.
func (g *Gatherer) Exemplars(ctx context.Context, req *thanos.ExemplarsRequest) ([]*thanos.ExemplarData, []string, error) {
	all, warnings, err := g.ExemplarAnswers(ctx, req)
	if err != nil {
		return nil, nil, err
	}
	return mergeExemplars(all, g.cfg.ReplicaLabels), warnings, nil
}

// ExemplarAnswers asks each peer that has exemplars for the range of the request, by the
// selectors of its query alone and without the matchers that the peer's external labels decide. A peer whose
// labels or time range exclude an answer is not asked. A query that does not parse, or that selects by external labels
// alone, is an ErrInvalid.
func (g *Gatherer) ExemplarAnswers(ctx context.Context, req *thanos.ExemplarsRequest) ([]*thanos.ExemplarData, []string, error) {
	expr, err := parser.ParseExpr(req.GetQuery())
	if err != nil {
		return nil, nil, storeapi.Invalidf("%v", err)
	}
	if err := storeapi.CheckRange(req.GetStart(), req.GetEnd()); err != nil {
		return nil, nil, err
	}
	selectors := withoutOwn(parser.ExtractSelectors(expr), g.cfg.SelectorLabels)
	queries, err := g.exemplarQueries(req, selectors)
	if err != nil {
		return nil, nil, err
	}
	messages, warnings, err := ask(ctx, g, inquiry[thanos.ExemplarsResponse]{
		what:     "exemplars",
		strategy: req.GetPartialResponseStrategy(),
		offers:   func(e *endpoints.Endpoint) bool { return e.Exemplars != nil && queries[e.Addr] != "" },
		open: func(ctx context.Context, e *endpoints.Endpoint) (grpc.ServerStreamingClient[thanos.ExemplarsResponse], error) {
			r := req.CloneVT()
			r.Query = queries[e.Addr]
			return thanos.NewExemplarsClient(e.Conn).Exemplars(ctx, r)
		},
		warning: (*thanos.ExemplarsResponse).GetWarning,
		mint:    req.GetStart(), maxt: req.GetEnd(),
	})
	if err != nil {
		return nil, nil, err
	}
	var out []*thanos.ExemplarData
	for _, m := range messages {
		if d := m.GetData(); d != nil {
			out = append(out, d)
		}
	}
	return out, warnings, nil
}

// withoutOwn evaluates the matchers on the querier's own labels; selectors they reject are dropped.
func withoutOwn(selectors [][]*labels.Matcher, own labels.Labels) [][]*labels.Matcher {
	var out [][]*labels.Matcher
	for _, ms := range selectors {
		if rest, ok := storeapi.MatchExternal(own, ms); ok {
			out = append(out, rest)
		}
	}
	return out
}

// exemplarQueries returns the query for each peer by address; a peer without one is not asked.
func (g *Gatherer) exemplarQueries(req *thanos.ExemplarsRequest, selectors [][]*labels.Matcher) (map[string]string, error) {
	out := map[string]string{}
	for _, e := range g.source.Endpoints() {
		if e.Exemplars == nil || !e.Exemplars.Overlaps(req.GetStart(), req.GetEnd()) {
			continue
		}
		query, matched := exemplarQuery(&e, selectors)
		if !matched {
			continue
		}
		if query == "" {
			return nil, storeapi.Invalidf("no matchers left besides those on external labels of %s in %q", e.Addr, req.GetQuery())
		}
		out[e.Addr] = query
	}
	return out, nil
}

// exemplarQuery is the query for one peer. False means that its labels match no selector; an empty query that
// nothing but external labels was selected.
func exemplarQuery(e *endpoints.Endpoint, selectors [][]*labels.Matcher) (string, bool) {
	var parts []string
	matched := false
	for _, ms := range selectors {
		if !anySetMatches(e.LabelSets, ms) {
			continue
		}
		matched = true
		// A querier decides by label set itself which of its peers a matcher concerns.
		if e.ComponentType != endpoints.ComponentQuery {
			ms = slices.DeleteFunc(slices.Clone(ms), func(m *labels.Matcher) bool {
				return slices.ContainsFunc(e.LabelSets, func(set labels.Labels) bool { return set.Has(m.Name) })
			})
		}
		if len(ms) == 0 {
			continue
		}
		if text := selector(ms); !slices.Contains(parts, text) {
			parts = append(parts, text)
		}
	}
	return strings.Join(parts, "+"), matched
}

func selector(ms []*labels.Matcher) string {
	texts := make([]string, len(ms))
	for i, m := range ms {
		texts[i] = m.String()
	}
	return "{" + strings.Join(texts, ", ") + "}"
}

func mergeExemplars(all []*thanos.ExemplarData, replicaLabels []string) []*thanos.ExemplarData {
	for _, d := range all {
		d.SeriesLabels = without(d.SeriesLabels, replicaLabels)
	}
	slices.SortStableFunc(all, func(a, b *thanos.ExemplarData) int { return compareSets(a.GetSeriesLabels(), b.GetSeriesLabels()) })
	var out []*thanos.ExemplarData
	for _, d := range all {
		if n := len(out); n > 0 && compareSets(out[n-1].GetSeriesLabels(), d.GetSeriesLabels()) == 0 {
			out[n-1].Exemplars = append(out[n-1].Exemplars, d.GetExemplars()...)
			continue
		}
		out = append(out, d)
	}
	for _, d := range out {
		same := func(a, b *thanos.Exemplar) int {
			return cmp.Or(cmp.Compare(a.GetTs(), b.GetTs()), cmp.Compare(a.GetValue(), b.GetValue()), compareSets(a.GetLabels(), b.GetLabels()))
		}
		slices.SortStableFunc(d.Exemplars, same)
		d.Exemplars = slices.CompactFunc(d.Exemplars, func(a, b *thanos.Exemplar) bool { return same(a, b) == 0 })
	}
	return out
}
