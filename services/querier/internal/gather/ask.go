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
}

// answer is what one peer said.
type answer[R any] struct {
	from     *endpoints.Endpoint
	messages []*R
	warnings []string
	err      error
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
		wg.Go(func() {
			a.err = a.read(ctx, g.cfg.ResponseTimeout, q)
			if a.err != nil && q.strategy == thanos.PartialResponseStrategy_ABORT {
				cancel() // nobody needs the others any more
			}
		})
	}
	wg.Wait()
	for _, a := range answers {
		if a.err == nil {
			continue
		}
		if err := deadline.Over(callers, a.err); err != nil {
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
		if errors.Is(context.Cause(ctx), errTimeout) {
			return errTimeout
		}
		return storeapi.FromStatus(err)
	}
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
