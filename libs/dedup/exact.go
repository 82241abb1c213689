package dedup

import (
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/promontory-io/promontory/libs/chunks"
	"github.com/promontory-io/promontory/libs/downsample"
)

// The rule of exact.
//
// Every chunk has a rank (piece.better) that it gets from its own bytes. At any time the best
// chunk that has samples around it is the owner, and its samples are the merged series. Where the
// owner has a gap, which is more than one and a half of the scrape interval learnt from its last samples, the
// best of the remaining chunks fills it, whose gaps the next one fills, and so on. At the
// edges of a gap samples of the filling replica are left out where the two replicas together are
// dense enough without (wide), and where they would go back in true time (order.go). Between a
// chunk and one that goes on with it (near) nobody is asked to fill in.
//
// Nothing in this looks further than to the chunks that cover a time, and lookAround to both sides of it. So
// the same sample is chosen for the same time in every query whose stores were asked for whole
// chunks over a range that is wider by LookAround than what is then looked at. There is no state
// that a query could enter too late for: replicas have no identity here, only chunks do, since the
// label that told them apart is gone, and what was followed an hour ago does not matter.
//
// All values are values that some replica had. The one exception is a counter of which some
// chunks are downsampled: its resets are evened out, as the aggregate itself does it, and so
// all values differ from the true ones by a constant between two resets (exact_counter.go).
const (
	// lookAround is how far, in milliseconds, a choice may depend on what is before and after it. Chunks
	// of replicas that scrape more rarely than this/1.25 are not linked.
	lookAround = 5 * 60 * 1000
	// maxSkew is how far, in milliseconds, the clocks of replicas may be apart for
	// the order of their samples to be put right.
	maxSkew = 2 * 60 * 1000
)

// exactIterator merges chunks by the rule above. It holds only the chunks around the current
// time, opens a chunk when it becomes the owner somewhere, and reads it once; to put right the order
// of samples at a gap it reads the chunks on both sides once more.
type exactIterator struct {
	chks  []chunks.AggrChunk
	aggrs []chunks.Aggr
	next  int   // index of the chunk to load next
	look  int64 // how far before a time one has to begin to arrive there by the rule

	active []*piece // loaded, the best first
	loaded bool     // some were loaded since others were last retired
	// nextMin is the minimum time of the next chunk, so that most calls of load end at once.
	nextMin int64
	round   int // counts the steps; pieces banned in it are not asked any more

	// The last sample, from which the next one is searched: x and its piece. The piece is nil
	// where the search begins without one.
	x     int64
	owner *piece
	v     float64
	typ   chunkenc.ValueType // ValNone before the first and after the last sample
	seq   int
	every int64 // the scrape interval learnt up to x
	// clear is a time before which nothing but the owner's next sample can come, unless it has a gap.
	clear int64

	adjacent bool   // the current sample follows the one before it in its chunk
	marks    []mark // staleness markers to be returned before the owner's sample at hand
	onMark   bool   // the current sample is marks[0]
	after    *piece // has the sample behind the markers; nil for none

	ended bool
	err   error

	even evener

	freePieces []*piece
	freeCurs   []*cursor
	freeProbes []*probe
}

func (e *exactIterator) reset(chks []chunks.AggrChunk, aggrs []chunks.Aggr, evened bool) {
	for _, p := range e.active {
		e.free(p)
	}
	clear(e.active)
	*e = exactIterator{
		chks: chks, aggrs: aggrs, x: math.MinInt64, clear: math.MinInt64,
		active: e.active[:0], marks: e.marks[:0], even: evener{on: evened}, nextMin: math.MinInt64,
		look: lookAround, freePieces: e.freePieces, freeCurs: e.freeCurs, freeProbes: e.freeProbes,
	}
	for i := range chks {
		if chks[i].Aggr != nil {
			e.look = lookAround + 2*downsample.Resolution1h
			break
		}
	}
}

// Next implements chunkenc.Iterator.
func (e *exactIterator) Next() chunkenc.ValueType {
	if e.ended {
		return chunkenc.ValNone
	}
	if e.onMark {
		return e.afterMark()
	}
	p := e.owner
	if p != nil {
		c := p.cur
		seen := len(c.marks)
		c.next()
		if c.err != nil {
			e.err = c.err
			return e.end()
		}
		if c.typ != chunkenc.ValNone && c.t < e.clear && !gap(c.t-e.x, c.before) && len(c.marks) == seen {
			e.take(p)
			return e.typ
		}
	}
	return e.step()
}

// Seek implements chunkenc.Iterator. Chunks that end well before t are passed over unread.
func (e *exactIterator) Seek(t int64) chunkenc.ValueType {
	if e.ended {
		return chunkenc.ValNone
	}
	if e.typ != chunkenc.ValNone && e.AtT() >= t {
		return e.typ
	}
	// Not from t itself: whether a sample is chosen depends on its neighbourhood.
	if from := minus(t, e.look); !e.even.on && from > e.x {
		e.x, e.owner, e.clear, e.typ = from, nil, math.MinInt64, chunkenc.ValNone
		e.onMark, e.marks = false, e.marks[:0]
	}
	for e.typ == chunkenc.ValNone || e.AtT() < t {
		if e.Next() == chunkenc.ValNone {
			return chunkenc.ValNone
		}
	}
	return e.typ
}

// step finds the next sample where it need not be the owner's next one.
func (e *exactIterator) step() chunkenc.ValueType {
	if e.loaded {
		e.retire()
	}
	p, lonely := e.resolve()
	if e.err != nil {
		return e.end()
	}
	// Markers count where the merged series has a gap.
	e.marks = e.marks[:0]
	if p == nil || lonely {
		e.gather(p)
	}
	if len(e.marks) > 0 {
		e.markBefore(p)
		return e.typ
	}
	if p == nil {
		return e.end()
	}
	e.settle(p)
	return e.typ
}

func (e *exactIterator) end() chunkenc.ValueType {
	e.ended, e.typ, e.onMark = true, chunkenc.ValNone, false
	return chunkenc.ValNone
}

// settle makes p's sample at hand the current one and finds out for how long p may go on.
func (e *exactIterator) settle(p *piece) {
	e.take(p)
	e.clear = math.MinInt64
	e.load(plus(p.maxt, maxSkew))
	until := int64(math.MaxInt64)
	for _, q := range e.active {
		if q == p {
			break
		}
		switch {
		case q.mint > e.x:
			until = min(until, minus(q.mint, maxSkew))
		case q.maxt > e.x:
			return // p only fills a gap
		}
	}
	e.clear = until
}

// take makes p's sample at hand the current one.
func (e *exactIterator) take(p *piece) {
	c := p.cur
	if e.even.on {
		e.even.add(e, p)
	}
	e.adjacent = e.owner == p && c.seq == e.seq+1
	e.owner, e.x, e.v, e.typ, e.seq, e.every = p, c.t, c.v, c.typ, c.seq, c.est
}

// resolve finds the piece that has the next sample after x, at hand at its cursor, nil for none.
// lonely: that sample comes after a gap that nobody fills.
func (e *exactIterator) resolve() (next *piece, lonely bool) {
	e.round++
	for {
		p, cover, linked := e.first()
		late := p != nil && next != nil && p.cur.t >= next.cur.t
		if e.err != nil || p == nil || (late && cover == nil) {
			return next, next != nil
		}
		if late {
			cover.banned = e.round // it has the same gap, but the next one may fill it
			continue
		}
		if !e.fits(p, next) {
			p.banned = e.round
			continue
		}
		if linked || !e.gapBefore(p, cover) {
			return p, false
		}
		next = p
		if cover == nil {
			return next, true // nobody else is there
		}
		cover.banned = e.round
	}
}

// gapBefore reports whether something is missing between x and p's sample at hand, while cover owns the time
// between.
func (e *exactIterator) gapBefore(p, cover *piece) bool {
	c := p.cur
	switch e.owner {
	case p:
		return gap(c.t-e.x, c.before)
	case nil:
		// The search began here: the chunk that is read here knows.
		if cover != nil {
			c = cover.cur
		}
		return c.hasPrev && gap(c.t-c.prevT, c.before)
	}
	return wide(c.t-e.x, smaller(e.every, c.before))
}

// first finds the next sample after x by ownership among the pieces not banned. p has
// it at hand; cover is the piece that owns the time between, if any; linked: p goes on with
// the owner of x, so that nothing can be missing between.
func (e *exactIterator) first() (p, cover *piece, linked bool) {
	e.load(plus(e.x, lookAround))
	for {
		cover = nil
		for _, q := range e.active {
			if q.covers(e.x) && !e.isBanned(q) {
				cover = q
				break
			}
		}
		if cover == nil {
			return e.begins()
		}
		if q := e.successor(cover); q != nil {
			return q, cover, true
		}
		if e.open(cover); cover.cur.over() {
			if e.err != nil {
				return nil, nil, false
			}
			continue // it had nothing but markers left, and does not cover x any more
		}
		e.load(cover.cur.t)
		if q := e.earliest(cover, cover.cur.t); q != nil {
			return q, cover, false
		}
		return cover, cover, false
	}
}

// begins is first for a time that no piece covers.
func (e *exactIterator) begins() (p, cover *piece, linked bool) {
	for e.err == nil {
		p = e.starting(nil, math.MaxInt64)
		if p == nil {
			if e.next == len(e.chks) {
				return nil, nil, false
			}
			e.load(e.chks[e.next].MinTime)
			continue
		}
		if q := e.successor(p); q != nil {
			return q, nil, true
		}
		if e.settled(p) {
			return p, nil, false
		}
	}
	return nil, nil, false
}

// successor returns the piece that goes on with the owner of x, which has ended there, if
// both are better than the other one; nil for none.
func (e *exactIterator) successor(than *piece) *piece {
	o := e.owner
	if o == nil || o.maxt > e.x || !o.better(than) {
		return nil
	}
	for e.err == nil {
		var best *piece
		for _, q := range e.active {
			if q == than {
				break
			}
			if q.mint > e.x && near(q.mint-e.x, smaller(o.mean, q.mean)) && sooner(q, best) && !e.isBanned(q) {
				best = q
			}
		}
		if best == nil || e.settled(best) {
			return best
		}
	}
	return nil
}

// earliest returns the piece that begins first after x and not behind t, among those better than
// cover; nil for none.
func (e *exactIterator) earliest(cover *piece, t int64) *piece {
	for e.err == nil {
		if best := e.starting(cover, t); best == nil || e.settled(best) {
			return best
		}
	}
	return nil
}

// starting is earliest without a look into the chunk. Without a cover all pieces will do.
func (e *exactIterator) starting(cover *piece, t int64) *piece {
	var best *piece
	for _, q := range e.active {
		if q == cover {
			break
		}
		if q.mint > e.x && q.mint <= t && sooner(q, best) && !e.isBanned(q) {
			best = q
		}
	}
	return best
}

// sooner reports whether q begins before p, which is the better one and comes first where they begin together.
func sooner(q, p *piece) bool { return p == nil || q.mint < p.mint }

// settled opens a piece that begins after x, and reports whether it begins where it said. If not
// its bounds are right now, and whoever chose it has to choose anew.
func (e *exactIterator) settled(p *piece) bool {
	said := p.mint
	e.open(p)
	return e.err == nil && !p.cur.over() && p.mint == said
}

// open gives p a cursor on its first sample after x.
func (e *exactIterator) open(p *piece) {
	if p.cur == nil {
		p.cur = e.cursor()
		p.cur.open(p, e.one(p), e.aggrs, e.even.on)
		if !p.cur.over() {
			p.mint = p.cur.t
		}
	}
	c := p.cur
	c.seekAfter(e.x)
	if c.over() {
		p.mint, p.maxt = min(p.mint, e.x), min(p.maxt, e.x)
		if e.err == nil {
			e.err = c.err
		}
	}
}

func (e *exactIterator) isBanned(p *piece) bool { return p.banned == e.round }

// At implements chunkenc.Iterator.
func (e *exactIterator) At() (int64, float64) {
	switch {
	case e.onMark:
		return e.marks[0].t, e.marks[0].v
	case e.even.on:
		return e.x, e.even.total
	}
	return e.x, e.v
}

// AtT implements chunkenc.Iterator.
func (e *exactIterator) AtT() int64 {
	if e.onMark {
		return e.marks[0].t
	}
	return e.x
}

// AtHistogram implements chunkenc.Iterator.
func (e *exactIterator) AtHistogram(h *histogram.Histogram) (int64, *histogram.Histogram) {
	switch {
	case e.onMark:
		return e.marks[0].t, &histogram.Histogram{Sum: e.marks[0].v}
	case e.typ != chunkenc.ValHistogram:
		return e.x, nil // never announced by Next or Seek
	}
	if h == nil {
		h = new(histogram.Histogram)
	}
	e.owner.cur.h.CopyTo(h)
	if !e.adjacent {
		h.CounterResetHint = withoutNeighbour(h.CounterResetHint)
	}
	return e.x, h
}

// AtFloatHistogram implements chunkenc.Iterator.
func (e *exactIterator) AtFloatHistogram(fh *histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
	if e.onMark {
		return e.marks[0].t, &histogram.FloatHistogram{Sum: e.marks[0].v}
	}
	switch e.typ {
	case chunkenc.ValHistogram:
		fh = e.owner.cur.h.ToFloat(fh)
	case chunkenc.ValFloatHistogram:
		if fh == nil {
			fh = new(histogram.FloatHistogram)
		}
		e.owner.cur.fh.CopyTo(fh)
	default:
		return e.x, nil // never announced by Next or Seek
	}
	if !e.adjacent {
		fh.CounterResetHint = withoutNeighbour(fh.CounterResetHint)
	}
	return e.x, fh
}

// Err implements chunkenc.Iterator.
func (e *exactIterator) Err() error { return e.err }

var _ chunkenc.Iterator = (*exactIterator)(nil)
