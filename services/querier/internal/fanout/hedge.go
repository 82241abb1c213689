package fanout

import (
	"context"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/promontory-io/promontory/libs/storeapi"
)

const (
	// hedgeUnknown is how long a group of which little is known may take until another replica is asked as well.
	hedgeUnknown = 500 * time.Millisecond
	// hedgeLeast keeps quick groups from being asked twice over nothing.
	hedgeLeast = 20 * time.Millisecond
)

// hedgeBudget bounds how many calls are doubled, to a tenth and a few: where all replicas are slow, asking them
// twice makes them slower. The zero value is ready; it is safe for concurrent use.
type hedgeBudget struct {
	mu           sync.Mutex // guards both
	calls, spent int64
}

func (b *hedgeBudget) call() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls++
}

func (b *hedgeBudget) spend() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.spent >= 5+b.calls/10 {
		return false
	}
	b.spent++
	return true
}

// hedged is the stream of a group of replicas with the same data: one of them is asked, and another one if
// that takes longer than usual or fails before its first message. Whoever answers first is read, the other call is ended.
type hedged struct {
	open   func() *storeapi.ClientStream
	proxy  *Proxy
	cancel context.CancelFunc

	// chosen is closed by the goroutine when it has set winner, loser and count.
	chosen chan struct{}
	winner *storeapi.ClientStream
	loser  *storeapi.ClientStream
	count  int
}

var _ call = (*hedged)(nil)

// hedge starts the call; open makes one call under the request's context each time.
func (p *Proxy) hedge(ctx context.Context, addr string, open func() *storeapi.ClientStream) *hedged {
	p.hedges.call()
	ctx, cancel := context.WithCancel(ctx)
	h := &hedged{open: open, proxy: p, cancel: cancel, chosen: make(chan struct{})}
	delay, known := p.cfg.Health.Latency(addr)
	if !known {
		delay = hedgeUnknown
	}
	first := open()
	go h.race(ctx, first, max(delay, hedgeLeast))
	return h
}

// race finds the stream to read.
func (h *hedged) race(ctx context.Context, first *storeapi.ClientStream, delay time.Duration) {
	defer close(h.chosen)
	h.winner = first
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return
	case <-first.Answered():
		if err := first.FirstErr(); err == nil || !isFault(err) {
			return
		}
	case <-timer.C:
	}
	if !h.proxy.hedges.spend() {
		return
	}
	h.count = 1
	h.proxy.metrics.hedged.Inc()
	second := h.open()
	h.loser = second
	one, other := first.Answered(), second.Answered()
	for one != nil || other != nil {
		select {
		case <-ctx.Done():
			return
		case <-one:
			if first.FirstErr() == nil {
				return
			}
			one = nil
		case <-other:
			if second.FirstErr() == nil {
				h.winner, h.loser = second, first
				h.proxy.metrics.hedgesWon.Inc()
				return
			}
			other = nil
		}
	}
}

// stream waits for the choice. The other call is ended as soon as it is made.
func (h *hedged) stream() *storeapi.ClientStream {
	<-h.chosen
	if h.loser != nil {
		h.loser.Close()
	}
	return h.winner
}

func (h *hedged) Next() bool                  { return h.stream().Next() }
func (h *hedged) At() *storeapi.Series        { return h.winner.At() }
func (h *hedged) Err() error                  { return h.stream().Err() }
func (h *hedged) Warnings() []string          { return h.stream().Warnings() }
func (h *hedged) Hints() []*anypb.Any         { return h.stream().Hints() }
func (h *hedged) Stats() storeapi.StreamStats { return h.stream().Stats() }
func (h *hedged) Hedged() int                 { <-h.chosen; return h.count }

// Close ends the race and both calls.
func (h *hedged) Close() {
	h.cancel()
	h.stream().Close()
}
