package grpcapi

import (
	"context"
	"math"

	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/proto/gen/thanos/info"
	"github.com/promontory-io/promontory/services/receiver/internal/tenants"
)

// Component is how a receiver names itself to queriers.
const Component = "receive"

type infoServer struct {
	info.UnimplementedInfoServer
	tenants *tenants.Multi
	ready   func() bool
}

// Info tells what there is to ask for. A tenant whose log is being replayed is announced with all
// times: it has to be asked, to say that it is not complete.
func (s *infoServer) Info(context.Context, *info.InfoRequest) (*info.InfoResponse, error) {
	if !s.ready() {
		return nil, storeapi.ToStatus(storeapi.Unavailablef("Not ready"))
	}
	out := &info.InfoResponse{
		ComponentType: Component,
		Store: &info.StoreInfo{
			MinTime: math.MaxInt64, MaxTime: math.MaxInt64, SupportsSharding: true, SupportsWithoutReplicaLabels: true,
		},
		Exemplars: &info.ExemplarsInfo{}, MetricMetadata: &info.MetricMetadataInfo{}, Status: &info.StatusInfo{},
	}
	for _, t := range s.tenants.Tenants() {
		set := storeapi.LabelSet(t.External())
		mint, ok := t.MinTime()
		if !ok {
			mint = math.MinInt64
		}
		out.LabelSets = append(out.LabelSets, set)
		out.Store.TsdbInfos = append(out.Store.TsdbInfos, &info.TSDBInfo{Labels: set, MinTime: mint, MaxTime: math.MaxInt64})
		out.Store.MinTime = min(out.Store.MinTime, mint)
	}
	out.Exemplars.MinTime, out.Exemplars.MaxTime = math.MinInt64, math.MaxInt64
	return out, nil
}

type metadataServer struct {
	thanos.UnimplementedMetadataServer
	tenants *tenants.Multi
}

// metricTypes are the names of the numbers of remote write.
var metricTypes = [...]string{"unknown", "counter", "gauge", "histogram", "gaugehistogram", "summary", "info", "stateset"} //nolint:gochecknoglobals // a table

func typeName(t int32) string {
	if t < 0 || int(t) >= len(metricTypes) {
		return metricTypes[0]
	}
	return metricTypes[t]
}

// MetricMetadata sends what senders said of metric families, of all tenants.
func (s *metadataServer) MetricMetadata(req *thanos.MetricMetadataRequest, stream thanos.Metadata_MetricMetadataServer) error {
	out := map[string]*thanos.MetricMetadataEntry{}
	for _, t := range s.tenants.Tenants() {
		for family, m := range t.Metadata() {
			if req.GetMetric() != "" && family != req.GetMetric() {
				continue
			}
			e := out[family]
			if e == nil {
				if limit := req.GetLimit(); limit >= 0 && len(out) >= int(limit) {
					continue
				}
				e = &thanos.MetricMetadataEntry{}
				out[family] = e
			}
			meta := &thanos.Meta{Type: typeName(m.Type), Help: m.Help, Unit: m.Unit}
			if !hasMeta(e.GetMetas(), meta) {
				e.Metas = append(e.Metas, meta)
			}
		}
	}
	if len(out) == 0 {
		return nil
	}
	return stream.Send(&thanos.MetricMetadataResponse{Result: &thanos.MetricMetadataResponse_Metadata{
		Metadata: &thanos.MetricMetadata{Metadata: out},
	}})
}

func hasMeta(list []*thanos.Meta, m *thanos.Meta) bool {
	for _, have := range list {
		if have.GetType() == m.GetType() && have.GetHelp() == m.GetHelp() && have.GetUnit() == m.GetUnit() {
			return true
		}
	}
	return false
}
