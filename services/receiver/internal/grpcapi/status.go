package grpcapi

import (
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/index"
	"google.golang.org/grpc/metadata"

	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/services/receiver/internal/tenants"
)

// HeadOnly is a metadata key: a caller that sets it to true wants figures of heads only, which cost nothing. Other
// servers do not know it and send all.
const HeadOnly = "promontory-head-only"

const defaultStatistics = 10

type statusServer struct {
	thanos.UnimplementedStatusServer
	tenants *tenants.Multi
}

// TSDBStatistics sends figures of the matching tenants' databases.
func (s *statusServer) TSDBStatistics(req *thanos.TSDBStatisticsRequest, stream thanos.Status_TSDBStatisticsServer) error {
	ms, err := storeapi.Matchers(req.GetMatchers())
	if err != nil {
		return storeapi.ToStatus(err)
	}
	headOnly := false
	if md, ok := metadata.FromIncomingContext(stream.Context()); ok {
		v := md.Get(HeadOnly)
		headOnly = len(v) > 0 && v[0] == "true"
	}
	limit := int(req.GetLimit())
	if limit <= 0 {
		limit = defaultStatistics
	}
	all := map[string]*thanos.TSDBStatisticsEntry{}
	for _, t := range s.tenants.Tenants() {
		if want := req.GetTenant(); want != "" && want != t.Name() {
			continue
		}
		if _, ok := storeapi.MatchExternal(t.External(), ms); !ok {
			continue
		}
		err := t.Read(func(db *tsdb.DB) error {
			all[t.Name()] = statistics(db, limit, headOnly)
			return nil
		})
		if err == nil {
			continue
		}
		text, fatal := missing(t, req.GetPartialResponseStrategy(), err)
		if fatal != nil {
			return storeapi.ToStatus(fatal)
		}
		if err := stream.Send(&thanos.TSDBStatisticsResponse{Result: &thanos.TSDBStatisticsResponse_Warning{Warning: text}}); err != nil {
			return err
		}
	}
	if len(all) == 0 {
		return nil
	}
	return stream.Send(&thanos.TSDBStatisticsResponse{Result: &thanos.TSDBStatisticsResponse_Statistics{
		Statistics: &thanos.TSDBStatistics{Statistics: all},
	}})
}

func statistics(db *tsdb.DB, limit int, headOnly bool) *thanos.TSDBStatisticsEntry {
	h := db.Head()
	head := &thanos.HeadStatistics{NumSeries: h.NumSeries(), MinTime: h.MinTime(), MaxTime: h.MaxTime()}
	if headOnly {
		return &thanos.TSDBStatisticsEntry{HeadStatistics: head}
	}
	st := h.Stats(labels.MetricName, limit).IndexPostingStats
	head.NumLabelPairs = int64(st.NumLabelPairs)
	return &thanos.TSDBStatisticsEntry{
		HeadStatistics:              head,
		SeriesCountByMetricName:     statisticsOf(st.CardinalityMetricsStats),
		LabelValueCountByLabelName:  statisticsOf(st.CardinalityLabelStats),
		MemoryInBytesByLabelName:    statisticsOf(st.LabelValueStats),
		SeriesCountByLabelValuePair: statisticsOf(st.LabelValuePairsStats),
	}
}

func statisticsOf(list []index.Stat) []*thanos.Statistic {
	out := make([]*thanos.Statistic, len(list))
	for i, s := range list {
		out[i] = &thanos.Statistic{Name: s.Name, Value: s.Count}
	}
	return out
}
