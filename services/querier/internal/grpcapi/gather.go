package grpcapi

import (
	"fmt"

	"google.golang.org/grpc"

	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/services/querier/internal/gather"
)

// The servers below pass on what the peers said as it is: merging is for whoever shows it to a user, with
// the replica labels that hold there.

// send sends warnings, then items, each in a message of its own.
func send[M, I any](stream grpc.ServerStreamingServer[M], items []I, warnings []string, err error, warning func(string) *M, item func(I) *M) error {
	if err != nil {
		return storeapi.ToStatus(err)
	}
	for _, w := range warnings {
		if err := stream.Send(warning(w)); err != nil {
			return fmt.Errorf("send warning: %w", err)
		}
	}
	for _, i := range items {
		if err := stream.Send(item(i)); err != nil {
			return fmt.Errorf("send answer: %w", err)
		}
	}
	return nil
}

type rulesServer struct {
	thanos.UnimplementedRulesServer
	gatherer *gather.Gatherer
}

func (s *rulesServer) Rules(req *thanos.RulesRequest, stream grpc.ServerStreamingServer[thanos.RulesResponse]) error {
	items, warnings, err := s.gatherer.RuleGroups(stream.Context(), req)
	return send(stream, items, warnings, err,
		func(w string) *thanos.RulesResponse {
			return &thanos.RulesResponse{Result: &thanos.RulesResponse_Warning{Warning: w}}
		},
		func(g *thanos.RuleGroup) *thanos.RulesResponse {
			return &thanos.RulesResponse{Result: &thanos.RulesResponse_Group{Group: g}}
		})
}

type targetsServer struct {
	thanos.UnimplementedTargetsServer
	gatherer *gather.Gatherer
}

func (s *targetsServer) Targets(req *thanos.TargetsRequest, stream grpc.ServerStreamingServer[thanos.TargetsResponse]) error {
	items, warnings, err := s.gatherer.TargetDiscoveries(stream.Context(), req)
	return send(stream, items, warnings, err,
		func(w string) *thanos.TargetsResponse {
			return &thanos.TargetsResponse{Result: &thanos.TargetsResponse_Warning{Warning: w}}
		},
		func(t *thanos.TargetDiscovery) *thanos.TargetsResponse {
			return &thanos.TargetsResponse{Result: &thanos.TargetsResponse_Targets{Targets: t}}
		})
}

type metadataServer struct {
	thanos.UnimplementedMetadataServer
	gatherer *gather.Gatherer
}

func (s *metadataServer) MetricMetadata(req *thanos.MetricMetadataRequest, stream grpc.ServerStreamingServer[thanos.MetricMetadataResponse]) error {
	items, warnings, err := s.gatherer.MetadataAnswers(stream.Context(), req)
	return send(stream, items, warnings, err,
		func(w string) *thanos.MetricMetadataResponse {
			return &thanos.MetricMetadataResponse{Result: &thanos.MetricMetadataResponse_Warning{Warning: w}}
		},
		func(m *thanos.MetricMetadata) *thanos.MetricMetadataResponse {
			return &thanos.MetricMetadataResponse{Result: &thanos.MetricMetadataResponse_Metadata{Metadata: m}}
		})
}

type exemplarsServer struct {
	thanos.UnimplementedExemplarsServer
	gatherer *gather.Gatherer
}

func (s *exemplarsServer) Exemplars(req *thanos.ExemplarsRequest, stream grpc.ServerStreamingServer[thanos.ExemplarsResponse]) error {
	items, warnings, err := s.gatherer.ExemplarAnswers(stream.Context(), req)
	return send(stream, items, warnings, err,
		func(w string) *thanos.ExemplarsResponse {
			return &thanos.ExemplarsResponse{Result: &thanos.ExemplarsResponse_Warning{Warning: w}}
		},
		func(d *thanos.ExemplarData) *thanos.ExemplarsResponse {
			return &thanos.ExemplarsResponse{Result: &thanos.ExemplarsResponse_Data{Data: d}}
		})
}

type statusServer struct {
	thanos.UnimplementedStatusServer
	gatherer *gather.Gatherer
}

func (s *statusServer) TSDBStatistics(req *thanos.TSDBStatisticsRequest, stream grpc.ServerStreamingServer[thanos.TSDBStatisticsResponse]) error {
	items, warnings, err := s.gatherer.StatisticsAnswers(stream.Context(), req)
	return send(stream, items, warnings, err,
		func(w string) *thanos.TSDBStatisticsResponse {
			return &thanos.TSDBStatisticsResponse{Result: &thanos.TSDBStatisticsResponse_Warning{Warning: w}}
		},
		func(st *thanos.TSDBStatistics) *thanos.TSDBStatisticsResponse {
			return &thanos.TSDBStatisticsResponse{Result: &thanos.TSDBStatisticsResponse_Statistics{Statistics: st}}
		})
}
