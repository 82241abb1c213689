package grpcapi

import (
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/tsdb"

	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/services/receiver/internal/tenants"
)

type exemplarsServer struct {
	thanos.UnimplementedExemplarsServer
	tenants *tenants.Multi
}

// Exemplars sends the exemplars of the series that the query selects.
func (s *exemplarsServer) Exemplars(req *thanos.ExemplarsRequest, stream thanos.Exemplars_ExemplarsServer) error {
	expr, err := parser.ParseExpr(req.GetQuery())
	if err != nil {
		return storeapi.ToStatus(storeapi.Invalidf("query: %s", err))
	}
	selectors := parser.ExtractSelectors(expr)
	for _, t := range s.tenants.Tenants() {
		ext := t.External()
		var sets [][]*labels.Matcher
		for _, sel := range selectors {
			if rest, ok := storeapi.MatchExternal(ext, sel); ok && len(rest) > 0 {
				sets = append(sets, rest)
			}
		}
		if len(sets) == 0 {
			continue
		}
		err := t.Read(func(db *tsdb.DB) error { return sendExemplars(stream, db, ext, req, sets) })
		if err == nil {
			continue
		}
		text, fatal := missing(t, req.GetPartialResponseStrategy(), err)
		if fatal != nil {
			return storeapi.ToStatus(fatal)
		}
		if err := stream.Send(&thanos.ExemplarsResponse{Result: &thanos.ExemplarsResponse_Warning{Warning: text}}); err != nil {
			return err
		}
	}
	return nil
}

func sendExemplars(stream thanos.Exemplars_ExemplarsServer, db *tsdb.DB, ext labels.Labels, req *thanos.ExemplarsRequest, sets [][]*labels.Matcher) error {
	q, err := db.ExemplarQuerier(stream.Context())
	if err != nil {
		return err
	}
	found, err := q.Select(req.GetStart(), req.GetEnd(), sets...)
	if err != nil {
		return err
	}
	extend := storeapi.NewExtender(ext, nil)
	for _, r := range found {
		data := &thanos.ExemplarData{SeriesLabels: storeapi.LabelSet(extend.Extend(r.SeriesLabels))}
		for _, e := range r.Exemplars {
			data.Exemplars = append(data.Exemplars, &thanos.Exemplar{Labels: storeapi.LabelSet(e.Labels), Value: e.Value, Ts: e.Ts})
		}
		if err := stream.Send(&thanos.ExemplarsResponse{Result: &thanos.ExemplarsResponse_Data{Data: data}}); err != nil {
			return err
		}
	}
	return nil
}
