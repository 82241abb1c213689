package gather

import (
	"cmp"
	"context"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	"google.golang.org/grpc"

	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/services/querier/internal/endpoints"
)

// TSDBStatistics asks all peers that have statistics, restricted to those whose labels the
// matchers of the request accept, and merges them by tenant.
func (g *Gatherer) TSDBStatistics(ctx context.Context, req *thanos.TSDBStatisticsRequest) (map[string]*thanos.TSDBStatisticsEntry, []string, error) {
	all, warnings, err := g.StatisticsAnswers(ctx, req)
	if err != nil {
		return nil, nil, err
	}
	out := map[string]*thanos.TSDBStatisticsEntry{}
	for _, st := range all {
		for tenant, entry := range st.GetStatistics() {
			if entry == nil {
				continue
			}
			out[tenant] = SumStatistics(req.GetLimit(), out[tenant], entry)
		}
	}
	return out, warnings, nil
}

// StatisticsAnswers returns the answers of the peers as they are. An unparsable matcher is an
// ErrInvalid.
func (g *Gatherer) StatisticsAnswers(ctx context.Context, req *thanos.TSDBStatisticsRequest) ([]*thanos.TSDBStatistics, []string, error) {
	ms, err := storeapi.Matchers(req.GetMatchers())
	if err != nil {
		return nil, nil, err
	}
	messages, warnings, err := ask(ctx, g, inquiry[thanos.TSDBStatisticsResponse]{
		what:     "TSDB statistics",
		strategy: req.GetPartialResponseStrategy(),
		offers:   func(e *endpoints.Endpoint) bool { return e.Status && anySetMatches(e.LabelSets, ms) },
		open: func(ctx context.Context, e *endpoints.Endpoint) (grpc.ServerStreamingClient[thanos.TSDBStatisticsResponse], error) {
			return thanos.NewStatusClient(e.Conn).TSDBStatistics(ctx, req)
		},
		warning: (*thanos.TSDBStatisticsResponse).GetWarning,
	})
	if err != nil {
		return nil, nil, err
	}
	var out []*thanos.TSDBStatistics
	for _, m := range messages {
		if st := m.GetStatistics(); st != nil {
			out = append(out, st)
		}
	}
	return out, warnings, nil
}

// anySetMatches reports whether a set has no label that the matchers reject; a peer without sets
// always matches.
func anySetMatches(sets []labels.Labels, ms []*labels.Matcher) bool {
	if len(sets) == 0 {
		return true
	}
	return slices.ContainsFunc(sets, func(set labels.Labels) bool {
		_, ok := storeapi.MatchExternal(set, ms)
		return ok
	})
}

// SumStatistics adds entries up, without changing them: figures are summed, times are widened, and of the
// numbers of label values the highest counts because databases share most of them. Lists are sorted by
// falling figure and cut to limit where it is positive. Nil entries count as nothing.
func SumStatistics(limit int32, entries ...*thanos.TSDBStatisticsEntry) *thanos.TSDBStatisticsEntry {
	out := &thanos.TSDBStatisticsEntry{}
	sum := func(a, b uint64) uint64 { return a + b }
	highest := func(a, b uint64) uint64 { return max(a, b) }
	for _, e := range entries {
		if e == nil {
			continue
		}
		out.HeadStatistics = addHead(out.HeadStatistics, e.GetHeadStatistics())
		out.SeriesCountByMetricName = addList(out.SeriesCountByMetricName, e.GetSeriesCountByMetricName(), sum)
		out.LabelValueCountByLabelName = addList(out.LabelValueCountByLabelName, e.GetLabelValueCountByLabelName(), highest)
		out.MemoryInBytesByLabelName = addList(out.MemoryInBytesByLabelName, e.GetMemoryInBytesByLabelName(), sum)
		out.SeriesCountByLabelValuePair = addList(out.SeriesCountByLabelValuePair, e.GetSeriesCountByLabelValuePair(), sum)
	}
	out.SeriesCountByMetricName = top(out.SeriesCountByMetricName, limit)
	out.LabelValueCountByLabelName = top(out.LabelValueCountByLabelName, limit)
	out.MemoryInBytesByLabelName = top(out.MemoryInBytesByLabelName, limit)
	out.SeriesCountByLabelValuePair = top(out.SeriesCountByLabelValuePair, limit)
	return out
}

func addHead(a, b *thanos.HeadStatistics) *thanos.HeadStatistics {
	switch {
	case b == nil:
		return a
	case a == nil:
		return b.CloneVT()
	}
	a.NumSeries += b.GetNumSeries()
	a.NumLabelPairs += b.GetNumLabelPairs()
	a.ChunkCount += b.GetChunkCount()
	a.MinTime = min(a.MinTime, b.GetMinTime())
	a.MaxTime = max(a.MaxTime, b.GetMaxTime())
	return a
}

func addList(a, b []*thanos.Statistic, add func(x, y uint64) uint64) []*thanos.Statistic {
	at := make(map[string]*thanos.Statistic, len(a)+len(b))
	for _, s := range a {
		at[s.GetName()] = s
	}
	for _, s := range b {
		if have := at[s.GetName()]; have != nil {
			have.Value = add(have.Value, s.GetValue())
			continue
		}
		s = s.CloneVT()
		at[s.GetName()] = s
		a = append(a, s)
	}
	return a
}

func top(list []*thanos.Statistic, limit int32) []*thanos.Statistic {
	slices.SortStableFunc(list, func(a, b *thanos.Statistic) int {
		return cmp.Or(-cmp.Compare(a.GetValue(), b.GetValue()), cmp.Compare(a.GetName(), b.GetName()))
	})
	if limit > 0 && len(list) > int(limit) {
		list = list[:limit]
	}
	return list
}
