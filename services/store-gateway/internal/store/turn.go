package store

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/promontory-io/promontory/libs/budget"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/thanos"
)

const (
	// watchInterval is how often requests are looked at whose clients may have stopped to read.
	watchInterval = 250 * time.Millisecond
	// stepAside is how long a client may keep a request from going on before another one takes its place among those that
	// are worked on.
	stepAside = time.Second
	// maxLineUp is how long a request waits at a gate before it is refused.
	maxLineUp = 10 * time.Second
	// largeLookUpsAtOnce bounds look-ups of many series, which hold the most memory for the shortest time.
	largeLookUpsAtOnce = 8
)

// lane is a gate that requests go through.
type lane int

const (
	largeLookUps lane = iota // looking for many series in one block
	smallLookUps             // or few
	largeAnswers             // reading and sending many
	smallAnswers             // or few
	numLanes
)

func (l lane) String() string {
	return [...]string{"look-ups of many series", "look-ups of few series", "large answers", "small answers"}[l]
}

// turn is one Series request on its way through the gate and to its client.
type turn struct {
	// res is what the request holds of the budget; nil before there is anything, and for calls within the process.
	res *budget.Reservation
	// sends is odd while series are handed to the client, and changes with each.
	sends atomic.Uint64
	// evicted is closed, after reason was set, when the request must end although its client does not take what is sent.
	evicted chan struct{}
	reason  error

	mu    sync.Mutex // guards lane and leave
	lane  lane
	leave func() // nil while the request is in no gate

	// What follows belongs to the watcher.
	seen  uint64
	since time.Time
	gone  bool
}

// turns are the requests that are being answered.
type turns struct {
	mu  sync.Mutex // guards all
	all map[*turn]struct{}
	// waiting is how many wait for the gate; ending waits for handlers whose requests were ended before them.
	waiting atomic.Int64
	ending  sync.WaitGroup
}

type turnKey struct{}

// turnOf is the turn that the interceptor gave the request, or a new one for calls within the process.
func turnOf(ctx context.Context) *turn {
	if t, ok := ctx.Value(turnKey{}).(*turn); ok {
		return t
	}
	return &turn{}
}

// StreamInterceptor makes it possible to end a Series call whose client has stopped to read: its handler is blocked in sending, and
// only the end of the call unblocks it.
func (s *Store) StreamInterceptor() grpc.StreamServerInterceptor {
	return func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		if info.FullMethod != thanos.Store_Series_FullMethodName {
			return handler(srv, ss)
		}
		t := &turn{evicted: make(chan struct{})}
		done := make(chan error, 1)
		s.turns.ending.Add(1)
		go func() {
			defer s.turns.ending.Done()
			defer func() {
				if r := recover(); r != nil {
					done <- status.Errorf(codes.Internal, "panic while series are sent: %v", r)
				}
			}()
			defer func() { t.res.Release() }()
			done <- handler(srv, &turnStream{ServerStream: ss, s: s, t: t, ctx: context.WithValue(ss.Context(), turnKey{}, t)})
		}()
		select {
		case err := <-done:
			return err
		case <-t.evicted:
			return storeapi.ToStatus(t.reason)
		}
	}
}

// turnStream admits the request when it has arrived, and before it is worked on.
type turnStream struct {
	grpc.ServerStream
	s   *Store
	t   *turn
	ctx context.Context //nolint:containedctx // it is the stream's
}

// RecvMsg receives the request.
func (s *turnStream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	req, ok := m.(*thanos.SeriesRequest)
	if !ok || s.t.res != nil {
		return nil
	}
	res, err := s.s.admit(s.ctx, req.GetMatchers())
	if err != nil {
		return storeapi.ToStatus(err)
	}
	s.t.res = res
	return nil
}

// Context has the turn in it.
func (s *turnStream) Context() context.Context { return s.ctx }

// watch has the request watched until exit is called.
func (s *Store) watch(t *turn) (exit func()) {
	s.turns.mu.Lock()
	s.turns.all[t] = struct{}{}
	s.turns.mu.Unlock()
	return func() {
		s.turns.mu.Lock()
		delete(s.turns.all, t)
		s.turns.mu.Unlock()
		t.aside()
	}
}

// lookUp waits for the turn of a look-up in one block.
func (s *Store) lookUp(ctx context.Context, large bool) (leave func(), err error) {
	if large {
		return s.lineUp(ctx, largeLookUps)
	}
	return s.lineUp(ctx, smallLookUps)
}

// begin goes through the gate of answers.
func (s *Store) begin(ctx context.Context, t *turn, l lane) error {
	leave, err := s.lineUp(ctx, l)
	if err != nil {
		return err
	}
	t.inside(l, leave)
	return nil
}

// lineUp goes through a gate, or refuses after some time.
func (s *Store) lineUp(ctx context.Context, l lane) (leave func(), err error) {
	most := maxLineUp
	if deadline, ok := ctx.Deadline(); ok {
		most = min(most, time.Until(deadline)/8*7) // there is time left to say so
	}
	wait, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	s.turns.waiting.Add(1)
	leave, err = s.lanes[l].Enter(wait)
	s.turns.waiting.Add(-1)
	if err != nil && ctx.Err() == nil {
		return nil, storeapi.Limitf("no place was free for %s: %d %s are worked on at once", most.Round(time.Millisecond), s.widths[l], l)
	}
	return leave, err
}

// pass goes through a gate that the request has been through before, however long it takes: its client has a part of the answer.
func (s *Store) pass(ctx context.Context, t *turn, l lane) error {
	s.turns.waiting.Add(1)
	leave, err := s.lanes[l].Enter(ctx)
	s.turns.waiting.Add(-1)
	if err != nil {
		return err
	}
	t.inside(l, leave)
	return nil
}

// inside says that the request has a place, and how it is given up.
func (t *turn) inside(l lane, leave func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lane, t.leave = l, leave
}

// send hands something to the client. When the request was put aside meanwhile it goes through the gate again.
func (s *Store) send(ctx context.Context, t *turn, f func() error) error {
	t.sends.Add(1)
	err := f()
	t.sends.Add(1)
	if err != nil {
		return err
	}
	t.mu.Lock()
	inside, l := t.leave != nil, t.lane
	t.mu.Unlock()
	if inside {
		return nil
	}
	return s.pass(ctx, t, l)
}

// aside leaves the gate it is in.
func (t *turn) aside() {
	t.mu.Lock()
	leave := t.leave
	t.leave = nil
	t.mu.Unlock()
	if leave != nil {
		leave()
	}
}

// Watch looks after clients that stop to read, until ctx ends: their requests step aside from the gate, and end if others wait for
// memory or the gate for as long as [Config.SlowClient] says. It returns when all that it ended are gone.
func (s *Store) Watch(ctx context.Context) error {
	defer s.turns.ending.Wait()
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case now := <-tick.C:
			s.look(now)
		}
	}
}

// look goes through all requests once.
func (s *Store) look(now time.Time) {
	s.turns.mu.Lock()
	defer s.turns.mu.Unlock()
	waiting := s.turns.waiting.Load() + int64(s.budget.Waiting())
	for t := range s.turns.all {
		if n := t.sends.Load(); n != t.seen || n%2 == 0 {
			t.seen, t.since = n, now
			continue
		}
		stalled := now.Sub(t.since)
		if stalled >= stepAside {
			t.aside()
		}
		if t.evicted == nil || t.gone || s.cfg.SlowClient <= 0 || waiting == 0 || stalled < s.cfg.SlowClient {
			continue
		}
		t.gone = true
		t.reason = storeapi.Limitf("the client has not read for %s, and %d other requests wait for what this one holds", stalled.Round(time.Second), waiting)
		s.metrics.evicted.Inc()
		close(t.evicted)
	}
}
