package store

import (
	"context"
	"maps"
	"slices"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/services/sidecar/internal/promerr"
)

// LabelNames returns the names of Prometheus and those of the external labels.
func (s *Store) LabelNames(ctx context.Context, req *thanos.LabelNamesRequest, ms []*labels.Matcher) (*thanos.LabelNamesResponse, error) {
	q, err := s.query(req.GetStart(), req.GetEnd(), ms)
	if err != nil || q.empty() {
		return &thanos.LabelNamesResponse{}, err
	}
	names, warnings, err := s.names(ctx, q)
	if err != nil {
		return nil, promerr.Wrap(err)
	}
	resp := &thanos.LabelNamesResponse{Warnings: warnings}
	if len(names) == 0 {
		return resp, nil // nothing is there, not even under the external labels
	}
	resp.Names = slices.DeleteFunc(storeapi.Union(names, q.externalNames()), func(n string) bool {
		return slices.Contains(req.GetWithoutReplicaLabels(), n)
	})
	return resp, nil
}

// LabelValues returns the values of a label; an external one has a single value.
func (s *Store) LabelValues(ctx context.Context, req *thanos.LabelValuesRequest, ms []*labels.Matcher) (*thanos.LabelValuesResponse, error) {
	if req.GetLabel() == "" {
		return nil, storeapi.Invalidf("label values: no label name given")
	}
	resp := &thanos.LabelValuesResponse{}
	q, err := s.query(req.GetStart(), req.GetEnd(), ms)
	if err != nil || q.empty() || slices.Contains(req.GetWithoutReplicaLabels(), req.GetLabel()) {
		return resp, err
	}
	if value := q.state.External.Get(req.GetLabel()); value != "" {
		if len(q.matchers) > 0 {
			// Whoever restricts it wants to know whether anything matches here.
			names, warnings, err := s.names(ctx, q)
			if err != nil {
				return nil, promerr.Wrap(err)
			}
			if resp.Warnings = warnings; len(names) == 0 {
				return resp, nil
			}
		}
		resp.Values = []string{value}
		return resp, nil
	}
	values, warnings, err := s.values(ctx, q, req.GetLabel())
	if err != nil {
		return nil, promerr.Wrap(err)
	}
	resp.Values, resp.Warnings = storeapi.Union(values), warnings
	return resp, nil
}

// takesMatchers reports whether Prometheus' label endpoints observe matchers. Older ones ignore
// them, and answer for all series.
func (q *query) takesMatchers() bool { return q.state.Version.AtLeast(2, 24) }

func (s *Store) names(ctx context.Context, q *query) ([]string, []string, error) {
	if len(q.matchers) == 0 || q.takesMatchers() {
		return s.client.LabelNames(ctx, q.span(), 0, q.selector()...)
	}
	found, warnings, err := s.client.Series(ctx, q.span(), 0, q.selector()...)
	names := map[string]struct{}{}
	for _, lset := range found {
		lset.Range(func(l labels.Label) { names[l.Name] = struct{}{} })
	}
	return slices.Collect(maps.Keys(names)), warnings, err
}

func (s *Store) values(ctx context.Context, q *query, label string) ([]string, []string, error) {
	if len(q.matchers) == 0 || q.takesMatchers() {
		return s.client.LabelValues(ctx, label, q.span(), 0, q.selector()...)
	}
	found, warnings, err := s.client.Series(ctx, q.span(), 0, q.selector()...)
	values := map[string]struct{}{}
	for _, lset := range found {
		if v := lset.Get(label); v != "" {
			values[v] = struct{}{}
		}
	}
	return slices.Collect(maps.Keys(values)), warnings, err
}
