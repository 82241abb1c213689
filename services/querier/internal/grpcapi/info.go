package grpcapi

import (
	"context"
	"errors"
	"math"

	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/thanos/info"
	"github.com/promontory-io/promontory/services/querier/internal/endpoints"
)

// errNotReady is what peers are told until the first round of endpoints is over.
var errNotReady = errors.New("Not ready") // the text that peers know

type infoServer struct {
	info.UnimplementedInfoServer
	deps Deps
}

// Info tells what this querier and the peers behind it have.
func (s *infoServer) Info(context.Context, *info.InfoRequest) (*info.InfoResponse, error) {
	if !s.deps.Ready() {
		return nil, errNotReady
	}
	r := s.deps.Proxy.TimeRange()
	out := &info.InfoResponse{
		ComponentType: endpoints.ComponentQuery,
		Store: &info.StoreInfo{
			MinTime: r.MinTime, MaxTime: r.MaxTime,
			SupportsSharding: true, SupportsWithoutReplicaLabels: true,
		},
		Rules:          &info.RulesInfo{},
		MetricMetadata: &info.MetricMetadataInfo{},
		Targets:        &info.TargetsInfo{},
		Exemplars:      &info.ExemplarsInfo{MinTime: math.MinInt64, MaxTime: math.MaxInt64},
		Query:          &info.QueryAPIInfo{},
		Status:         &info.StatusInfo{},
	}
	for _, set := range s.deps.Proxy.LabelSets() {
		out.LabelSets = append(out.LabelSets, storeapi.LabelSet(set))
	}
	for _, t := range s.deps.Proxy.TSDBInfos() {
		out.Store.TsdbInfos = append(out.Store.TsdbInfos, &info.TSDBInfo{
			Labels: storeapi.LabelSet(t.Labels), MinTime: t.MinTime, MaxTime: t.MaxTime,
		})
	}
	return out, nil
}
