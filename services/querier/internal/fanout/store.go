package fanout

import (
	"context"
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/services/querier/internal/endpoints"
)

// Store is the proxy as a store for others, so that queriers stack. Requests are answered
// with the same semantics as in the process.
type Store struct {
	Proxy *Proxy
}

var _ storeapi.Store = Store{}

// Series implements storeapi.Store.
func (s Store) Series(ctx context.Context, req *thanos.SeriesRequest, ms []*labels.Matcher, w *storeapi.Writer) error {
	stream, err := s.Proxy.Series(ctx, req, ms, Options{})
	if err != nil {
		return err
	}
	defer stream.Close()
	sent := 0
	warn := func() error {
		for _, text := range stream.Warnings()[sent:] {
			if err := w.Warning(text); err != nil {
				return err
			}
			sent++
		}
		return nil
	}
	// What is known to be missing goes out before any series.
	if err := warn(); err != nil {
		return err
	}
	for !w.Full() && stream.Next() {
		at := stream.At()
		if err := w.Series(at.Labels, at.Chunks); err != nil {
			return err
		}
	}
	if err := stream.Err(); err != nil {
		return err
	}
	return warn()
}

// LabelNames implements storeapi.Store.
func (s Store) LabelNames(ctx context.Context, req *thanos.LabelNamesRequest, ms []*labels.Matcher) (*thanos.LabelNamesResponse, error) {
	return s.Proxy.LabelNames(ctx, req, ms, Options{})
}

// LabelValues implements storeapi.Store.
func (s Store) LabelValues(ctx context.Context, req *thanos.LabelValuesRequest, ms []*labels.Matcher) (*thanos.LabelValuesResponse, error) {
	return s.Proxy.LabelValues(ctx, req, ms, Options{})
}

// LabelSets are those of all stores, each extended by the selector labels; the selector labels alone
// when there is none. They are sorted and unique.
func (p *Proxy) LabelSets() []labels.Labels {
	var out []labels.Labels
	for _, e := range p.source.Endpoints() {
		if e.Store == nil {
			continue
		}
		for _, set := range e.LabelSets {
			out = append(out, extend(set, p.cfg.SelectorLabels))
		}
	}
	if len(out) == 0 && !p.cfg.SelectorLabels.IsEmpty() {
		out = append(out, p.cfg.SelectorLabels)
	}
	slices.SortFunc(out, labels.Compare)
	return slices.CompactFunc(out, labels.Equal)
}

// TimeRange is that of all stores together, everything when there is none.
func (p *Proxy) TimeRange() endpoints.TimeRange {
	r := endpoints.TimeRange{MinTime: math.MaxInt64, MaxTime: math.MinInt64}
	for _, e := range p.source.Endpoints() {
		if e.Store != nil {
			r.MinTime, r.MaxTime = min(r.MinTime, e.Store.MinTime), max(r.MaxTime, e.Store.MaxTime)
		}
	}
	if r.MinTime > r.MaxTime {
		return endpoints.TimeRange{MinTime: math.MinInt64, MaxTime: math.MaxInt64}
	}
	return r
}

// TSDBInfos are those of all stores, with the selector labels.
func (p *Proxy) TSDBInfos() []endpoints.TSDBInfo {
	var out []endpoints.TSDBInfo
	for _, e := range p.source.Endpoints() {
		if e.Store == nil {
			continue
		}
		for _, t := range e.Store.TSDBs {
			t.Labels = extend(t.Labels, p.cfg.SelectorLabels)
			out = append(out, t)
		}
	}
	return out
}

func extend(set, by labels.Labels) labels.Labels {
	if by.IsEmpty() {
		return set
	}
	b := labels.NewBuilder(set)
	by.Range(func(l labels.Label) { b.Set(l.Name, l.Value) })
	return b.Labels()
}
