package budget

import (
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/promontory-io/promontory/libs/storeapi"
)

// Reason is why a request was refused.
type Reason string

// The reasons.
const (
	// TooLarge: it can never fit.
	TooLarge Reason = "too_large"
	// Busy: others hold the bytes, and the request did not want to wait.
	Busy Reason = "busy"
	// Waited: others held the bytes for as long as a request may wait.
	Waited Reason = "waited"
	// Deadlock: all who hold bytes wait for more.
	Deadlock Reason = "deadlock"
)

// Refusal is the error that a request gets which does not fit. It is a storeapi.ErrLimit and a gRPC status with code
// ResourceExhausted. All sizes are in bytes.
type Refusal struct {
	// Who is to blame, as the request said.
	Who string
	// Needed is what the request would have to hold: what it held and what it asked for.
	Needed int64
	// Limit is the whole budget, Largest the most that one request can have of it.
	Limit, Largest int64
	// InUse is what all requests held, this one included.
	InUse int64
	// Reason is why.
	Reason Reason
	// For is how long was waited in vain.
	For time.Duration
}

// Error names who asked, what for, and the limit.
func (e *Refusal) Error() string {
	text := fmt.Sprintf("memory budget: %s needs %d bytes (%s)", e.Who, e.Needed, size(e.Needed))
	limit := fmt.Sprintf("the limit is %d bytes (%s)", e.Limit, size(e.Limit))
	switch e.Reason {
	case TooLarge:
		return fmt.Sprintf("%s, %s, of which one request can have %d", text, limit, e.Largest)
	case Waited:
		return fmt.Sprintf("%s, %s, of which %d were in use for %s", text, limit, e.InUse, e.For.Round(time.Millisecond))
	case Deadlock:
		return fmt.Sprintf("%s, %s, of which %d are in use by requests that all wait for more", text, limit, e.InUse)
	default:
		return fmt.Sprintf("%s, %s, of which %d are in use", text, limit, e.InUse)
	}
}

// Unwrap gives the error its kind.
func (e *Refusal) Unwrap() error { return storeapi.ErrLimit }

// GRPCStatus gives the error its code.
func (e *Refusal) GRPCStatus() *status.Status { return status.New(codes.ResourceExhausted, e.Error()) }

// Temporary says whether the same request may fit later.
func (e *Refusal) Temporary() bool { return e.Reason != TooLarge }

// refuse makes the refusal of so many further bytes for r. b.mu is held.
func (b *Budget) refuse(r *Reservation, bytes int64, why Reason, waited time.Duration) *Refusal {
	b.metrics.refused[why].Inc()
	who := r.who
	if who == "" {
		who = "a request"
	}
	return &Refusal{
		Who: who, Needed: r.held + bytes, Limit: b.limit, Largest: b.Largest(), InUse: b.used, Reason: why, For: waited,
	}
}

// size writes a number of bytes for people.
func size(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	v, i := float64(n)/unit, 0
	for ; v >= unit && i < 5; i++ {
		v /= unit
	}
	return fmt.Sprintf("%.1f %ciB", v, "KMGTPE"[i])
}
