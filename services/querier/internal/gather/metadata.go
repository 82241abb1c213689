package gather

import (
	"context"
	"maps"
	"slices"

	"google.golang.org/grpc"

	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/services/querier/internal/endpoints"
)

// MetricMetadata asks all peers that have metadata and joins what they know of each
// metric; equal descriptions appear once. A limit of the request bounds the number of
// metrics: negative is none, 0 returns nothing.
func (g *Gatherer) MetricMetadata(ctx context.Context, req *thanos.MetricMetadataRequest) (map[string][]*thanos.Meta, []string, error) {
	all, warnings, err := g.MetadataAnswers(ctx, req)
	if err != nil {
		return nil, nil, err
	}
	return mergeMetadata(all, req.GetLimit()), warnings, nil
}

// MetadataAnswers returns the answers of the peers as they are.
func (g *Gatherer) MetadataAnswers(ctx context.Context, req *thanos.MetricMetadataRequest) ([]*thanos.MetricMetadata, []string, error) {
	messages, warnings, err := ask(ctx, g, inquiry[thanos.MetricMetadataResponse]{
		what:     "metadata",
		strategy: req.GetPartialResponseStrategy(),
		offers:   func(e *endpoints.Endpoint) bool { return e.Metadata },
		open: func(ctx context.Context, e *endpoints.Endpoint) (grpc.ServerStreamingClient[thanos.MetricMetadataResponse], error) {
			return thanos.NewMetadataClient(e.Conn).MetricMetadata(ctx, req)
		},
		warning: (*thanos.MetricMetadataResponse).GetWarning,
	})
	if err != nil {
		return nil, nil, err
	}
	var out []*thanos.MetricMetadata
	for _, m := range messages {
		if md := m.GetMetadata(); md != nil {
			out = append(out, md)
		}
	}
	return out, warnings, nil
}

func mergeMetadata(all []*thanos.MetricMetadata, limit int32) map[string][]*thanos.Meta {
	out := map[string][]*thanos.Meta{}
	for _, md := range all {
		// Sorted, so that which metrics a limit leaves out does not change from call to call.
		for _, name := range slices.Sorted(maps.Keys(md.GetMetadata())) {
			have, known := out[name]
			if !known && limit >= 0 && len(out) >= int(limit) {
				continue
			}
			for _, meta := range md.GetMetadata()[name].GetMetas() {
				if !slices.ContainsFunc(have, meta.EqualVT) {
					have = append(have, meta)
				}
			}
			out[name] = have
		}
	}
	return out
}
