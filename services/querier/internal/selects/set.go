package selects

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/promontory-io/promontory/libs/gate"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/services/querier/internal/receipt"
)

// slabSize is how many series are allocated at once.
const slabSize = 64

// samplesPerChunk is what a chunk counts for in estimates.
const samplesPerChunk = 120

// seriesSet is the answer to one select.
//
// A goroutine opens the stream and waits for its first series; from then on the stream
// belongs to whoever calls Next. The gate is passed while opening only: holding it until the
// set is read would let two sets of one query wait for each other, since the engine
// reads them one after the other.
type seriesSet struct {
	ctx      context.Context //nolint:containedctx // that of the select, whose answer this is
	cancel   context.CancelFunc
	view     view
	matchers []*labels.Matcher
	hints    *storage.SelectHints
	stores   *receipt.Stats
	observe  func(SelectStats)
	started  time.Time
	// queued is how long the gate was waited for; written before the stream is opened.
	queued time.Duration

	// opened is closed by the goroutine when it has set stream and first, or err.
	opened chan struct{}
	stream storeapi.Stream
	first  bool

	// mu keeps a querier that is closed from ending the stream in the middle of a Next: an engine that gives up
	// may close before its last reader has noticed.
	mu             sync.Mutex // guards all below, and the stream once it is opened
	err            error
	began          bool // the first series was handed out
	ended          bool
	warned         annotations.Annotations
	slab           []series
	cur            *series
	ahead          *ahead // nil where nothing is decoded ahead
	series, chunks int64
}

var _ storage.SeriesSet = (*seriesSet)(nil)

// open is the goroutine that opens the stream.
func (s *seriesSet) open(g *gate.Gate, open func(context.Context) (storeapi.Stream, error)) {
	defer close(s.opened)
	defer func() {
		// What came over the wire must not end the process.
		if r := recover(); r != nil {
			if s.stream != nil {
				s.stream.Close()
			}
			s.fail(fmt.Errorf("panic while opening a select: %v\n%s", r, debug.Stack()))
		}
	}()
	leave, err := g.Enter(s.ctx)
	if err != nil {
		s.fail(err)
		return
	}
	defer leave()
	s.queued = time.Since(s.started)
	stream, err := open(s.ctx)
	if err != nil {
		s.fail(err)
		return
	}
	s.stream = stream
	s.first = stream.Next()
}

// fail is for the goroutine, and for sets that get none.
func (s *seriesSet) fail(err error) { s.err, s.stream = err, nil }

// Next implements storage.SeriesSet.
func (s *seriesSet) Next() bool {
	<-s.opened
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return false
	}
	if s.err != nil {
		s.end()
		return false
	}
	more := s.first
	if s.began {
		more = s.stream.Next()
	}
	s.began = true
	if !more {
		s.err, s.warned = s.stream.Err(), warnings(s.stream.Warnings())
		s.end()
		return false
	}
	if len(s.slab) == 0 {
		s.slab = make([]series, slabSize)
	}
	s.cur, s.slab = &s.slab[0], s.slab[1:]
	at := s.stream.At()
	s.cur.lset, s.cur.chunks, s.cur.view = at.Labels, s.view.inRange(at.Chunks), &s.view
	s.series++
	s.chunks += int64(len(at.Chunks))
	if s.ahead != nil {
		s.ahead.add(s.cur)
	}
	return true
}

// end frees the stream, and counts what it cost. It is called with mu held.
func (s *seriesSet) end() {
	s.ended = true
	s.cancel()
	if s.stream != nil {
		s.stream.Close()
	}
	receipt.From(s.ctx).Add(s.stores.All()...)
	if s.observe != nil {
		s.observe(SelectStats{
			Matchers: s.matchers, Hints: s.hints, Took: time.Since(s.started),
			Series: s.series, Chunks: s.chunks, Samples: s.chunks * samplesPerChunk,
			Stores: s.stores.All(),
		})
	}
}

// close ends the stream at any point, from any goroutine.
func (s *seriesSet) close() {
	s.cancel() // whoever waits for a store in Next comes back
	<-s.opened
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ahead != nil {
		s.ahead.stop()
	}
	if !s.ended {
		s.err = errClosed
		s.end()
	}
}

// At implements storage.SeriesSet. The series stays valid after Next and Close.
func (s *seriesSet) At() storage.Series { return s.cur }

// Err implements storage.SeriesSet.
func (s *seriesSet) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		return nil
	}
	return s.err
}

// Warnings implements storage.SeriesSet; they are complete after the end of the set.
func (s *seriesSet) Warnings() annotations.Annotations {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.warned
}
