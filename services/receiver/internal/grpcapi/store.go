package grpcapi

import (
	"context"
	"errors"

	"github.com/prometheus/prometheus/model/labels"
	"golang.org/x/sync/errgroup"

	"github.com/promontory-io/promontory/libs/budget"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/libs/tsdbstore"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/services/receiver/internal/tenants"
)

// store is the Store API over all tenants. Matchers on external labels pick tenants: the others are not
// touched.
type store struct {
	tenants *tenants.Multi
	slots   chan struct{}
	budget  *budget.Budget
}

// What a read holds of memory, at most in all but odd cases: the postings of each tenant that it selects from, sorted, of which there are
// no more than series, and some frames on their way.
const (
	bytesPerTenant = 512 << 10
	bytesPerSeries = 64
)

// admit takes a slot and memory for a read of tenants, and waits for both. Answers are streamed: nothing else of a read grows with it.
func (s *store) admit(ctx context.Context, ts []*tenants.Tenant, ms []*labels.Matcher) (release func(), err error) {
	leave, err := acquire(ctx, s.slots)
	if err != nil {
		return nil, err
	}
	bytes := int64(0)
	for _, t := range ts {
		bytes += bytesPerTenant + bytesPerSeries*int64(t.NumSeries())
	}
	if s.budget != nil {
		bytes = min(bytes, s.budget.Largest()) // one at a time always can
	}
	held, err := s.budget.Acquire(ctx, bytes, storeapi.FormatMatchers(ms))
	if err != nil {
		leave()
		return nil, err
	}
	return func() {
		held.Release()
		leave()
	}, nil
}

var _ storeapi.Store = (*store)(nil)

// one is the Store API of one tenant, whose database is held open for the time of a call.
type one struct{ t *tenants.Tenant }

var _ storeapi.Store = one{}

func (o one) Series(ctx context.Context, req *thanos.SeriesRequest, ms []*labels.Matcher, w *storeapi.Writer) error {
	return o.t.Store(func(s *tsdbstore.Store) error { return s.Series(ctx, req, ms, w) })
}

func (o one) LabelNames(ctx context.Context, req *thanos.LabelNamesRequest, ms []*labels.Matcher) (resp *thanos.LabelNamesResponse, err error) {
	err = o.t.Store(func(s *tsdbstore.Store) error {
		resp, err = s.LabelNames(ctx, req, ms)
		return err
	})
	return resp, err
}

func (o one) LabelValues(ctx context.Context, req *thanos.LabelValuesRequest, ms []*labels.Matcher) (resp *thanos.LabelValuesResponse, err error) {
	err = o.t.Store(func(s *tsdbstore.Store) error {
		resp, err = s.LabelValues(ctx, req, ms)
		return err
	})
	return resp, err
}

// matching are the tenants whose external labels the matchers accept. A request must say more than
// which tenant it wants.
func (s *store) matching(ms []*labels.Matcher, needRest bool) ([]*tenants.Tenant, error) {
	var out []*tenants.Tenant
	for _, t := range s.tenants.Tenants() {
		rest, ok := storeapi.MatchExternal(t.External(), ms)
		if !ok {
			continue
		}
		if needRest && len(rest) == 0 {
			return nil, storeapi.Invalidf("no matcher is left besides those on external labels %s", t.External())
		}
		out = append(out, t)
	}
	return out, nil
}

// missing tells what becomes of an answer from which a tenant is missing: a warning, or, where the caller
// wants all or nothing, an error.
func missing(t *tenants.Tenant, strategy thanos.PartialResponseStrategy, err error) (warning string, fatal error) {
	if !errors.Is(err, tenants.ErrReplaying) && !errors.Is(err, tenants.ErrUnavailable) {
		return "", err
	}
	text := "the answer may lack series of tenant " + t.Name() + " " + t.External().String() + ": " + err.Error()
	if strategy == thanos.PartialResponseStrategy_ABORT {
		return "", storeapi.Abortedf("%s", text)
	}
	return text, nil
}

// Series implements storeapi.Store.
func (s *store) Series(ctx context.Context, req *thanos.SeriesRequest, ms []*labels.Matcher, w *storeapi.Writer) error {
	strategy := storeapi.Strategy(req.GetPartialResponseDisabled(), req.GetPartialResponseStrategy())
	ts, err := s.matching(ms, true)
	if err != nil {
		return err
	}
	release, err := s.admit(ctx, ts, ms)
	if err != nil {
		return err
	}
	defer release()
	if len(ts) == 1 {
		return s.pass(w, ts[0], strategy, one{ts[0]}.Series(ctx, req, ms, w))
	}
	streams := make([]storeapi.Stream, len(ts))
	for i, t := range ts {
		streams[i] = storeapi.Local(ctx, one{t}, req, ms)
	}
	// Tenants have different labels, so no series of one is another's.
	merged := storeapi.Merge(streams, storeapi.MergeOptions{
		KeepDuplicates: true,
		OnError:        func(i int, err error) (string, error) { return missing(ts[i], strategy, err) },
	})
	defer merged.Close()
	for merged.Next() && !w.Full() {
		series := merged.At()
		if err := w.Series(series.Labels, series.Chunks); err != nil {
			return err
		}
	}
	if err := merged.Err(); err != nil {
		return err
	}
	for _, text := range merged.Warnings() {
		if err := w.Warning(text); err != nil {
			return err
		}
	}
	return nil
}

// pass turns a tenant's absence into a warning, where it may be one.
func (*store) pass(w *storeapi.Writer, t *tenants.Tenant, strategy thanos.PartialResponseStrategy, err error) error {
	if err == nil {
		return nil
	}
	warning, fatal := missing(t, strategy, err)
	if fatal != nil {
		return fatal
	}
	return w.Warning(warning)
}

// LabelNames implements storeapi.Store.
func (s *store) LabelNames(ctx context.Context, req *thanos.LabelNamesRequest, ms []*labels.Matcher) (*thanos.LabelNamesResponse, error) {
	strategy := storeapi.Strategy(req.GetPartialResponseDisabled(), req.GetPartialResponseStrategy())
	lists, warnings, err := s.gather(ctx, ms, strategy, func(ctx context.Context, t *tenants.Tenant) ([]string, error) {
		resp, err := one{t}.LabelNames(ctx, req, ms)
		return resp.GetNames(), err
	})
	if err != nil {
		return nil, err
	}
	return &thanos.LabelNamesResponse{Names: storeapi.Union(lists...), Warnings: warnings}, nil
}

// LabelValues implements storeapi.Store.
func (s *store) LabelValues(ctx context.Context, req *thanos.LabelValuesRequest, ms []*labels.Matcher) (*thanos.LabelValuesResponse, error) {
	if req.GetLabel() == "" {
		return nil, storeapi.Invalidf("label name is empty")
	}
	strategy := storeapi.Strategy(req.GetPartialResponseDisabled(), req.GetPartialResponseStrategy())
	lists, warnings, err := s.gather(ctx, ms, strategy, func(ctx context.Context, t *tenants.Tenant) ([]string, error) {
		resp, err := one{t}.LabelValues(ctx, req, ms)
		return resp.GetValues(), err
	})
	if err != nil {
		return nil, err
	}
	return &thanos.LabelValuesResponse{Values: storeapi.Union(lists...), Warnings: warnings}, nil
}

// gather asks all matching tenants.
func (s *store) gather(ctx context.Context, ms []*labels.Matcher, strategy thanos.PartialResponseStrategy, ask func(context.Context, *tenants.Tenant) ([]string, error)) (lists [][]string, warnings []string, err error) {
	ts, err := s.matching(ms, false)
	if err != nil {
		return nil, nil, err
	}
	release, err := s.admit(ctx, ts, ms)
	if err != nil {
		return nil, nil, err
	}
	defer release()
	lists = make([][]string, len(ts))
	texts := make([]string, len(ts))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for i, t := range ts {
		g.Go(func() error {
			list, err := ask(ctx, t)
			if err != nil {
				texts[i], err = missing(t, strategy, err)
				return err
			}
			lists[i] = list
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, nil, err
	}
	for _, t := range texts {
		if t != "" {
			warnings = append(warnings, t)
		}
	}
	return lists, warnings, nil
}
