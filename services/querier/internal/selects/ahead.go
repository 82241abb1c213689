package selects

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/promontory-io/promontory/libs/dedup"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/libs/xorchunk"
)

const (
	// pointBytes is what a decoded sample takes.
	pointBytes = 16
	// aheadBytes is how many bytes of decoded samples a process may hold that were not asked for yet.
	aheadBytes = 64 << 20
	// fewSamples is how many samples a series has at least for which it pays to be handed from one goroutine to another.
	fewSamples = 32
)

// aheadPool is what the selects of a process share. It bounds the decoding ahead by the processors and by memory.
type aheadPool struct {
	workers chan struct{}
	held    atomic.Int64 // bytes of decoded samples
	max     int64
}

// newAheadPool returns nil, which decodes nothing ahead, where there is one processor only.
func newAheadPool(processors int, maxBytes int64) *aheadPool {
	if processors < 2 {
		return nil
	}
	return &aheadPool{workers: make(chan struct{}, processors), max: maxBytes}
}

func defaultAhead() *aheadPool { return newAheadPool(runtime.GOMAXPROCS(0), aheadBytes) }

// ahead decodes and merges the series of one select in the order in which they came, before the engine asks for them:
// while stores still send, and beside the evaluation of the series before.
//
// It never has to be waited for, but for the one series it is at. What it has not begun when the engine asks for it is
// decoded by the engine's goroutine, sample by sample.
type ahead struct {
	pool *aheadPool

	mu      sync.Mutex // guards all below, and the states of the series
	done    sync.Cond  // a series has been decoded
	queue   []*series
	running bool
	stopped bool
	held    int64
	free    [][]xorchunk.Point
	wg      sync.WaitGroup

	reader iterator // of the goroutine
}

// stage is where a series is on its way through ahead.
type stage uint8

const (
	waiting stage = iota
	decoding
	decoded
	// taken: whoever reads it now decodes it.
	taken
)

// ready is a series that has been decoded.
type ready struct {
	points []xorchunk.Point
	err    error // comes behind the points
}

// newAhead returns nil for a select whose samples the engine will mostly pass over.
func newAhead(pool *aheadPool, hints *storage.SelectHints, skipChunks bool) *ahead {
	if pool == nil || skipChunks || sparse(hints) {
		return nil
	}
	a := &ahead{pool: pool}
	a.done.L = &a.mu
	return a
}

// sparse reports whether the engine reads less than about half of the samples: the steps are much further apart than
// the samples that it looks at for each. Chunks between are then not decoded at all when they are read on demand.
func sparse(h *storage.SelectHints) bool {
	if h == nil || h.Step == 0 {
		return false
	}
	// An iterator looks at so much more to know where it is; an instant selector reads a lookback instead of a range.
	around := 2 * dedup.LookAround(0).Milliseconds()
	return h.Step > h.Range+around
}

// add appends a series to the queue.
func (a *ahead) add(s *series) {
	n := 0
	for i := range s.chunks {
		samples, _ := storeapi.Measure(&s.chunks[i])
		n += int(samples)
	}
	if n < fewSamples {
		return
	}
	if s.view.merge != "" {
		n = n/2 + n/8 // usually a pair; a guess
	}
	s.ahead, s.guess = a, n
	a.mu.Lock()
	defer a.mu.Unlock()
	a.queue = append(a.queue, s)
	a.kick()
}

// take returns what has been decoded of s; false says that the caller has to do it.
func (a *ahead) take(s *series) (ready, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for s.stage == decoding {
		a.done.Wait()
	}
	was := s.stage
	s.stage = taken
	a.kick()
	if was != decoded {
		return ready{}, false
	}
	r := s.ready
	s.ready = ready{}
	return r, true
}

// release gives points back that nobody reads any more.
func (a *ahead) release(points []xorchunk.Point) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.account(-int64(cap(points)) * pointBytes)
	if len(a.free) < 2 {
		a.free = append(a.free, points[:0])
	}
	a.kick()
}

// stop ends the work and waits for it. What has been decoded can still be taken.
func (a *ahead) stop() {
	a.mu.Lock()
	a.stopped, a.queue = true, nil
	a.mu.Unlock()
	a.wg.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	// What is read from now on is the reader's own.
	a.account(-a.held)
	a.free = nil
}

// account is called with mu held.
func (a *ahead) account(bytes int64) {
	bytes = max(bytes, -a.held)
	a.held += bytes
	a.pool.held.Add(bytes)
}

// kick starts the goroutine if there is something to do for it. It is called with mu held.
func (a *ahead) kick() {
	if a.running || a.stopped || a.next() == nil {
		return
	}
	select {
	case a.pool.workers <- struct{}{}:
	default:
		return // all processors are busy with it; the next call tries again
	}
	a.running = true
	a.wg.Add(1)
	go a.run()
}

// next is the series to decode next, nil if there is none, or no room. It is called with mu held.
func (a *ahead) next() *series {
	for len(a.queue) > 0 && a.queue[0].stage != waiting {
		a.queue = a.queue[1:]
	}
	if len(a.queue) == 0 {
		return nil
	}
	need := int64(a.queue[0].guess) * pointBytes
	// One select may have half of what there is, so that the next one has something too.
	if a.held+need > a.pool.max/2 || a.pool.held.Load()+need > a.pool.max {
		return nil
	}
	return a.queue[0]
}

func (a *ahead) run() {
	defer a.wg.Done()
	defer func() { <-a.pool.workers }()
	a.mu.Lock()
	defer a.mu.Unlock()
	for {
		s := a.next()
		if s == nil || a.stopped {
			a.running = false
			return
		}
		s.stage = decoding
		var buf []xorchunk.Point
		if n := len(a.free); n > 0 {
			buf, a.free = a.free[n-1], a.free[:n-1]
		}
		a.mu.Unlock()
		r, ok := a.reader.readAll(s, buf)
		a.mu.Lock()
		if s.stage = taken; ok {
			s.stage, s.ready = decoded, r
			a.account(int64(cap(r.points)) * pointBytes)
		}
		a.done.Broadcast()
	}
}

// readAll reads a series of floats into buf, which may be too small; false for a series that has histograms.
func (i *iterator) readAll(s *series, buf []xorchunk.Point) (r ready, ok bool) {
	defer func() {
		// What came over the wire must not end the process.
		if p := recover(); p != nil {
			*i = iterator{}
			r, ok = ready{err: fmt.Errorf("panic while reading %s: %v\n%s", s.lset, p, debug.Stack())}, true
		}
	}()
	if cap(buf) < s.guess {
		buf = make([]xorchunk.Point, 0, s.guess)
	}
	i.reset(s)
	for {
		switch i.Next() {
		case chunkenc.ValNone:
			return ready{points: buf, err: i.Err()}, true
		case chunkenc.ValFloat:
			t, v := i.At()
			buf = append(buf, xorchunk.Point{T: t, V: v})
		default:
			return ready{}, false
		}
	}
}
