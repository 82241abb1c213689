package httpapi

import (
	"context"
	"fmt"

	"github.com/promontory-io/promontory/libs/promapi"
	"github.com/promontory-io/promontory/libs/promapi/promtypes"
)

// activeQueries lists the queries that run: where tenancy is enforced, those of the tenant.
func (a *API) activeQueries(_ context.Context, r *request) (promapi.Data, promapi.Notes, error) {
	out := promtypes.ActiveQueries{Queries: []promtypes.ActiveQuery{}}
	for _, q := range a.cfg.Active.List(r.owner()) {
		state := "queued"
		if q.Running() {
			state = "running"
		}
		out.Queries = append(out.Queries, promtypes.ActiveQuery{
			ID: q.ID, Kind: q.Kind, Query: q.Text, Tenant: q.Tenant, State: state,
			Began: q.Began.UTC(), TookSeconds: a.cfg.Active.Now().Sub(q.Began).Seconds(),
			Start: q.Start.UTC(), End: q.Info.End.UTC(), StepSeconds: q.Step.Seconds(), Bytes: q.Bytes(),
		})
	}
	return promapi.JSON{Value: out}, promapi.Notes{}, nil
}

// cancelQuery ends one of them.
func (a *API) cancelQuery(_ context.Context, r *request) (promapi.Data, promapi.Notes, error) {
	id := r.http.PathValue("id")
	if !a.cfg.Active.Cancel(id, r.owner()) {
		return nil, promapi.Notes{}, promapi.NewError(promapi.ErrorNotFound, fmt.Errorf("no query %q is running", id))
	}
	return promapi.JSON{Value: map[string]string{"cancelled": id}}, promapi.Notes{}, nil
}

// owner is whose queries the request may see, empty for all.
func (r *request) owner() string {
	if r.enforce == nil {
		return ""
	}
	return r.tenant
}
