package gather

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"google.golang.org/grpc"

	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/services/querier/internal/deadline"
	"github.com/promontory-io/promontory/services/querier/internal/endpoints"
	"github.com/promontory-io/promontory/services/querier/internal/receipt"
)

// inquiry is one question to all peers that serve an API.
type inquiry[R any] struct {
	// what names the API in messages: "rules", "targets".
	what     string
	strategy thanos.PartialResponseStrategy
	// offers picks the peers.
	offers func(*endpoints.Endpoint) bool
	// open starts the call to one peer.
	open func(ctx context.Context, e *endpoints.Endpoint) (grpc.ServerStreamingClient[R], error)
	// warning is the warning in a message, empty for content.
	warning func(*R) string
	// mint and maxt are the range asked for, Unix milliseconds; 0 where the API knows no time.
	mint, maxt int64
}

// answer is what one peer said.
type answer[R any] struct {
	from     *endpoints.Endpoint
	messages []*R
	warnings []string
	err      error
	// asked is false for a peer that could not be.
	asked bool
	// first and took are from the call to the first message and to the end.
	first, took time.Duration
}

// account is what the call to the peer cost, and what is missing without it.
func (a *answer[R]) account(q inquiry[R]) receipt.Store {
	out := receipt.Store{
		Addr: a.from.Addr, Component: a.from.ComponentType, LabelSets: a.from.LabelSets, Warnings: a.warnings,
		StreamStats: storeapi.StreamStats{Frames: int64(len(a.messages) + len(a.warnings)), FirstFrame: a.first, Elapsed: a.took},
	}
	var reason string
	switch {
	case a.err != nil:
		out.State, out.Err, reason = receipt.Failed, a.err.Error(), a.err.Error()
		if !a.asked {
			out.State = receipt.Lost
		}
	case len(a.warnings) > 0:
		out.State, reason = receipt.Warned, a.warnings[0]
	default:
		return out
	}
	sets := a.from.LabelSets
	if len(sets) == 0 {
		sets = []labels.Labels{labels.EmptyLabels()}
	}
	for _, set := range sets {
		out.Gaps = append(out.Gaps, receipt.Gap{
			Addr: a.from.Addr, Component: a.from.ComponentType, Labels: set, MinTime: q.mint, MaxTime: q.maxt, Reason: q.what + ": " + reason,
		})
	}
	return out
}

// ask puts q to all peers at once and returns the messages in the order of the list of peers.
func ask[R any](ctx context.Context, g *Gatherer, q inquiry[R]) ([]*R, []string, error) {
	callers := ctx
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	list := g.source.Endpoints()
	var answers []*answer[R]
	var wg sync.WaitGroup
	for i := range list {
		e := &list[i]
		if !q.offers(e) {
			continue
		}
		a := &answer[R]{from: e}
		answers = append(answers, a)
		if !e.Askable() {
			a.err = e.Err
			continue
		}
		a.asked = true
		wg.Go(func() {
			begin := time.Now()
			a.err = a.read(ctx, g.cfg.ResponseTimeout, q)
			a.took = time.Since(begin)
			if a.err != nil && q.strategy == thanos.PartialResponseStrategy_ABORT {
				cancel() // nobody needs the others any more
			}
		})
	}
	wg.Wait()
	for _, a := range answers {
		receipt.From(callers).Add(a.account(q))
	}
	for _, a := range answers {
		if a.err == nil {
			continue
		}
		err := deadline.Over(callers, a.err)
		if err == nil && q.strategy == thanos.PartialResponseStrategy_ABORT && errors.Is(a.err, storeapi.ErrLate) {
			err = context.DeadlineExceeded
		}
		if err != nil {
			return nil, nil, fmt.Errorf("fetch %s: %w while waiting for %s", q.what, err, a.from.Describe())
		}
	}
	return join(q.what, q.strategy, answers)
}

// read takes all messages of one peer.
func (a *answer[R]) read(ctx context.Context, timeout time.Duration, q inquiry[R]) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	errTimeout := fmt.Errorf("no answer within the response timeout of %s", timeout)
	explain := func(err error) error {
		if cause := context.Cause(ctx); errors.Is(cause, errTimeout) || errors.Is(cause, storeapi.ErrLate) {
			return cause
		}
		return storeapi.FromStatus(err)
	}
	if end, _, ok := deadline.Leaf(ctx); ok {
		defer time.AfterFunc(time.Until(end), func() { cancel(storeapi.ErrLate) }).Stop()
	}
	begin := time.Now()
	watch := func() func() bool {
		if timeout <= 0 {
			return func() bool { return true }
		}
		return time.AfterFunc(timeout, func() { cancel(errTimeout) }).Stop
	}
	stop := watch()
	stream, err := q.open(ctx, a.from)
	stop()
	if err != nil {
		return explain(err)
	}
	for {
		stop := watch()
		m, err := stream.Recv()
		stop()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return explain(err)
		}
		if a.first == 0 {
			a.first = time.Since(begin)
		}
		if w := q.warning(m); w != "" {
			a.warnings = append(a.warnings, w)
			continue
		}
		a.messages = append(a.messages, m)
	}
}

// join decides what the failures of single peers mean for the whole.
func join[R any](what string, strategy thanos.PartialResponseStrategy, answers []*answer[R]) ([]*R, []string, error) {
	var (
		out      []*R
		warnings []string
		cut      error // a failure that only says that another one ended the call
	)
	for _, a := range answers {
		if a.err != nil {
			text := fmt.Sprintf("fetch %s from %s: %v", what, a.from.Describe(), a.err)
			if strategy == thanos.PartialResponseStrategy_ABORT {
				if errors.Is(a.err, context.Canceled) {
					cut = fmt.Errorf("fetch %s from %s: %w", what, a.from.Describe(), a.err)
					continue
				}
				return nil, nil, storeapi.Abortedf("%s", text)
			}
			warnings = append(warnings, text)
		}
		if len(a.warnings) > 0 && strategy == thanos.PartialResponseStrategy_ABORT {
			return nil, nil, storeapi.Abortedf("fetch %s from %s: %s", what, a.from.Describe(), strings.Join(a.warnings, "; "))
		}
		warnings = append(warnings, a.from.Said(a.warnings)...)
		out = append(out, a.messages...)
	}
	if cut != nil {
		return nil, nil, cut
	}
	return out, warnings, nil
}

// without removes labels from a wire label set in place, where there are any to remove, and
// sorts the rest by name.
func without(set *thanos.LabelSet, remove []string) *thanos.LabelSet {
	if set == nil {
		return nil
	}
	set.Labels = slices.DeleteFunc(set.Labels, func(l *thanos.Label) bool { return slices.Contains(remove, l.GetName()) })
	slices.SortFunc(set.Labels, func(a, b *thanos.Label) int { return strings.Compare(a.GetName(), b.GetName()) })
	return set
}

// compareSets orders sorted wire label sets as labels.Compare does.
func compareSets(a, b *thanos.LabelSet) int {
	return labels.Compare(storeapi.Labels(a), storeapi.Labels(b))
}
