// Package deadline tells the end of a request from the failure of a peer.
package deadline

import (
	"context"
	"errors"
	"time"
)

// slack is by how much a peer's clock for our deadline may run ahead of ours: it was told the time left, and
// may end the call before we do.
const slack = 250 * time.Millisecond

// Over returns the error of ctx when the request it belongs to has come to its end, and err, a peer's error, with
// it; nil when err is the peer's own. A call that the peer ended by our deadline counts as ended by it.
func Over(ctx context.Context, err error) error {
	if ctxErr := ctx.Err(); ctxErr != nil {
		return ctxErr
	}
	at, ok := ctx.Deadline()
	if ok && errors.Is(err, context.DeadlineExceeded) && time.Until(at) < slack {
		return context.DeadlineExceeded
	}
	return nil
}

const (
	// shortest is the time that a request must have for some of it to be kept.
	shortest = time.Second
	// mostKept is the most that is kept of the time of a request.
	mostKept = 15 * time.Second
)

// Leaf returns until when answers of peers are waited for in the request of ctx: a quarter of its time, at most
// fifteen seconds, is kept for doing something with what has come, so that a peer that hangs is missing from the answer instead of
// ending it. grace is how long a peer that was not waited for before may take after that. ok is false
// where there is no deadline, or too little time to keep some of it.
func Leaf(ctx context.Context) (at time.Time, grace time.Duration, ok bool) {
	end, ok := ctx.Deadline()
	if !ok {
		return time.Time{}, 0, false
	}
	left := time.Until(end)
	if left < shortest {
		return time.Time{}, 0, false
	}
	kept := min(left/4, mostKept)
	return end.Add(-kept), kept / 4, true
}
