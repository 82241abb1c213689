package httpapi

import (
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/promontory-io/promontory/libs/promapi/promtypes"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/services/querier/internal/gather"
)

// The functions below turn what peers said into what users read. Lists are never nil, so that they are
// written as [].

func ruleGroups(groups []*thanos.RuleGroup) promtypes.RuleGroups {
	out := promtypes.RuleGroups{Groups: []promtypes.RuleGroup{}}
	for _, g := range groups {
		group := promtypes.RuleGroup{
			Name: g.GetName(), File: g.GetFile(), Rules: []promtypes.Rule{},
			Interval: g.GetInterval(), EvaluationTime: g.GetEvaluationDurationSeconds(), LastEvaluation: at(g.GetLastEvaluation()),
			Limit: g.GetLimit(), PartialResponseStrategy: g.GetPartialResponseStrategy().String(),
		}
		for _, r := range g.GetRules() {
			switch {
			case r.GetAlert() != nil:
				group.Rules = append(group.Rules, promtypes.Rule{Alerting: alertingRule(r.GetAlert())})
			case r.GetRecording() != nil:
				group.Rules = append(group.Rules, promtypes.Rule{Recording: recordingRule(r.GetRecording())})
			}
		}
		out.Groups = append(out.Groups, group)
	}
	return out
}

func alertingRule(a *thanos.Alert) *promtypes.AlertingRule {
	return &promtypes.AlertingRule{
		State: lower(a.GetState()), Name: a.GetName(), Query: a.GetQuery(), Duration: a.GetDurationSeconds(),
		Labels: storeapi.Labels(a.GetLabels()), Annotations: storeapi.Labels(a.GetAnnotations()),
		Alerts: activeAlerts(a.GetAlerts()),
		Health: a.GetHealth(), LastError: a.GetLastError(),
		EvaluationTime: a.GetEvaluationDurationSeconds(), LastEvaluation: at(a.GetLastEvaluation()),
		KeepFiringFor: a.GetKeepFiringForSeconds(),
	}
}

func recordingRule(r *thanos.RecordingRule) *promtypes.RecordingRule {
	return &promtypes.RecordingRule{
		Name: r.GetName(), Query: r.GetQuery(), Labels: storeapi.Labels(r.GetLabels()),
		Health: r.GetHealth(), LastError: r.GetLastError(),
		EvaluationTime: r.GetEvaluationDurationSeconds(), LastEvaluation: at(r.GetLastEvaluation()),
	}
}

func activeAlerts(list []*thanos.AlertInstance) []promtypes.Alert {
	out := make([]promtypes.Alert, 0, len(list))
	for _, a := range list {
		alert := promtypes.Alert{
			Labels: storeapi.Labels(a.GetLabels()), Annotations: storeapi.Labels(a.GetAnnotations()),
			State: lower(a.GetState()), Value: a.GetValue(),
			PartialResponseStrategy: a.GetPartialResponseStrategy().String(),
		}
		if a.GetActiveAt() != nil {
			since := at(a.GetActiveAt())
			alert.ActiveAt = &since
		}
		out = append(out, alert)
	}
	return out
}

// alerts returns the active alerts of all rules.
func alerts(groups []*thanos.RuleGroup) promtypes.Alerts {
	out := promtypes.Alerts{Alerts: []promtypes.Alert{}}
	for _, g := range groups {
		for _, r := range g.GetRules() {
			out.Alerts = append(out.Alerts, activeAlerts(r.GetAlert().GetAlerts())...)
		}
	}
	return out
}

func targets(d *thanos.TargetDiscovery) promtypes.Targets {
	out := promtypes.Targets{ActiveTargets: []promtypes.ActiveTarget{}, DroppedTargets: []promtypes.DroppedTarget{}}
	for _, t := range d.GetActiveTargets() {
		out.ActiveTargets = append(out.ActiveTargets, promtypes.ActiveTarget{
			DiscoveredLabels: storeapi.Labels(t.GetDiscoveredLabels()), Labels: storeapi.Labels(t.GetLabels()),
			ScrapePool: t.GetScrapePool(), ScrapeURL: t.GetScrapeUrl(), GlobalURL: t.GetGlobalUrl(),
			LastError: t.GetLastError(), LastScrape: at(t.GetLastScrape()), LastScrapeDuration: t.GetLastScrapeDuration(),
			Health: lower(t.GetHealth()),
		})
	}
	for _, t := range d.GetDroppedTargets() {
		out.DroppedTargets = append(out.DroppedTargets, promtypes.DroppedTarget{DiscoveredLabels: storeapi.Labels(t.GetDiscoveredLabels())})
	}
	return out
}

func metadata(found map[string][]*thanos.Meta) promtypes.Metadata {
	out := promtypes.Metadata{}
	for name, metas := range found {
		entries := make([]promtypes.MetadataEntry, 0, len(metas))
		for _, m := range metas {
			entries = append(entries, promtypes.MetadataEntry{Type: m.GetType(), Help: m.GetHelp(), Unit: m.GetUnit()})
		}
		out[name] = entries
	}
	return out
}

func exemplars(found []*thanos.ExemplarData) []promtypes.SeriesExemplars {
	out := make([]promtypes.SeriesExemplars, 0, len(found))
	for _, d := range found {
		series := promtypes.SeriesExemplars{SeriesLabels: storeapi.Labels(d.GetSeriesLabels()), Exemplars: []promtypes.Exemplar{}}
		for _, x := range d.GetExemplars() {
			series.Exemplars = append(series.Exemplars, promtypes.Exemplar{
				Labels: storeapi.Labels(x.GetLabels()), Value: x.GetValue(), Timestamp: x.GetTs(),
			})
		}
		out = append(out, series)
	}
	return out
}

// tsdbStatus sums the databases of all tenants up.
func tsdbStatus(byTenant map[string]*thanos.TSDBStatisticsEntry, limit int32) promtypes.TSDBStatus {
	entries := make([]*thanos.TSDBStatisticsEntry, 0, len(byTenant))
	for _, e := range byTenant {
		entries = append(entries, e)
	}
	sum := gather.SumStatistics(limit, entries...)
	head := sum.GetHeadStatistics()
	return promtypes.TSDBStatus{
		HeadStats: promtypes.HeadStats{
			NumSeries: head.GetNumSeries(), NumLabelPairs: int(head.GetNumLabelPairs()), ChunkCount: head.GetChunkCount(),
			MinTime: head.GetMinTime(), MaxTime: head.GetMaxTime(),
		},
		SeriesCountByMetricName:     statistics(sum.GetSeriesCountByMetricName()),
		LabelValueCountByLabelName:  statistics(sum.GetLabelValueCountByLabelName()),
		MemoryInBytesByLabelName:    statistics(sum.GetMemoryInBytesByLabelName()),
		SeriesCountByLabelValuePair: statistics(sum.GetSeriesCountByLabelValuePair()),
	}
}

func statistics(list []*thanos.Statistic) []promtypes.Statistic {
	out := make([]promtypes.Statistic, 0, len(list))
	for _, s := range list {
		out = append(out, promtypes.Statistic{Name: s.GetName(), Value: s.GetValue()})
	}
	return out
}

// at reads a time of the wire; one that was never said is the zero time, as in the structs of Prometheus.
func at(ts *timestamppb.Timestamp) time.Time {
	if ts == nil {
		return time.Time{}
	}
	return ts.AsTime()
}

// lower is how states and healths are written.
func lower(state interface{ String() string }) string { return strings.ToLower(state.String()) }
