package view

import (
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/promontory-io/promontory/libs/promapi/promtypes"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/thanos"
)

func formatValue(v float64) string { return strconv.FormatFloat(v, 'e', -1, 64) }

// JSON returns groups as the HTTP API has them.
func JSON(groups []*thanos.RuleGroup) promtypes.RuleGroups {
	out := promtypes.RuleGroups{Groups: []promtypes.RuleGroup{}}
	for _, g := range groups {
		one := promtypes.RuleGroup{
			Name: g.GetName(), File: g.GetFile(), Rules: []promtypes.Rule{}, Interval: g.GetInterval(),
			EvaluationTime: g.GetEvaluationDurationSeconds(), LastEvaluation: moment(g.GetLastEvaluation()), Limit: g.GetLimit(),
			PartialResponseStrategy: g.GetPartialResponseStrategy().String(),
		}
		for _, r := range g.GetRules() {
			if a := r.GetAlert(); a != nil {
				one.Rules = append(one.Rules, promtypes.Rule{Alerting: alertingJSON(a)})
			} else if r := r.GetRecording(); r != nil {
				one.Rules = append(one.Rules, promtypes.Rule{Recording: &promtypes.RecordingRule{
					Name: r.GetName(), Query: r.GetQuery(), Labels: storeapi.Labels(r.GetLabels()), Health: r.GetHealth(), LastError: r.GetLastError(),
					EvaluationTime: r.GetEvaluationDurationSeconds(), LastEvaluation: moment(r.GetLastEvaluation()),
				}})
			}
		}
		out.Groups = append(out.Groups, one)
	}
	return out
}

// moment leaves the time that means never as it is, which has no other form on the wire.
func moment(t *timestamppb.Timestamp) time.Time { return t.AsTime() }

func alertingJSON(a *thanos.Alert) *promtypes.AlertingRule {
	return &promtypes.AlertingRule{
		State: strings.ToLower(a.GetState().String()), Name: a.GetName(), Query: a.GetQuery(), Duration: a.GetDurationSeconds(),
		Labels: storeapi.Labels(a.GetLabels()), Annotations: storeapi.Labels(a.GetAnnotations()), Alerts: instances(a),
		Health: a.GetHealth(), LastError: a.GetLastError(), EvaluationTime: a.GetEvaluationDurationSeconds(),
		LastEvaluation: moment(a.GetLastEvaluation()), KeepFiringFor: a.GetKeepFiringForSeconds(),
	}
}

func instances(a *thanos.Alert) []promtypes.Alert {
	out := []promtypes.Alert{}
	for _, i := range a.GetAlerts() {
		at := i.GetActiveAt().AsTime()
		out = append(out, promtypes.Alert{
			Labels: storeapi.Labels(i.GetLabels()), Annotations: storeapi.Labels(i.GetAnnotations()),
			State: strings.ToLower(i.GetState().String()), ActiveAt: &at, Value: i.GetValue(),
			PartialResponseStrategy: i.GetPartialResponseStrategy().String(),
		})
	}
	return out
}

// Alerts returns the active alerts of groups.
func Alerts(groups []*thanos.RuleGroup) promtypes.RulerAlerts {
	out := promtypes.RulerAlerts{Alerts: []promtypes.Alert{}}
	for _, g := range groups {
		for _, r := range g.GetRules() {
			if a := r.GetAlert(); a != nil {
				out.Alerts = append(out.Alerts, instances(a)...)
			}
		}
	}
	return out
}
