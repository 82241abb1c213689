package grpcapi

import (
	"slices"
	"time"

	"google.golang.org/grpc"

	"github.com/promontory-io/promontory/libs/promapi/promclient"
	"github.com/promontory-io/promontory/libs/promapi/promtypes"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/thanos"
)

type metadataServer struct {
	thanos.UnimplementedMetadataServer
	*peer
}

// MetricMetadata sends all metadata in one frame.
func (s *metadataServer) MetricMetadata(req *thanos.MetricMetadataRequest, stream grpc.ServerStreamingServer[thanos.MetricMetadataResponse]) error {
	if _, err := s.state(); err != nil {
		return err
	}
	var found promtypes.Metadata
	if req.GetLimit() != 0 { // 0 wants nothing, which to Prometheus would be everything
		var err error
		if found, err = s.client.Metadata(stream.Context(), req.GetMetric(), int(req.GetLimit())); err != nil {
			return status(err)
		}
	}
	out := &thanos.MetricMetadata{Metadata: make(map[string]*thanos.MetricMetadataEntry, len(found))}
	for name, metas := range found {
		entry := &thanos.MetricMetadataEntry{}
		for _, m := range metas {
			entry.Metas = append(entry.Metas, &thanos.Meta{Type: m.Type, Help: m.Help, Unit: m.Unit})
		}
		out.Metadata[name] = entry
	}
	return stream.Send(&thanos.MetricMetadataResponse{Result: &thanos.MetricMetadataResponse_Metadata{Metadata: out}})
}

type exemplarsServer struct {
	thanos.UnimplementedExemplarsServer
	*peer
}

// Exemplars sends one frame per series.
func (s *exemplarsServer) Exemplars(req *thanos.ExemplarsRequest, stream grpc.ServerStreamingServer[thanos.ExemplarsResponse]) error {
	state, err := s.state()
	if err != nil {
		return err
	}
	span := promclient.Span{Start: time.UnixMilli(req.GetStart()), End: time.UnixMilli(req.GetEnd())}
	found, err := s.client.Exemplars(stream.Context(), req.GetQuery(), span)
	if err != nil {
		return status(err)
	}
	ext := storeapi.NewExtender(state.External, nil)
	for _, series := range found {
		data := &thanos.ExemplarData{SeriesLabels: storeapi.LabelSet(ext.Extend(series.SeriesLabels))}
		for _, x := range series.Exemplars {
			data.Exemplars = append(data.Exemplars, &thanos.Exemplar{Labels: storeapi.LabelSet(x.Labels), Value: x.Value, Ts: x.Timestamp})
		}
		if err := stream.Send(&thanos.ExemplarsResponse{Result: &thanos.ExemplarsResponse_Data{Data: data}}); err != nil {
			return err
		}
	}
	return nil
}

type statusServer struct {
	thanos.UnimplementedStatusServer
	*peer
}

// TSDBStatistics sends the figures of the head under the empty tenant; nothing when the matchers
// reject the external labels.
func (s *statusServer) TSDBStatistics(req *thanos.TSDBStatisticsRequest, stream grpc.ServerStreamingServer[thanos.TSDBStatisticsResponse]) error {
	state, err := s.state()
	if err != nil {
		return err
	}
	ms, err := storeapi.Matchers(req.GetMatchers())
	if err != nil {
		return storeapi.ToStatus(err)
	}
	for _, m := range ms {
		if !m.Matches(state.External.Get(m.Name)) {
			return nil
		}
	}
	found, err := s.client.TSDBStatus(stream.Context(), int(req.GetLimit()))
	if err != nil {
		return status(err)
	}
	return stream.Send(&thanos.TSDBStatisticsResponse{Result: &thanos.TSDBStatisticsResponse_Statistics{
		Statistics: &thanos.TSDBStatistics{Statistics: map[string]*thanos.TSDBStatisticsEntry{"": wireStatistics(&found)}},
	}})
}

func wireStatistics(in *promtypes.TSDBStatus) *thanos.TSDBStatisticsEntry {
	list := func(in []promtypes.Statistic) (out []*thanos.Statistic) {
		out = slices.Grow(out, len(in))
		for _, st := range in {
			out = append(out, &thanos.Statistic{Name: st.Name, Value: st.Value})
		}
		return out
	}
	return &thanos.TSDBStatisticsEntry{
		HeadStatistics: &thanos.HeadStatistics{
			NumSeries: in.HeadStats.NumSeries, NumLabelPairs: int64(in.HeadStats.NumLabelPairs), ChunkCount: in.HeadStats.ChunkCount,
			MinTime: in.HeadStats.MinTime, MaxTime: in.HeadStats.MaxTime,
		},
		SeriesCountByMetricName:     list(in.SeriesCountByMetricName),
		LabelValueCountByLabelName:  list(in.LabelValueCountByLabelName),
		MemoryInBytesByLabelName:    list(in.MemoryInBytesByLabelName),
		SeriesCountByLabelValuePair: list(in.SeriesCountByLabelValuePair),
	}
}
