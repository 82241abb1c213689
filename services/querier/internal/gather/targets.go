package gather

import (
	"cmp"
	"context"
	"slices"

	"google.golang.org/grpc"

	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/services/querier/internal/endpoints"
)

// Targets asks all peers that have targets and returns them with the replica labels removed; of
// targets equal but for them, the one scraped last stays. They are sorted by labels. The
// caller owns the result.
func (g *Gatherer) Targets(ctx context.Context, req *thanos.TargetsRequest) (*thanos.TargetDiscovery, []string, error) {
	all, warnings, err := g.TargetDiscoveries(ctx, req)
	if err != nil {
		return nil, nil, err
	}
	return mergeTargets(all, g.cfg.ReplicaLabels), warnings, nil
}

// TargetDiscoveries returns the answers of the peers as they are.
func (g *Gatherer) TargetDiscoveries(ctx context.Context, req *thanos.TargetsRequest) ([]*thanos.TargetDiscovery, []string, error) {
	messages, warnings, err := ask(ctx, g, inquiry[thanos.TargetsResponse]{
		what:     "targets",
		strategy: req.GetPartialResponseStrategy(),
		offers:   func(e *endpoints.Endpoint) bool { return e.Targets },
		open: func(ctx context.Context, e *endpoints.Endpoint) (grpc.ServerStreamingClient[thanos.TargetsResponse], error) {
			return thanos.NewTargetsClient(e.Conn).Targets(ctx, req)
		},
		warning: (*thanos.TargetsResponse).GetWarning,
	})
	if err != nil {
		return nil, nil, err
	}
	var out []*thanos.TargetDiscovery
	for _, m := range messages {
		if t := m.GetTargets(); t != nil {
			out = append(out, t)
		}
	}
	return out, warnings, nil
}

func mergeTargets(all []*thanos.TargetDiscovery, replicaLabels []string) *thanos.TargetDiscovery {
	out := &thanos.TargetDiscovery{}
	for _, d := range all {
		for _, t := range d.GetActiveTargets() {
			t.Labels, t.DiscoveredLabels = without(t.Labels, replicaLabels), without(t.DiscoveredLabels, replicaLabels)
			out.ActiveTargets = append(out.ActiveTargets, t)
		}
		for _, t := range d.GetDroppedTargets() {
			t.DiscoveredLabels = without(t.DiscoveredLabels, replicaLabels)
			out.DroppedTargets = append(out.DroppedTargets, t)
		}
	}
	same := func(a, b *thanos.ActiveTarget) int {
		return cmp.Or(compareSets(a.GetDiscoveredLabels(), b.GetDiscoveredLabels()), compareSets(a.GetLabels(), b.GetLabels()),
			cmp.Compare(a.GetScrapePool(), b.GetScrapePool()), cmp.Compare(a.GetScrapeUrl(), b.GetScrapeUrl()))
	}
	slices.SortStableFunc(out.ActiveTargets, func(a, b *thanos.ActiveTarget) int {
		return cmp.Or(same(a, b), b.GetLastScrape().AsTime().Compare(a.GetLastScrape().AsTime()))
	})
	out.ActiveTargets = slices.CompactFunc(out.ActiveTargets, func(a, b *thanos.ActiveTarget) bool { return same(a, b) == 0 })
	dropped := func(a, b *thanos.DroppedTarget) int {
		return compareSets(a.GetDiscoveredLabels(), b.GetDiscoveredLabels())
	}
	slices.SortFunc(out.DroppedTargets, dropped)
	out.DroppedTargets = slices.CompactFunc(out.DroppedTargets, func(a, b *thanos.DroppedTarget) bool { return dropped(a, b) == 0 })
	return out
}
