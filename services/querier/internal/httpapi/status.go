package httpapi

import (
	"context"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/promontory-io/promontory/libs/promapi"
	"github.com/promontory-io/promontory/libs/promapi/promtypes"
	"github.com/promontory-io/promontory/services/querier/internal/endpoints"
	"github.com/promontory-io/promontory/services/querier/internal/health"
)

func (a *API) stores(context.Context, *request) (promapi.Data, promapi.Notes, error) {
	out := promtypes.Stores{}
	for _, s := range endpoints.Statuses(a.deps.Stores) {
		st := promtypes.StoreStatus{
			Name: s.Name, LastCheck: s.LastCheck, LabelSets: s.LabelSets, MinTime: s.MinTime, MaxTime: s.MaxTime,
			Group: s.Group, Strict: s.Strict,
		}
		if st.LabelSets == nil {
			st.LabelSets = []labels.Labels{}
		}
		if s.LastError != nil {
			text := s.LastError.Error()
			st.LastError = &text
		}
		st.StoreHealth = storeHealth(a.deps.Health.Status(s.Name))
		out[s.ComponentType] = append(out[s.ComponentType], st)
	}
	return promapi.JSON{Value: out}, promapi.Notes{}, nil
}

// storeHealth is nil for a store that was never asked.
func storeHealth(h health.Status) *promtypes.StoreHealth {
	if h.Calls == 0 && h.Failures == 0 {
		return nil
	}
	out := &promtypes.StoreHealth{
		Breaker: h.Breaker, Failures: h.Failures, LastCallError: h.LastError,
		Calls: h.Calls, MedianSeconds: h.Median.Seconds(), P95Seconds: h.P95.Seconds(),
	}
	if !h.OpenUntil.IsZero() {
		out.OpenUntil = &h.OpenUntil
	}
	return out
}

func (a *API) statusFlags(context.Context, *request) (promapi.Data, promapi.Notes, error) {
	out := promtypes.Flags{}
	for name, value := range a.cfg.Flags {
		out[name] = value
	}
	return promapi.JSON{Value: out}, promapi.Notes{}, nil
}

func (a *API) statusRuntime(context.Context, *request) (promapi.Data, promapi.Notes, error) {
	return promapi.JSON{Value: promtypes.ThisProcess(a.started)}, promapi.Notes{}, nil
}

func (a *API) statusBuild(context.Context, *request) (promapi.Data, promapi.Notes, error) {
	return promapi.JSON{Value: promtypes.ThisBuild()}, promapi.Notes{}, nil
}
