package gather

import (
	"cmp"
	"context"
	"slices"

	"google.golang.org/grpc"

	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/services/querier/internal/endpoints"
)

// RuleGroups asks all peers that have rules and returns their groups as they are.
// Filters of the request are applied by the peers.
func (g *Gatherer) RuleGroups(ctx context.Context, req *thanos.RulesRequest) ([]*thanos.RuleGroup, []string, error) {
	messages, warnings, err := ask(ctx, g, inquiry[thanos.RulesResponse]{
		what:     "rules",
		strategy: req.GetPartialResponseStrategy(),
		offers:   func(e *endpoints.Endpoint) bool { return e.Rules },
		open: func(ctx context.Context, e *endpoints.Endpoint) (grpc.ServerStreamingClient[thanos.RulesResponse], error) {
			return thanos.NewRulesClient(e.Conn).Rules(ctx, req)
		},
		warning: (*thanos.RulesResponse).GetWarning,
	})
	if err != nil {
		return nil, nil, err
	}
	var out []*thanos.RuleGroup
	for _, m := range messages {
		if group := m.GetGroup(); group != nil {
			out = append(out, group)
		}
	}
	return out, warnings, nil
}

// Rules is RuleGroups with the groups of replicas merged: groups of the same file and
// name become one, sorted by both; within a group the replica labels are removed and equal
// rules collapse, sorted with alerts first. The caller owns the result.
func (g *Gatherer) Rules(ctx context.Context, req *thanos.RulesRequest) (*thanos.RuleGroups, []string, error) {
	groups, warnings, err := g.RuleGroups(ctx, req)
	if err != nil {
		return nil, nil, err
	}
	return &thanos.RuleGroups{Groups: mergeGroups(groups, g.cfg.ReplicaLabels)}, warnings, nil
}

// mergeGroups merges groups in place.
func mergeGroups(groups []*thanos.RuleGroup, replicaLabels []string) []*thanos.RuleGroup {
	slices.SortStableFunc(groups, compareGroups)
	var out []*thanos.RuleGroup
	for _, group := range groups {
		if n := len(out); n > 0 && compareGroups(out[n-1], group) == 0 {
			out[n-1].Rules = append(out[n-1].Rules, group.Rules...)
			continue
		}
		out = append(out, group)
	}
	for _, group := range out {
		group.Rules = mergeRules(group.Rules, replicaLabels)
	}
	return out
}

func compareGroups(a, b *thanos.RuleGroup) int {
	return cmp.Or(cmp.Compare(a.GetFile(), b.GetFile()), cmp.Compare(a.GetName(), b.GetName()))
}

func mergeRules(rules []*thanos.Rule, replicaLabels []string) []*thanos.Rule {
	for _, r := range rules {
		if a := r.GetAlert(); a != nil {
			a.Labels = without(a.Labels, replicaLabels)
		} else if rec := r.GetRecording(); rec != nil {
			rec.Labels = without(rec.Labels, replicaLabels)
		}
	}
	// Within equal rules the one to keep comes first.
	slices.SortStableFunc(rules, func(a, b *thanos.Rule) int { return cmp.Or(compareRules(a, b), preferRule(a, b)) })
	return slices.CompactFunc(rules, func(a, b *thanos.Rule) bool { return compareRules(a, b) == 0 })
}

// compareRules orders rules by what makes them the same rule.
func compareRules(a, b *thanos.Rule) int {
	x, y := identify(a), identify(b)
	return cmp.Or(
		cmp.Compare(x.kind, y.kind),
		cmp.Compare(x.name, y.name),
		compareSets(x.labels, y.labels),
		cmp.Compare(x.query, y.query),
		cmp.Compare(x.duration, y.duration),
	)
}

type ruleIdentity struct {
	kind        int // alerts first
	name, query string
	labels      *thanos.LabelSet
	duration    float64
}

func identify(r *thanos.Rule) ruleIdentity {
	if a := r.GetAlert(); a != nil {
		return ruleIdentity{kind: 0, name: a.GetName(), query: a.GetQuery(), labels: a.GetLabels(), duration: a.GetDurationSeconds()}
	}
	rec := r.GetRecording()
	return ruleIdentity{kind: 1, name: rec.GetName(), query: rec.GetQuery(), labels: rec.GetLabels()}
}

// preferRule puts the higher alert state, then the later evaluation first.
func preferRule(a, b *thanos.Rule) int {
	if c := -cmp.Compare(a.GetAlert().GetState(), b.GetAlert().GetState()); c != 0 {
		return c
	}
	evaluated := func(r *thanos.Rule) int64 {
		if alert := r.GetAlert(); alert != nil {
			return alert.GetLastEvaluation().AsTime().UnixNano()
		}
		return r.GetRecording().GetLastEvaluation().AsTime().UnixNano()
	}
	return -cmp.Compare(evaluated(a), evaluated(b))
}
