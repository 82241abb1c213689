package downstream

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/promontory-io/promontory/services/querier/internal/frontend/fair"
)

// Pauses between tries: they double from the first to the longest.
const (
	firstPause   = 200 * time.Millisecond
	longestPause = 2 * time.Second
)

// Retrying returns a caller that tries up to tries times, as long as next has no answer or says that the server is at fault
// (5xx). retries is told how often a call was tried again.
func Retrying(next Caller, tries int, retries func(int)) Caller {
	return CallerFunc(func(ctx context.Context, r *Request) (*Reply, error) {
		pause := firstPause
		for n := 0; ; n++ {
			reply, err := next.Call(ctx, r)
			if n+1 >= tries || !again(ctx, reply, err) {
				retries(n)
				return reply, err
			}
			// Between half and one and a half of the pause, so that those who failed together do not return together.
			wait := time.NewTimer(pause/2 + rand.N(pause)) //nolint:gosec // jitter
			select {
			case <-ctx.Done():
				wait.Stop()
				retries(n)
				return nil, context.Cause(ctx)
			case <-wait.C:
			}
			pause = min(2*pause, longestPause)
		}
	})
}

func again(ctx context.Context, reply *Reply, err error) bool {
	if ctx.Err() != nil || errors.Is(err, ErrTooLarge) || errors.Is(err, fair.ErrTooMany) {
		return false
	}
	return err != nil || reply.Code >= http.StatusInternalServerError
}

// Queued returns a caller that waits for the turn of its tenant.
func Queued(next Caller, q *fair.Queue, tenant func(*Request) string) Caller {
	return CallerFunc(func(ctx context.Context, r *Request) (*Reply, error) {
		leave, err := q.Enter(ctx, tenant(r))
		if err != nil {
			return nil, err
		}
		defer leave()
		return next.Call(ctx, r)
	})
}
