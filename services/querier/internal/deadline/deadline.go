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
