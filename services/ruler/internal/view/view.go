// Package view shows rules and alerts the way peers and users see them: with the external labels, and
// filtered.
package view

import (
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/rules"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/promontory-io/promontory/libs/rulefile"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/libs/storeapi/rulefilter"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/services/ruler/internal/evaluate"
)

// Groups returns the groups that the filter lets through. Groups that it empties are still there.
func Groups(groups []evaluate.Group, external labels.Labels, filter *rulefilter.Filter) []*thanos.RuleGroup {
	ext := storeapi.NewExtender(external, nil)
	var out []*thanos.RuleGroup
	for _, g := range groups {
		if !filter.Group(g.Name(), g.File()) {
			continue
		}
		wire := &thanos.RuleGroup{
			Name: g.Name(), File: g.File(), Interval: g.Interval().Seconds(), Limit: int64(g.Limit()),
			EvaluationDurationSeconds: g.GetEvaluationTime().Seconds(), LastEvaluation: timestamppb.New(g.GetLastEvaluation()),
			PartialResponseStrategy: strategy(g.Strategy),
		}
		for _, r := range g.Rules() {
			lset := ext.Extend(r.Labels())
			switch r := r.(type) {
			case *rules.AlertingRule:
				if filter.Rule(thanos.RulesRequest_ALERT, r.Name(), lset) {
					wire.Rules = append(wire.Rules, &thanos.Rule{Result: &thanos.Rule_Alert{Alert: alert(r, lset, g.Strategy)}})
				}
			case *rules.RecordingRule:
				if filter.Rule(thanos.RulesRequest_RECORD, r.Name(), lset) {
					wire.Rules = append(wire.Rules, &thanos.Rule{Result: &thanos.Rule_Recording{Recording: recording(r, lset)}})
				}
			}
		}
		out = append(out, wire)
	}
	return out
}

func strategy(s rulefile.Strategy) thanos.PartialResponseStrategy {
	if s == rulefile.Warn {
		return thanos.PartialResponseStrategy_WARN
	}
	return thanos.PartialResponseStrategy_ABORT
}

func lastError(r rules.Rule) string {
	if err := r.LastError(); err != nil {
		return err.Error()
	}
	return ""
}

func recording(r *rules.RecordingRule, lset labels.Labels) *thanos.RecordingRule {
	return &thanos.RecordingRule{
		Name: r.Name(), Query: r.Query().String(), Labels: storeapi.LabelSet(lset), Health: string(r.Health()), LastError: lastError(r),
		EvaluationDurationSeconds: r.GetEvaluationDuration().Seconds(), LastEvaluation: timestamppb.New(r.GetEvaluationTimestamp()),
	}
}

// alert leaves the labels of the single alerts alone: they are what Alertmanager identifies them by.
func alert(r *rules.AlertingRule, lset labels.Labels, s rulefile.Strategy) *thanos.Alert {
	out := &thanos.Alert{
		State: state(r.State()), Name: r.Name(), Query: r.Query().String(), DurationSeconds: r.HoldDuration().Seconds(),
		Labels: storeapi.LabelSet(lset), Annotations: storeapi.LabelSet(r.Annotations()), Health: string(r.Health()), LastError: lastError(r),
		EvaluationDurationSeconds: r.GetEvaluationDuration().Seconds(), LastEvaluation: timestamppb.New(r.GetEvaluationTimestamp()),
		KeepFiringForSeconds: r.KeepFiringFor().Seconds(),
	}
	active := r.ActiveAlerts()
	slices.SortFunc(active, func(a, b *rules.Alert) int { return labels.Compare(a.Labels, b.Labels) })
	for _, a := range active {
		out.Alerts = append(out.Alerts, &thanos.AlertInstance{
			Labels: storeapi.LabelSet(a.Labels), Annotations: storeapi.LabelSet(a.Annotations), State: state(a.State),
			ActiveAt: timestamppb.New(a.ActiveAt), Value: formatValue(a.Value), PartialResponseStrategy: strategy(s),
		})
	}
	return out
}

func state(s rules.AlertState) thanos.AlertState {
	return thanos.AlertState(thanos.AlertState_value[strings.ToUpper(s.String())])
}
