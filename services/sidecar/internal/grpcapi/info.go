package grpcapi

import (
	"context"
	"errors"
	"math"

	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/proto/gen/thanos/info"
)

// componentType is how peers know a sidecar.
const componentType = "sidecar"

// errNotReady is what peers are told while Prometheus does not answer.
var errNotReady = errors.New("Not ready") // the text that peers know

type infoServer struct {
	info.UnimplementedInfoServer
	deps Deps
}

// Info tells what this sidecar has.
func (s *infoServer) Info(context.Context, *info.InfoRequest) (*info.InfoResponse, error) {
	state, known := s.deps.Source.State()
	if !known || !s.deps.Ready() {
		return nil, errNotReady
	}
	mint, maxt := s.deps.Source.MinTime(), int64(math.MaxInt64)
	external := storeapi.LabelSet(state.External)
	return &info.InfoResponse{
		LabelSets:     []*thanos.LabelSet{external},
		ComponentType: componentType,
		Store: &info.StoreInfo{
			MinTime: mint, MaxTime: maxt,
			SupportsSharding: true, SupportsWithoutReplicaLabels: true,
			TsdbInfos: []*info.TSDBInfo{{Labels: external, MinTime: mint, MaxTime: maxt}},
		},
		Rules:          &info.RulesInfo{},
		MetricMetadata: &info.MetricMetadataInfo{},
		Targets:        &info.TargetsInfo{},
		Exemplars:      &info.ExemplarsInfo{},
		Status:         &info.StatusInfo{},
	}, nil
}
