package httpapi_test

import (
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/promontory-io/promontory/libs/promapi/promtypes"
	"github.com/promontory-io/promontory/proto/gen/thanos"
)

// services is a peer that answers all calls but those for series, by what it was given.
type services struct {
	thanos.UnimplementedRulesServer
	thanos.UnimplementedTargetsServer
	thanos.UnimplementedMetadataServer
	thanos.UnimplementedStatusServer
	thanos.UnimplementedExemplarsServer

	groups    []*thanos.RuleGroup
	discovery *thanos.TargetDiscovery
	metas     map[string]*thanos.MetricMetadataEntry
	stats     map[string]*thanos.TSDBStatisticsEntry
	exemplars []*thanos.ExemplarData

	// err, if set, ends all calls.
	err error
	// The last request of each kind.
	rulesReq     *thanos.RulesRequest
	targetsReq   *thanos.TargetsRequest
	metadataReq  *thanos.MetricMetadataRequest
	statsReq     *thanos.TSDBStatisticsRequest
	exemplarsReq *thanos.ExemplarsRequest
}

func (s *services) register(r grpc.ServiceRegistrar) {
	thanos.RegisterRulesServer(r, s)
	thanos.RegisterTargetsServer(r, s)
	thanos.RegisterMetadataServer(r, s)
	thanos.RegisterStatusServer(r, s)
	thanos.RegisterExemplarsServer(r, s)
}

func (s *services) Rules(req *thanos.RulesRequest, stream grpc.ServerStreamingServer[thanos.RulesResponse]) error {
	s.rulesReq = req
	for _, g := range s.groups {
		g = g.CloneVT()
		var keep []*thanos.Rule
		for _, r := range g.Rules {
			if req.Type != thanos.RulesRequest_ALERT || r.GetAlert() != nil {
				keep = append(keep, r)
			}
		}
		g.Rules = keep
		if err := stream.Send(&thanos.RulesResponse{Result: &thanos.RulesResponse_Group{Group: g}}); err != nil {
			return err
		}
	}
	return s.err
}

func (s *services) Targets(req *thanos.TargetsRequest, stream grpc.ServerStreamingServer[thanos.TargetsResponse]) error {
	s.targetsReq = req
	if s.err != nil {
		return s.err
	}
	return stream.Send(&thanos.TargetsResponse{Result: &thanos.TargetsResponse_Targets{Targets: s.discovery}})
}

func (s *services) MetricMetadata(req *thanos.MetricMetadataRequest, stream grpc.ServerStreamingServer[thanos.MetricMetadataResponse]) error {
	s.metadataReq = req
	if s.err != nil {
		return s.err
	}
	out := &thanos.MetricMetadata{Metadata: map[string]*thanos.MetricMetadataEntry{}}
	for name, e := range s.metas {
		if req.Metric == "" || req.Metric == name {
			out.Metadata[name] = e
		}
	}
	return stream.Send(&thanos.MetricMetadataResponse{Result: &thanos.MetricMetadataResponse_Metadata{Metadata: out}})
}

func (s *services) TSDBStatistics(req *thanos.TSDBStatisticsRequest, stream grpc.ServerStreamingServer[thanos.TSDBStatisticsResponse]) error {
	s.statsReq = req
	if s.err != nil {
		return s.err
	}
	return stream.Send(&thanos.TSDBStatisticsResponse{Result: &thanos.TSDBStatisticsResponse_Statistics{
		Statistics: &thanos.TSDBStatistics{Statistics: s.stats},
	}})
}

func (s *services) Exemplars(req *thanos.ExemplarsRequest, stream grpc.ServerStreamingServer[thanos.ExemplarsResponse]) error {
	s.exemplarsReq = req
	for _, d := range s.exemplars {
		if err := stream.Send(&thanos.ExemplarsResponse{Result: &thanos.ExemplarsResponse_Data{Data: d}}); err != nil {
			return err
		}
	}
	return s.err
}

// recordedServices answers what the peers of the recorded querier must have answered.
func recordedServices(t testing.TB, lines []recorded) func(grpc.ServiceRegistrar) {
	t.Helper()
	s := &services{metas: map[string]*thanos.MetricMetadataEntry{}}
	var groups promtypes.RuleGroups
	find(t, lines, "/api/v1/rules").data(t, &groups)
	for _, g := range groups.Groups {
		s.groups = append(s.groups, wireGroup(g))
	}
	var targets promtypes.Targets
	find(t, lines, "/api/v1/targets").data(t, &targets)
	s.discovery = wireTargets(targets)
	var metadata promtypes.Metadata
	find(t, lines, "/api/v1/metadata?limit=2").data(t, &metadata)
	for name, entries := range metadata {
		e := &thanos.MetricMetadataEntry{}
		for _, m := range entries {
			e.Metas = append(e.Metas, &thanos.Meta{Type: m.Type, Help: m.Help, Unit: m.Unit})
		}
		s.metas[name] = e
	}
	var status promtypes.TSDBStatus
	find(t, lines, "/api/v1/status/tsdb?limit=2").data(t, &status)
	s.stats = map[string]*thanos.TSDBStatisticsEntry{"": wireStatus(status)}
	return s.register
}

// replica is a label that peers have and answers do not.
var replica = labels.FromStrings("replica", "a", "rule_replica", "b")

func wireLabels(ls labels.Labels) *thanos.LabelSet {
	out := &thanos.LabelSet{}
	ls.Range(func(l labels.Label) { out.Labels = append(out.Labels, &thanos.Label{Name: l.Name, Value: l.Value}) })
	return out
}

func wireSet(ls labels.Labels) *thanos.LabelSet {
	b := labels.NewBuilder(ls)
	replica.Range(func(l labels.Label) { b.Set(l.Name, l.Value) })
	return wireLabels(b.Labels())
}

func wireGroup(g promtypes.RuleGroup) *thanos.RuleGroup {
	out := &thanos.RuleGroup{
		Name: g.Name, File: g.File, Interval: g.Interval, EvaluationDurationSeconds: g.EvaluationTime,
		LastEvaluation: timestamppb.New(g.LastEvaluation), Limit: g.Limit,
		PartialResponseStrategy: thanos.PartialResponseStrategy(thanos.PartialResponseStrategy_value[g.PartialResponseStrategy]),
	}
	states := map[string]thanos.AlertState{"inactive": thanos.AlertState_INACTIVE, "pending": thanos.AlertState_PENDING, "firing": thanos.AlertState_FIRING}
	for _, r := range g.Rules {
		if rec := r.Recording; rec != nil {
			out.Rules = append(out.Rules, &thanos.Rule{Result: &thanos.Rule_Recording{Recording: &thanos.RecordingRule{
				Name: rec.Name, Query: rec.Query, Labels: wireSet(rec.Labels), Health: rec.Health, LastError: rec.LastError,
				EvaluationDurationSeconds: rec.EvaluationTime, LastEvaluation: timestamppb.New(rec.LastEvaluation),
			}}})
			continue
		}
		a := r.Alerting
		alert := &thanos.Alert{
			State: states[a.State], Name: a.Name, Query: a.Query, DurationSeconds: a.Duration, Labels: wireSet(a.Labels),
			Annotations: wireLabels(a.Annotations), Health: a.Health, LastError: a.LastError,
			EvaluationDurationSeconds: a.EvaluationTime, LastEvaluation: timestamppb.New(a.LastEvaluation), KeepFiringForSeconds: a.KeepFiringFor,
		}
		for _, x := range a.Alerts {
			alert.Alerts = append(alert.Alerts, &thanos.AlertInstance{
				Labels: wireLabels(x.Labels), Annotations: wireLabels(x.Annotations), State: states[x.State],
				ActiveAt: timestamppb.New(*x.ActiveAt), Value: x.Value,
			})
		}
		out.Rules = append(out.Rules, &thanos.Rule{Result: &thanos.Rule_Alert{Alert: alert}})
	}
	return out
}

func wireTargets(d promtypes.Targets) *thanos.TargetDiscovery {
	out := &thanos.TargetDiscovery{}
	health := map[string]thanos.ActiveTarget_Health{"up": thanos.ActiveTarget_UP, "down": thanos.ActiveTarget_DOWN}
	for _, a := range d.ActiveTargets {
		out.ActiveTargets = append(out.ActiveTargets, &thanos.ActiveTarget{
			DiscoveredLabels: wireSet(a.DiscoveredLabels), Labels: wireSet(a.Labels), ScrapePool: a.ScrapePool,
			ScrapeUrl: a.ScrapeURL, GlobalUrl: a.GlobalURL, LastError: a.LastError, LastScrape: timestamppb.New(a.LastScrape),
			LastScrapeDuration: a.LastScrapeDuration, Health: health[a.Health],
		})
	}
	return out
}

func wireStatus(s promtypes.TSDBStatus) *thanos.TSDBStatisticsEntry {
	list := func(in []promtypes.Statistic) (out []*thanos.Statistic) {
		for _, x := range in {
			out = append(out, &thanos.Statistic{Name: x.Name, Value: x.Value})
		}
		return out
	}
	return &thanos.TSDBStatisticsEntry{
		HeadStatistics: &thanos.HeadStatistics{
			NumSeries: s.HeadStats.NumSeries, NumLabelPairs: int64(s.HeadStats.NumLabelPairs), ChunkCount: s.HeadStats.ChunkCount,
			MinTime: s.HeadStats.MinTime, MaxTime: s.HeadStats.MaxTime,
		},
		SeriesCountByMetricName:     list(s.SeriesCountByMetricName),
		LabelValueCountByLabelName:  list(s.LabelValueCountByLabelName),
		MemoryInBytesByLabelName:    list(s.MemoryInBytesByLabelName),
		SeriesCountByLabelValuePair: list(s.SeriesCountByLabelValuePair),
	}
}
