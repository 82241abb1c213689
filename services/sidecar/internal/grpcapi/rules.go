package grpcapi

import (
	"strings"

	"github.com/prometheus/prometheus/model/labels"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/promontory-io/promontory/libs/promapi/promclient"
	"github.com/promontory-io/promontory/libs/promapi/promtypes"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/libs/storeapi/rulefilter"
	"github.com/promontory-io/promontory/proto/gen/thanos"
)

type rulesServer struct {
	thanos.UnimplementedRulesServer
	*peer
}

// Rules sends one frame per group, in Prometheus' order.
//
// Filters are applied here and not by Prometheus: they may name external labels, which rules get
// only here, and groups that a filter empties are still sent.
func (s *rulesServer) Rules(req *thanos.RulesRequest, stream grpc.ServerStreamingServer[thanos.RulesResponse]) error {
	state, err := s.state()
	if err != nil {
		return err
	}
	filter, err := rulefilter.New(req)
	if err != nil {
		return storeapi.ToStatus(err)
	}
	groups, err := s.client.Rules(stream.Context(), promclient.RulesFilter{})
	if err != nil {
		return status(err)
	}
	for i := range groups {
		if !filter.Group(groups[i].Name, groups[i].File) {
			continue
		}
		group := wireGroup(&groups[i], storeapi.NewExtender(state.External, nil), filter)
		if err := stream.Send(&thanos.RulesResponse{Result: &thanos.RulesResponse_Group{Group: group}}); err != nil {
			return err
		}
	}
	return nil
}

func wireGroup(g *promtypes.RuleGroup, ext *storeapi.Extender, filter *rulefilter.Filter) *thanos.RuleGroup {
	out := &thanos.RuleGroup{
		Name: g.Name, File: g.File, Interval: g.Interval, EvaluationDurationSeconds: g.EvaluationTime,
		LastEvaluation: timestamppb.New(g.LastEvaluation), Limit: g.Limit,
		// What a Prometheus evaluates has seen all data it knows of.
		PartialResponseStrategy: thanos.PartialResponseStrategy_ABORT,
	}
	for _, r := range g.Rules {
		switch {
		case r.Alerting != nil:
			lset := ext.Extend(r.Alerting.Labels)
			if filter.Rule(thanos.RulesRequest_ALERT, r.Alerting.Name, lset) {
				out.Rules = append(out.Rules, &thanos.Rule{Result: &thanos.Rule_Alert{Alert: wireAlert(r.Alerting, lset)}})
			}
		case r.Recording != nil:
			lset := ext.Extend(r.Recording.Labels)
			if filter.Rule(thanos.RulesRequest_RECORD, r.Recording.Name, lset) {
				out.Rules = append(out.Rules, &thanos.Rule{Result: &thanos.Rule_Recording{Recording: wireRecording(r.Recording, lset)}})
			}
		}
	}
	return out
}

func wireRecording(r *promtypes.RecordingRule, lset labels.Labels) *thanos.RecordingRule {
	return &thanos.RecordingRule{
		Name: r.Name, Query: r.Query, Labels: storeapi.LabelSet(lset), Health: r.Health, LastError: r.LastError,
		EvaluationDurationSeconds: r.EvaluationTime, LastEvaluation: timestamppb.New(r.LastEvaluation),
	}
}

// wireAlert leaves the labels of the single alerts alone: they are what Prometheus' Alertmanager
// gets and what it identifies them by.
func wireAlert(a *promtypes.AlertingRule, lset labels.Labels) *thanos.Alert {
	out := &thanos.Alert{
		State: alertState(a.State), Name: a.Name, Query: a.Query, DurationSeconds: a.Duration,
		Labels: storeapi.LabelSet(lset), Annotations: storeapi.LabelSet(a.Annotations),
		Health: a.Health, LastError: a.LastError, EvaluationDurationSeconds: a.EvaluationTime,
		LastEvaluation: timestamppb.New(a.LastEvaluation), KeepFiringForSeconds: a.KeepFiringFor,
	}
	for i := range a.Alerts {
		in := &a.Alerts[i]
		one := &thanos.AlertInstance{
			Labels: storeapi.LabelSet(in.Labels), Annotations: storeapi.LabelSet(in.Annotations),
			State: alertState(in.State), Value: in.Value,
		}
		if in.ActiveAt != nil {
			one.ActiveAt = timestamppb.New(*in.ActiveAt)
		}
		out.Alerts = append(out.Alerts, one)
	}
	return out
}

func alertState(s string) thanos.AlertState {
	return thanos.AlertState(thanos.AlertState_value[strings.ToUpper(s)]) // unknown is 0
}
