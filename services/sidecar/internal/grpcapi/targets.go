package grpcapi

import (
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/promontory-io/promontory/libs/promapi/promtypes"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/thanos"
)

type targetsServer struct {
	thanos.UnimplementedTargetsServer
	*peer
}

// Targets sends all targets in one frame.
func (s *targetsServer) Targets(req *thanos.TargetsRequest, stream grpc.ServerStreamingServer[thanos.TargetsResponse]) error {
	state, err := s.state()
	if err != nil {
		return err
	}
	name, ok := thanos.TargetsRequest_State_name[int32(req.GetState())]
	if !ok {
		return storeapi.ToStatus(storeapi.Invalidf("unknown state of targets %d", req.GetState()))
	}
	targets, err := s.client.Targets(stream.Context(), strings.ToLower(name))
	if err != nil {
		return status(err)
	}
	return stream.Send(&thanos.TargetsResponse{Result: &thanos.TargetsResponse_Targets{
		Targets: wireTargets(targets, storeapi.NewExtender(state.External, nil)),
	}})
}

func wireTargets(in promtypes.Targets, ext *storeapi.Extender) *thanos.TargetDiscovery {
	out := &thanos.TargetDiscovery{}
	for i := range in.ActiveTargets {
		t := &in.ActiveTargets[i]
		out.ActiveTargets = append(out.ActiveTargets, &thanos.ActiveTarget{
			DiscoveredLabels: storeapi.LabelSet(ext.Extend(t.DiscoveredLabels)), Labels: storeapi.LabelSet(ext.Extend(t.Labels)),
			ScrapePool: t.ScrapePool, ScrapeUrl: t.ScrapeURL, GlobalUrl: t.GlobalURL, LastError: t.LastError,
			LastScrape: timestamppb.New(t.LastScrape), LastScrapeDuration: t.LastScrapeDuration, Health: targetHealth(t.Health),
		})
	}
	for _, t := range in.DroppedTargets {
		out.DroppedTargets = append(out.DroppedTargets, &thanos.DroppedTarget{
			DiscoveredLabels: storeapi.LabelSet(ext.Extend(t.DiscoveredLabels)),
		})
	}
	return out
}

// targetHealth takes what it does not know for unknown, which is not the zero value.
func targetHealth(s string) thanos.ActiveTarget_Health {
	if h, ok := thanos.ActiveTarget_Health_value[strings.ToUpper(s)]; ok {
		return thanos.ActiveTarget_Health(h)
	}
	return thanos.ActiveTarget_UNKNOWN
}
