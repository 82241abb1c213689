package fanout

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/services/querier/internal/receipt"
)

// call is the stream of one store, or of whichever replica of it was chosen.
type call interface {
	storeapi.Stream
	// Stats may be called when the stream is closed.
	Stats() storeapi.StreamStats
	// Hedged is how many more replicas were asked.
	Hedged() int
}

// plain is the stream of a store without replicas.
type plain struct {
	*storeapi.ClientStream
}

func (plain) Hedged() int { return 0 }

// overspent marks the error of a request that may not read on; no store is to blame.
type overspent struct{ error }

func (e overspent) Unwrap() error { return e.error }

// source is the stream of one store. Where nothing may be missing, a warning of the store ends it.
type source struct {
	call    call
	target  target
	abort   bool
	any     bool
	done    bool // read to its regular end
	err     error
	failed  error
	empty   func()
	counted bool
}

var _ storeapi.Stream = (*source)(nil)

func (s *source) Next() bool {
	if s.err != nil {
		return false
	}
	ok := s.call.Next()
	if s.abort {
		if w := s.call.Warnings(); len(w) > 0 {
			s.err = errors.New(w[0])
			return false
		}
	}
	s.done = !ok && s.call.Err() == nil
	switch {
	case ok:
		s.any = true
	case !s.any && !s.counted && s.call.Err() == nil:
		s.counted = true
		s.empty()
	}
	return ok
}

func (s *source) At() *storeapi.Series { return s.call.At() }

func (s *source) Err() error {
	if s.err != nil {
		return s.err
	}
	return s.call.Err()
}

// Warnings are those of the store with its name, which it does not know itself.
func (s *source) Warnings() []string  { return s.target.Said(s.call.Warnings()) }
func (s *source) Hints() []*anypb.Any { return s.call.Hints() }
func (s *source) Close()              { s.call.Close() }

// account closes the books on the stream, which is closed.
func (s *source) account() receipt.Store {
	out := s.target.contribution()
	out.StreamStats, out.Hedged = s.call.Stats(), s.call.Hedged()
	out.Warnings = s.call.Warnings()
	out.Gateway = gatewayStats(s.call.Hints())
	switch {
	case s.failed != nil:
		out.State, out.Err = receipt.Failed, s.failed.Error()
	case len(out.Warnings) > 0:
		out.State = receipt.Warned
	case !s.done:
		out.State = receipt.Cut
	}
	s.report(out.StreamStats)
	return out
}

// report tells how the store did to whoever decides whether it is asked again.
func (s *source) report(st storeapi.StreamStats) {
	if s.target.call == nil {
		return
	}
	switch {
	case s.failed != nil && isFault(s.failed):
		s.target.call.Failed(s.failed)
	case st.Frames > 0:
		s.target.call.Succeeded(st.FirstFrame)
	case s.failed == nil && s.counted:
		s.target.call.Succeeded(st.Elapsed)
	default:
		s.target.call.Dropped()
	}
}

// late is the failure of the request that could not wait any longer for a store.
func (s *source) late(err error) error {
	return fmt.Errorf("%w while waiting for %s", err, s.target.Describe())
}
