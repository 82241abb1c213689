package store

import (
	"context"
	"math"

	"github.com/prometheus/prometheus/model/labels"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/thanos/info"
	"github.com/promontory-io/promontory/services/store-gateway/internal/blockset"
)

// infoServer announces what a store has.
type infoServer struct {
	info.UnimplementedInfoServer
	s *Store
}

// RegisterInfo serves the Info API for s on r.
func (s *Store) RegisterInfo(r grpc.ServiceRegistrar) { info.RegisterInfoServer(r, &infoServer{s: s}) }

// Info fails until the store is ready.
func (i *infoServer) Info(context.Context, *info.InfoRequest) (*info.InfoResponse, error) {
	if !i.s.Ready() {
		return nil, status.Error(codes.Unavailable, "Not ready")
	}
	sets := announced(i.s.view.Load())
	lo, hi := i.s.bounds()
	resp := &info.InfoResponse{
		ComponentType: i.s.cfg.Component,
		Store: &info.StoreInfo{
			MinTime: math.MaxInt64, MaxTime: math.MinInt64,
			SupportsSharding: true, SupportsWithoutReplicaLabels: true,
		},
	}
	for _, set := range sets {
		ext := storeapi.LabelSet(set.External)
		resp.LabelSets = append(resp.LabelSets, ext)
		for _, st := range set.Stretches() {
			resp.Store.MinTime = min(resp.Store.MinTime, st.MinTime)
			resp.Store.MaxTime = max(resp.Store.MaxTime, st.MaxTime)
			resp.Store.TsdbInfos = append(resp.Store.TsdbInfos, &info.TSDBInfo{
				Labels: ext, MinTime: st.MinTime, MaxTime: st.MaxTime,
			})
		}
	}
	resp.Store.MinTime = max(resp.Store.MinTime, lo)
	resp.Store.MaxTime = min(resp.Store.MaxTime, hi)
	return resp, nil
}

// item is a range of time of one producer's data.
type item struct {
	ext  labels.Labels
	span blockset.Span
}

// announced are the sets of what is served and of what should be: a store that kept quiet
// about a block it cannot read would not be asked, and nobody would know what is missing.
func announced(v *view) []*blockset.Set[item] {
	var items []item
	for _, set := range v.sets {
		for _, st := range set.Stretches() {
			items = append(items, item{set.External, blockset.Span{MinTime: st.MinTime, MaxTime: st.MaxTime}})
		}
	}
	for _, a := range v.aside {
		if a.Known {
			items = append(items, item{a.External, blockset.Span{MinTime: a.MinTime, MaxTime: a.MaxTime}})
		}
	}
	return blockset.Group(items,
		func(i item) labels.Labels { return i.ext },
		func(i item) blockset.Span { return i.span })
}
