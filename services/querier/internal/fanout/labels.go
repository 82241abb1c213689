package fanout

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/services/querier/internal/deadline"
	"github.com/promontory-io/promontory/services/querier/internal/receipt"
)

// LabelNames returns the names that any store knows, sorted, unique and cut to the
// limit. Errors and warnings are those of Series, but for no store at all, which is an empty answer.
func (p *Proxy) LabelNames(ctx context.Context, req *thanos.LabelNamesRequest, ms []*labels.Matcher, opts Options) (*thanos.LabelNamesResponse, error) {
	abort := storeapi.Strategy(req.GetPartialResponseDisabled(), req.GetPartialResponseStrategy()) == thanos.PartialResponseStrategy_ABORT
	q := query{mint: req.GetStart(), maxt: req.GetEnd(), ms: ms, storeMatchers: opts.StoreMatchers, relabel: p.cfg.Relabel}
	names, warnings, err := p.labels(ctx, q, abort, req.GetLimit(), opts, func(ctx context.Context, t target, ms []*thanos.LabelMatcher) ([]string, []string, error) {
		r := &thanos.LabelNamesRequest{
			PartialResponseDisabled: abort, PartialResponseStrategy: strategy(abort),
			Start: req.GetStart(), End: req.GetEnd(), Hints: req.GetHints(), Matchers: ms, Limit: req.GetLimit(),
		}
		remove := req.GetWithoutReplicaLabels()
		if t.Store.SupportsWithoutReplicaLabels {
			r.WithoutReplicaLabels, remove = remove, nil
		} else if len(remove) > 0 {
			r.Limit = 0
		}
		resp, err := t.Store.Client.LabelNames(ctx, r)
		names := slices.DeleteFunc(resp.GetNames(), func(n string) bool { return slices.Contains(remove, n) })
		return names, resp.GetWarnings(), err
	})
	if err != nil {
		return nil, err
	}
	return &thanos.LabelNamesResponse{Names: names, Warnings: warnings}, nil
}

// LabelValues returns the values that any store knows for the label of req, like LabelNames. An
// empty label name is an ErrInvalid.
func (p *Proxy) LabelValues(ctx context.Context, req *thanos.LabelValuesRequest, ms []*labels.Matcher, opts Options) (*thanos.LabelValuesResponse, error) {
	if req.GetLabel() == "" {
		return nil, storeapi.Invalidf("label name is empty")
	}
	abort := storeapi.Strategy(req.GetPartialResponseDisabled(), req.GetPartialResponseStrategy()) == thanos.PartialResponseStrategy_ABORT
	q := query{mint: req.GetStart(), maxt: req.GetEnd(), ms: ms, storeMatchers: opts.StoreMatchers, relabel: p.cfg.Relabel}
	values, warnings, err := p.labels(ctx, q, abort, req.GetLimit(), opts, func(ctx context.Context, t target, ms []*thanos.LabelMatcher) ([]string, []string, error) {
		resp, err := t.Store.Client.LabelValues(ctx, &thanos.LabelValuesRequest{
			Label: req.GetLabel(), PartialResponseDisabled: abort, PartialResponseStrategy: strategy(abort),
			Start: req.GetStart(), End: req.GetEnd(), Matchers: ms, Limit: req.GetLimit(),
			WithoutReplicaLabels: req.GetWithoutReplicaLabels(),
		})
		return resp.GetValues(), resp.GetWarnings(), err
	})
	if err != nil {
		return nil, err
	}
	return &thanos.LabelValuesResponse{Values: values, Warnings: warnings}, nil
}

type labelCall func(ctx context.Context, t target, ms []*thanos.LabelMatcher) (found, warnings []string, err error)

// labels puts a label call to all stores that q concerns and joins the answers.
func (p *Proxy) labels(ctx context.Context, q query, abort bool, limit int64, opts Options, call labelCall) (found, warnings []string, err error) {
	if err := storeapi.CheckRange(q.mint, q.maxt); err != nil {
		return nil, nil, err
	}
	rest, ok := p.ownLabels(q.ms)
	if !ok {
		return nil, nil, nil
	}
	q.ms = rest
	ask, missing, _ := pick(p.source.Endpoints(), q)
	ask, missing = p.admit(ask, missing)
	accounts := make([]receipt.Store, len(ask), len(ask)+len(missing))
	for i, t := range ask {
		accounts[i] = t.contribution()
	}
	accounts = append(accounts, lostStores(missing)...)
	defer func() {
		settle(q, slices.Concat(ask, missing), accounts, opts.ReplicaLabels)
		opts.add(accounts)
	}()
	if warnings, err = reportMissing(missing, q, abort); err != nil {
		for _, t := range ask {
			t.call.Dropped()
		}
		return nil, nil, err
	}
	callers := ctx
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make([]labelAnswer, len(ask))
	var wg sync.WaitGroup
	for i, t := range ask {
		wg.Go(func() {
			a := &answers[i]
			start := time.Now()
			a.found, a.warnings, a.err = p.askLabels(ctx, t, append(slices.Clip(q.ms), t.extra...), call)
			a.account(&accounts[i], t, time.Since(start))
			if a.err != nil && abort {
				cancel() // nobody needs the others any more
			}
		})
	}
	wg.Wait()
	for i := range answers {
		if answers[i].err == nil {
			continue
		}
		err := deadline.Over(callers, answers[i].err)
		if err == nil && abort && errors.Is(answers[i].err, storeapi.ErrLate) {
			err = context.DeadlineExceeded
		}
		if err != nil {
			return nil, nil, fmt.Errorf("%w while waiting for %s", err, ask[i].Describe())
		}
	}
	lists, more, err := joinLabels(ask, answers, q, abort)
	if err != nil {
		return nil, nil, err
	}
	found = storeapi.Union(lists...)
	if limit > 0 && int64(len(found)) > limit {
		found = found[:limit]
	}
	return found, append(warnings, more...), nil
}

// askLabels puts the call to one store within the response timeout and its share of the request's time.
func (p *Proxy) askLabels(ctx context.Context, t target, ms []*labels.Matcher, call labelCall) ([]string, []string, error) {
	if at, _, ok := deadline.Leaf(ctx); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadlineCause(ctx, at, storeapi.ErrLate)
		defer cancel()
	}
	if d := p.cfg.ResponseTimeout; d > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, d, fmt.Errorf("%w of %s", storeapi.ErrFrameTimeout, d))
		defer cancel()
	}
	found, warnings, err := call(ctx, t, storeapi.WireMatchers(ms))
	if cause := context.Cause(ctx); err != nil && (errors.Is(cause, storeapi.ErrFrameTimeout) || errors.Is(cause, storeapi.ErrLate)) {
		err = cause
	}
	return found, warnings, err
}

// account closes the books on a call and tells how the store did.
func (a *labelAnswer) account(out *receipt.Store, t target, took time.Duration) {
	out.StreamStats = storeapi.StreamStats{Frames: 1, FirstFrame: took, Elapsed: took}
	out.Warnings = a.warnings
	switch {
	case a.err != nil:
		out.Frames, out.FirstFrame = 0, 0
		out.State, out.Err = receipt.Failed, a.err.Error()
	case len(a.warnings) > 0:
		out.State = receipt.Warned
	}
	switch {
	case a.err == nil:
		t.call.Succeeded(took)
	case isFault(a.err):
		t.call.Failed(a.err)
	default:
		t.call.Dropped()
	}
}

type labelAnswer struct {
	found, warnings []string
	err             error
}

func joinLabels(ask []target, answers []labelAnswer, q query, abort bool) (lists [][]string, warnings []string, err error) {
	var cut error // a failure that only says that another one ended the request
	for i, a := range answers {
		if a.err != nil && abort && errors.Is(a.err, context.Canceled) {
			cut = a.err
			continue
		}
		if a.err == nil && abort && len(a.warnings) > 0 {
			a.err = errors.New(a.warnings[0])
		}
		if a.err != nil {
			text := ask[i].missingText(q, a.err)
			if abort {
				return nil, nil, storeapi.Abortedf("%s", text)
			}
			warnings = append(warnings, text)
		}
		lists, warnings = append(lists, a.found), append(warnings, ask[i].Said(a.warnings)...)
	}
	return lists, warnings, cut
}
