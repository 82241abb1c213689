package api

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/index"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/promapi"
	"github.com/promontory-io/promontory/libs/promapi/promtypes"
	"github.com/promontory-io/promontory/services/receiver/internal/tenants"
)

// tenantStatus is the figures of one tenant's database.
type tenantStatus struct {
	Tenant string `json:"tenant"`
	promtypes.TSDBStatus
}

// EncodeJSON is part of promapi.Data.
func (s statuses) EncodeJSON(e *promapi.Encoder) { e.Value([]tenantStatus(s)) }

type statuses []tenantStatus

// TSDBStatus answers GET /api/v1/status/tsdb: figures of the request's tenant, or of all.
func (a *API) TSDBStatus() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out, err := a.tsdbStatus(r)
		if err != nil {
			if err = promapi.RespondError(w, err); err != nil {
				a.deps.Logger.Debug("answer status", zap.Error(err))
			}
			return
		}
		a.respond(w, out)
	})
}

func (a *API) respond(w http.ResponseWriter, data promapi.Data) {
	if err := promapi.Respond(w, data, promapi.Notes{}); err != nil {
		a.deps.Logger.Debug("answer status", zap.Error(err))
	}
}

func (a *API) tsdbStatus(r *http.Request) (statuses, error) {
	limit := 10
	if text := r.FormValue("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return nil, promapi.BadData("limit must be a positive number, it is %q", text)
		}
		limit = n
	}
	all := a.deps.Tenants.Tenants()
	if r.FormValue("all_tenants") != "true" {
		name, err := a.cfg.Tenant.Tenant(r)
		if err != nil {
			return nil, promapi.BadData("%s", err)
		}
		all = nil
		if t := a.deps.Tenants.Tenant(name); t != nil {
			all = []*tenants.Tenant{t}
		}
	}
	out := statuses{}
	for _, t := range all {
		err := t.Read(func(db *tsdb.DB) error {
			out = append(out, tenantStatus{Tenant: t.Name(), TSDBStatus: statusOfDB(db, limit)})
			return nil
		})
		if err != nil && !errors.Is(err, tenants.ErrReplaying) {
			return nil, fmt.Errorf("tenant %s: %w", t.Name(), err)
		}
	}
	return out, nil
}

func statusOfDB(db *tsdb.DB, limit int) promtypes.TSDBStatus {
	h := db.Head()
	st := h.Stats(labels.MetricName, limit)
	p := st.IndexPostingStats
	return promtypes.TSDBStatus{
		HeadStats: promtypes.HeadStats{
			NumSeries: st.NumSeries, NumLabelPairs: p.NumLabelPairs, MinTime: st.MinTime, MaxTime: st.MaxTime,
		},
		SeriesCountByMetricName:     figures(p.CardinalityMetricsStats),
		LabelValueCountByLabelName:  figures(p.CardinalityLabelStats),
		MemoryInBytesByLabelName:    figures(p.LabelValueStats),
		SeriesCountByLabelValuePair: figures(p.LabelValuePairsStats),
	}
}

func figures(list []index.Stat) []promtypes.Statistic {
	out := make([]promtypes.Statistic, len(list))
	for i, s := range list {
		out[i] = promtypes.Statistic{Name: s.Name, Value: s.Count}
	}
	return out
}
