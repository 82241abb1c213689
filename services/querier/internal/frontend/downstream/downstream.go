// Package downstream asks the querier behind a frontend: one at an address, or the one in the same process.
//
// A [Caller] gives one answer to one request. Around it are laid what every request needs: its turn ([Queued]) and another try
// after a failure that is not the request's ([Retrying]).
package downstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync/atomic"
)

// Request is a call of the API that was made out of another.
type Request struct {
	// Of is the request of the client: path, headers and connection are its.
	Of *http.Request
	// Path is that of the call, as it is below the address of the querier.
	Path string
	// Form is the parameters.
	Form url.Values
	// Header are set besides those of Of.
	Header http.Header
	// Room bounds the bodies of all answers to one request of a client together; nil does not.
	Room *Room
}

// Reply is an answer of any kind.
type Reply struct {
	Code   int
	Header http.Header
	Body   []byte
}

// OK tells whether the call was answered as it was meant.
func (r *Reply) OK() bool { return r.Code == http.StatusOK }

// Caller answers requests. It is safe for concurrent use. An error means that there is no answer; an answer that says no is
// none.
type Caller interface {
	Call(ctx context.Context, r *Request) (*Reply, error)
}

// CallerFunc is a function that is a [Caller].
type CallerFunc func(ctx context.Context, r *Request) (*Reply, error)

// Call implements [Caller].
func (f CallerFunc) Call(ctx context.Context, r *Request) (*Reply, error) { return f(ctx, r) }

// ErrTooLarge is returned where the answers to one request do not fit into its room.
var ErrTooLarge = errors.New("the answer is too large")

// Room is the bytes that the answers to one request may take. It is safe for concurrent use.
type Room struct {
	limit int64
	used  atomic.Int64
}

// NewRoom returns room of limit bytes; 0 is without bound.
func NewRoom(limit int64) *Room { return &Room{limit: limit} }

// take takes n bytes.
func (r *Room) take(n int) error {
	if r == nil || r.limit <= 0 {
		return nil
	}
	if used := r.used.Add(int64(n)); used > r.limit {
		return fmt.Errorf("%w: more than %d bytes", ErrTooLarge, r.limit)
	}
	return nil
}

// buffer gathers a body within the room.
type buffer struct {
	// b is not embedded: its ReadFrom would take a body past the room.
	b    bytes.Buffer
	room *Room
}

// Write implements io.Writer. The room pays for what the buffer grows by.
func (b *buffer) Write(p []byte) (int, error) {
	if err := b.room.take(len(p)); err != nil {
		return 0, err
	}
	return b.b.Write(p)
}

var _ io.Writer = (*buffer)(nil)
