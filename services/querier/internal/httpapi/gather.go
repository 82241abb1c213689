package httpapi

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/promontory-io/promontory/libs/promapi"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/services/querier/internal/selects"
)

func strategy(partialResponse bool) thanos.PartialResponseStrategy {
	if partialResponse {
		return thanos.PartialResponseStrategy_WARN
	}
	return thanos.PartialResponseStrategy_ABORT
}

func (a *API) rules(ctx context.Context, r *request) (promapi.Data, promapi.Notes, error) {
	q, err := r.RulesQuery(a.cfg.Partial.Rules)
	if err != nil {
		return nil, promapi.Notes{}, err
	}
	groups, warnings, err := a.ruleGroups(ctx, r, q)
	if err != nil {
		return nil, promapi.Notes{}, err
	}
	return promapi.JSON{Value: ruleGroups(groups)}, promapi.Partial(warnings...), nil
}

func (a *API) alerts(ctx context.Context, r *request) (promapi.Data, promapi.Notes, error) {
	partial, err := r.Bool("partial_response", a.cfg.Partial.Rules)
	if err != nil {
		return nil, promapi.Notes{}, err
	}
	groups, warnings, err := a.ruleGroups(ctx, r, &promapi.RulesQuery{Type: promapi.RulesAlerting, PartialResponse: partial})
	if err != nil {
		return nil, promapi.Notes{}, err
	}
	return promapi.JSON{Value: alerts(groups)}, promapi.Partial(warnings...), nil
}

// ruleGroups asks for the rules that q describes.
func (a *API) ruleGroups(ctx context.Context, r *request, q *promapi.RulesQuery) ([]*thanos.RuleGroup, []string, error) {
	if r.enforce != nil {
		var err error
		if q.Match, err = enforcedSelectors(r, q.Match); err != nil {
			return nil, nil, err
		}
	}
	groups, warnings, err := a.deps.Gatherer.Rules(ctx, &thanos.RulesRequest{
		Type: ruleType(q.Type), PartialResponseStrategy: strategy(q.PartialResponse),
		MatcherString: q.Match, RuleName: q.Names, RuleGroup: q.Groups, File: q.Files,
	})
	return groups.GetGroups(), warnings, asInternal("retrieve rules", err)
}

func ruleType(t promapi.RuleType) thanos.RulesRequest_Type {
	switch t {
	case promapi.RulesAlerting:
		return thanos.RulesRequest_ALERT
	case promapi.RulesRecording:
		return thanos.RulesRequest_RECORD
	default:
		return thanos.RulesRequest_ALL
	}
}

func targetState(s promapi.TargetState) thanos.TargetsRequest_State {
	switch s {
	case promapi.TargetsActive:
		return thanos.TargetsRequest_ACTIVE
	case promapi.TargetsDropped:
		return thanos.TargetsRequest_DROPPED
	default:
		return thanos.TargetsRequest_ANY
	}
}

// enforcedSelectors restricts the selectors of match[] to the tenant; without any, everything of the tenant is meant.
func enforcedSelectors(r *request, selectors []string) ([]string, error) {
	out, err := r.enforce.Selectors(selectors)
	if err != nil {
		return nil, promapi.NewError(promapi.ErrorBadData, err)
	}
	return out, nil
}

func (a *API) targets(ctx context.Context, r *request) (promapi.Data, promapi.Notes, error) {
	state, err := r.TargetState()
	if err != nil {
		return nil, promapi.Notes{}, err
	}
	partial, err := r.Bool("partial_response", a.cfg.Partial.Targets)
	if err != nil {
		return nil, promapi.Notes{}, err
	}
	found, warnings, err := a.deps.Gatherer.Targets(ctx, &thanos.TargetsRequest{
		State: targetState(state), PartialResponseStrategy: strategy(partial),
	})
	if err != nil {
		return nil, promapi.Notes{}, asInternal("retrieve targets", err)
	}
	if r.enforce != nil {
		a.keepOwnTargets(found, r.tenant)
	}
	return promapi.JSON{Value: targets(found)}, promapi.Partial(warnings...), nil
}

// keepOwnTargets drops the targets of other tenants: the call to the peers has no selector that could.
func (a *API) keepOwnTargets(d *thanos.TargetDiscovery, tenant string) {
	foreign := func(sets ...*thanos.LabelSet) bool {
		for _, set := range sets {
			for _, l := range set.GetLabels() {
				if l.GetName() == a.cfg.Tenancy.Label {
					return l.GetValue() != tenant
				}
			}
		}
		return true
	}
	d.ActiveTargets = slices.DeleteFunc(d.ActiveTargets, func(t *thanos.ActiveTarget) bool {
		return foreign(t.GetLabels(), t.GetDiscoveredLabels())
	})
	d.DroppedTargets = slices.DeleteFunc(d.DroppedTargets, func(t *thanos.DroppedTarget) bool {
		return foreign(t.GetDiscoveredLabels())
	})
}

func (a *API) metadata(ctx context.Context, r *request) (promapi.Data, promapi.Notes, error) {
	q, err := r.MetricMetadataQuery(a.cfg.Partial.Metadata)
	if err != nil {
		return nil, promapi.Notes{}, err
	}
	found, warnings, err := a.deps.Gatherer.MetricMetadata(ctx, &thanos.MetricMetadataRequest{
		Metric: q.Metric, Limit: int32(q.Limit), PartialResponseStrategy: strategy(q.PartialResponse),
	})
	if err != nil {
		return nil, promapi.Notes{}, asInternal("retrieve metadata", err)
	}
	if r.enforce != nil {
		more, err := a.keepOwnMetadata(ctx, r, q.PartialResponse, found)
		if err != nil {
			return nil, promapi.Notes{}, asInternal("retrieve metadata", err)
		}
		warnings = append(warnings, more...)
	}
	return promapi.JSON{Value: metadata(found)}, promapi.Partial(warnings...), nil
}

// keepOwnMetadata drops the metadata of metrics of which the tenant has no series: peers cannot tell whose they are.
func (a *API) keepOwnMetadata(ctx context.Context, r *request, partial bool, found map[string][]*thanos.Meta) ([]string, error) {
	mint := promapi.Millis(promapi.MinTime)
	if d := a.cfg.Defaults.MetadataRange; d > 0 {
		mint = r.now.Add(-d).UnixMilli()
	}
	querier, err := a.deps.Storage.Queryable(selects.Options{PartialResponse: partial}).Querier(mint, r.now.UnixMilli())
	if err != nil {
		return nil, fmt.Errorf("open storage: %w", err)
	}
	defer querier.Close()
	names, annos, err := querier.LabelValues(ctx, labels.MetricName, nil, r.enforce.Matchers(nil)...)
	if err != nil {
		return nil, fmt.Errorf("find the metrics of the tenant: %w", err)
	}
	maps.DeleteFunc(found, func(name string, _ []*thanos.Meta) bool {
		return !slices.ContainsFunc(append([]string{""}, suffixes[:]...), func(suffix string) bool {
			_, own := slices.BinarySearch(names, name+suffix)
			return own
		})
	})
	return promapi.NotesFrom(annos, "").Warnings, nil
}

// suffixes are what the series of a metric family add to its name.
var suffixes = [...]string{"_total", "_bucket", "_count", "_sum", "_info", "_created"} //nolint:gochecknoglobals // a constant list

func (a *API) exemplars(ctx context.Context, r *request) (promapi.Data, promapi.Notes, error) {
	q, err := r.ExemplarsQuery(a.cfg.Partial.Exemplars)
	if err != nil {
		return nil, promapi.Notes{}, err
	}
	if r.enforce != nil {
		if q.Query, err = r.enforce.Query(q.Query); err != nil {
			return nil, promapi.Notes{}, promapi.NewError(promapi.ErrorBadData, err)
		}
	}
	if err := a.allowed(q.Query); err != nil {
		return nil, promapi.Notes{}, err
	}
	found, warnings, err := a.deps.Gatherer.Exemplars(ctx, &thanos.ExemplarsRequest{
		Query: q.Query, Start: promapi.Millis(q.Start), End: promapi.Millis(q.End),
		PartialResponseStrategy: strategy(q.PartialResponse),
	})
	if err != nil {
		return nil, promapi.Notes{}, err
	}
	return promapi.JSON{Value: exemplars(found)}, promapi.Partial(warnings...), nil
}

func (a *API) statusTSDB(ctx context.Context, r *request) (promapi.Data, promapi.Notes, error) {
	q, err := r.TSDBStatusQuery(a.cfg.Partial.Status)
	if err != nil {
		return nil, promapi.Notes{}, err
	}
	if len(q.Matchers) > 1 {
		// Databases are counted as a whole, so the answers to two selectors cannot be added up.
		return nil, promapi.Notes{}, promapi.BadData("'match[]' parameter: only one selector can be given here, got %d", len(q.Matchers))
	}
	req := &thanos.TSDBStatisticsRequest{
		Limit: int32(q.Limit), PartialResponseStrategy: strategy(q.PartialResponse),
	}
	if r.enforce != nil {
		q.Matchers = r.enforce.MatcherSets(q.Matchers)
	}
	if len(q.Matchers) > 0 {
		req.Matchers = storeapi.WireMatchers(q.Matchers[0])
	}
	byTenant, warnings, err := a.deps.Gatherer.TSDBStatistics(ctx, req)
	if err != nil {
		return nil, promapi.Notes{}, asInternal("retrieve TSDB statistics", err)
	}
	if r.enforce != nil {
		byTenant = map[string]*thanos.TSDBStatisticsEntry{r.tenant: byTenant[r.tenant]}
	}
	return promapi.JSON{Value: tsdbStatus(byTenant, req.GetLimit())}, promapi.Partial(warnings...), nil
}
