package dedup

import (
	"math"
	"slices"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// Samples of two replicas are in the order of the true time when their clocks agree. When they do not,
// the sample after a change of replica may be older than the one before it: a counter would step back,
// and a reset would be seen twice, or a counter be counted twice. What is compared here is therefore not
// time but how far a counter has come: how often it was reset, and how high it is since.
//
// Nothing is done for series that are no counters by the look of them, nor for clocks further
// apart than maxSkew.

// fits reports whether p's sample at hand may come after x and before next's sample at hand and the first
// samples of better pieces. It passes over samples of p that are older than the one at x, and over one
// that is not needed at the edge of a gap.
func (e *exactIterator) fits(p, next *piece) bool {
	c := p.cur
	if e.owner != nil && e.owner != p && e.owner.better(p) {
		for !c.over() && c.t-e.x <= maxSkew && e.stepsBack(e.owner, e.x, e.v, p, c.t, c.v) {
			c.next()
		}
		if c.over() {
			p.mint, p.maxt = min(p.mint, e.x), min(p.maxt, e.x)
			e.err = c.err
			return false
		}
		if next != nil && c.t < next.cur.t && !wide(c.t+c.est-e.x, smaller(e.every, c.est)) {
			// The replica that filled the gap scraped just after the other one did.
			if t, _, ok := e.whole(p).after(c.t); ok && t < next.cur.t && !wide(t-e.x, smaller(e.every, c.est)) {
				c.next()
			}
		}
		if next != nil && c.t >= next.cur.t {
			return false
		}
	}
	e.load(plus(c.t, maxSkew))
	for _, q := range e.active {
		if q == p {
			break
		}
		if q.maxt <= c.t || plus(c.t, maxSkew) < q.mint {
			continue
		}
		if q.mint > e.x || q.cur == nil {
			e.open(q)
		}
		if e.err != nil {
			return false
		}
		t, v, ok := q.cur.t, q.cur.v, !q.cur.over()
		if ok && t <= c.t {
			// q is behind x, and was passed over.
			t, v, ok = e.whole(q).after(c.t)
		}
		if ok && t-c.t <= maxSkew && e.stepsBack(p, c.t, c.v, q, t, v) {
			return false
		}
	}
	return true
}

// stepsBack reports whether q's sample at w, with the value b, is from an earlier instant than p's
// sample at u, with the value a, although u < w.
func (e *exactIterator) stepsBack(p *piece, u int64, a float64, q *piece, w int64, b float64) bool {
	if e.even.on || p.cur.typeClass() != q.cur.typeClass() || math.IsNaN(a) || math.IsNaN(b) {
		return false
	}
	since := minus(u, 2*maxSkew)
	// The usual case: q is higher, and neither was reset lately; not in the piece before p either, or q were higher already.
	if b >= a && p.cur.lastFall < since && q.cur.lastFall < since &&
		(p.mint <= since || q.cur.wasAtMost(a, w) || !e.fellBefore(p, since)) {
		return false
	}
	if p.cur.noCounter(p) || q.cur.noCounter(q) {
		return false
	}
	if !e.probed(p).counter || !e.probed(q).counter {
		return false
	}
	if q.mint > u && e.neighbour(q, false) == p {
		return false // one replica: its falls are true
	}
	pl, ql := e.timeline(p, minus(u, 2*maxSkew), plus(w, maxSkew)), e.timeline(q, minus(u, 2*maxSkew), plus(w, maxSkew))
	if !ql.begunAt(u) && !pl.steady(u, w) && !ql.seesLater(&pl, u, w) && !pl.outgrown(u, w, b) {
		return false // nothing says that q is behind: the target may have been reset
	}
	return olderThan(pl, u, a, ql, w, b)
}

// timeline returns the samples of p, and those of the pieces it goes on from and to where p does not reach.
func (e *exactIterator) timeline(p *piece, from, to int64) timeline {
	l := timeline{1: e.probed(p)}
	if p.mint > from {
		if r := e.neighbour(p, false); r != nil {
			l[0] = e.probed(r)
		}
	}
	if p.maxt < to {
		e.load(plus(p.maxt, lookAround))
		if r := e.neighbour(p, true); r != nil {
			l[2] = e.probed(r)
		}
	}
	return l
}

// neighbour returns the piece that p goes on with, or from: each of the two is what fits best to the other.
// Nil for none.
func (e *exactIterator) neighbour(p *piece, next bool) *piece {
	if r := e.fitting(p, next); r != nil && e.fitting(r, !next) == p {
		return r
	}
	return nil
}

// fitting returns the piece that begins, or ends, closest to one interval away from p, or to two. Replicas
// may scrape at nearly the same phase: then a piece with which the counter goes on without a fall fits better.
func (e *exactIterator) fitting(p *piece, next bool) *piece {
	var best *piece
	var least int64
	rises := false
	for _, r := range e.active {
		d := p.chunk.MinTime - r.chunk.MaxTime
		if next {
			d = r.chunk.MinTime - p.chunk.MaxTime
		}
		if r == p || d <= 0 || d > lookAround {
			continue
		}
		interval := smaller(e.probed(r).interval, e.probed(p).interval)
		off := max(d-interval, interval-d)
		if miss := max(d-2*interval, 2*interval-d); miss < off {
			off = miss // one scrape was lost between
		}
		if off > interval/4 {
			continue // another phase, another replica
		}
		up := e.probed(r).last() <= e.probed(p).first()
		if next {
			up = e.probed(p).last() <= e.probed(r).first()
		}
		if best == nil || (up && !rises) || (up == rises && (off < least || (off == least && r.better(best)))) {
			best, least, rises = r, off, up
		}
	}
	return best
}

// fellBefore reports whether a piece that p may go on from shows a fall since then, or between its end and p, or may show
// one where it was not read.
func (e *exactIterator) fellBefore(p *piece, since int64) bool {
	for _, r := range e.active {
		if r.maxt >= p.mint {
			continue
		}
		read := r.cur != nil && (r.cur.over() || r.cur.t >= r.maxt)
		if !read || r.cur.lastFall >= since || r.cur.v > p.cur.first {
			return true
		}
	}
	return false
}

// wasAtMost reports whether the last sample known before w was not above a.
func (c *cursor) wasAtMost(a float64, w int64) bool {
	if c.t < w {
		return c.v <= a
	}
	return c.hasPrev && c.prev <= a
}

// typeClass tells floats from histograms; kinds that cannot be compared give different ones.
func (c *cursor) typeClass() chunkenc.ValueType {
	if c.kind == chunkenc.ValFloatHistogram {
		return chunkenc.ValHistogram
	}
	return c.kind
}

// noCounter says so early: what has been read falls too often. It never says so of a piece whose
// probe calls it a counter.
func (c *cursor) noCounter(p *piece) bool {
	return c.gauge || c.negative || !fewFalls(c.falls, p.samples)
}

// probe is the samples of a piece, read at once.
type probe struct {
	t    []int64
	v    []float64
	fell []bool
	// interval is the scrape interval learnt by the end, 0 when nothing is known.
	interval int64
	// counter: by the look of it.
	counter bool
	cut     bool // there is more
}

// fewFalls: a counter falls only when its process restarts.
func fewFalls(falls, n int) bool { return falls <= max(1, n/16) }

// probed reads p once more from its beginning, once: to the end if it is a counter, else as far as it
// looks like one.
func (e *exactIterator) probed(p *piece) *probe {
	if p.probe == nil {
		p.probe = take(&e.freeProbes)
		e.read(p, false)
	}
	return p.probe
}

// whole is probed to the end, counter or not.
func (e *exactIterator) whole(p *piece) *probe {
	if r := e.probed(p); r.cut {
		e.read(p, true)
	}
	return p.probe
}

func (e *exactIterator) read(p *piece, whole bool) {
	r := p.probe
	*r = probe{t: r.t[:0], v: r.v[:0], fell: r.fell[:0], counter: true}
	c := e.cursor()
	own := c.points
	if p.cur != nil && p.cur.it == nil {
		c.it, c.points, c.xorErr = nil, p.cur.points, p.cur.xorErr // decoded once is enough
		c.begin(p)
		defer func() { c.points = own }()
	} else {
		c.open(p, e.one(p), e.aggrs, e.even.on)
	}
	for ; !c.over(); c.next() {
		r.t, r.v, r.fell = append(r.t, c.t), append(r.v, c.v), append(r.fell, c.lastFall == c.t)
		r.counter = r.counter && !c.gauge && !c.negative && fewFalls(c.falls, p.samples)
		if !r.counter && !whole {
			r.cut = true
			break
		}
	}
	r.interval = c.est
	e.freeCurs = append(e.freeCurs, c)
}

// first and last return the values at the ends, NaN where there are none.
func (r *probe) first() float64 {
	if len(r.v) == 0 {
		return math.NaN()
	}
	return r.v[0]
}

func (r *probe) last() float64 {
	if len(r.v) == 0 {
		return math.NaN()
	}
	return r.v[len(r.v)-1]
}

// after returns the first sample after t.
func (r *probe) after(t int64) (int64, float64, bool) {
	i, _ := slices.BinarySearch(r.t, t+1)
	if i == len(r.t) {
		return 0, 0, false
	}
	return r.t[i], r.v[i], true
}

// timeline is the samples of up to three pieces, one after the other.
type timeline [3]*probe

// each calls f for all samples, with the time of the one before it and whether the counter fell
// between the two; false from f ends it.
func (l *timeline) each(f func(before, t int64, v float64, fell bool) bool) {
	at, last, begun := int64(math.MinInt64), 0.0, false
	for _, r := range l {
		if r == nil {
			continue
		}
		for i, t := range r.t {
			fell := r.fell[i] || (i == 0 && begun && r.v[i] < last)
			if !f(at, t, r.v[i], fell) {
				return
			}
			at, last, begun = t, r.v[i], true
		}
	}
}

// begunAt reports whether there are samples at or before t.
func (l *timeline) begunAt(t int64) bool {
	for _, r := range l {
		if r != nil && len(r.t) > 0 {
			return r.t[0] <= t
		}
	}
	return false
}

// steady reports whether the samples go on from u to w and show no reset that another replica
// could have seen by then.
func (l *timeline) steady(u, w int64) bool {
	reaches, reset := false, false
	l.each(func(_, t int64, _ float64, fell bool) bool {
		reaches = reaches || t >= w
		reset = reset || (fell && t > u && t <= w+maxSkew)
		return !reset && t <= w+maxSkew
	})
	return reaches && !reset
}

// seesLater reports whether p has seen resets soon after u, and all of them show here after w: then none was before w.
func (l *timeline) seesLater(p *timeline, u, w int64) bool {
	all := false
	p.each(func(before, t int64, _ float64, fell bool) bool {
		if t > w+maxSkew {
			return false
		}
		if !fell || t <= u {
			return true
		}
		later := false
		l.each(func(start, at int64, _ float64, fell bool) bool {
			later = later || (fell && at > w && at >= before-maxSkew && start <= t+maxSkew)
			return !later
		})
		all = later
		return all
	})
	return all
}

// outgrown reports whether b, at w, is more than a counter can have that was reset after u and goes on as this one did
// before u.
func (l *timeline) outgrown(u, w int64, b float64) bool {
	from, first, grown := int64(math.MinInt64), 0.0, 0.0
	l.each(func(_, t int64, v float64, fell bool) bool {
		switch {
		case t > u:
			return false
		case from == math.MinInt64 || fell:
			from, first, grown = t, v, 0
		default:
			grown = v - first
		}
		return true
	})
	return from < u && grown > 0 && b > 4*grown*float64(w-u)/float64(u-from)
}

// sees reports whether a reset that another replica has seen between from and to, give or take the
// skew, shows here, not after end, or may lie before what is known here.
func (l *timeline) sees(from, to, end int64) bool {
	found := !l.begunAt(minus(from, maxSkew))
	l.each(func(before, t int64, _ float64, fell bool) bool {
		found = found || (fell && t >= from-maxSkew && before <= to+maxSkew && t <= end)
		return !found && t < end
	})
	return found
}

// olderThan decides it for two counters: whether the sample of q at w, with value b, is from
// before p's sample at u, with value a. A reset that both have seen is at most maxSkew apart; one that
// only one of them has seen says who is ahead.
func olderThan(p timeline, u int64, a float64, q timeline, w int64, b float64) bool {
	unseen := int64(math.MinInt64) // the last reset of p that q has not seen
	p.each(func(before, t int64, _ float64, fell bool) bool {
		if fell && t <= u && t > u-maxSkew && !q.sees(before, t, w) {
			unseen = t
		}
		return t < u
	})
	ahead := false // q has seen a reset that p has not
	older := false
	q.each(func(before, t int64, _ float64, fell bool) bool {
		if t <= w {
			ahead = ahead || (fell && t > u-maxSkew && !p.sees(before, t, u))
			return true
		}
		// q is behind if it is still to see p's reset.
		older = fell && unseen != math.MinInt64 && before <= unseen+maxSkew
		return !older && t <= unseen+maxSkew
	})
	if older || ahead || b >= a {
		return older
	}
	// The same resets on both sides, and q is lower: behind, if it comes up to p soon, or if
	// there is nothing more to tell.
	older = true
	q.each(func(_, t int64, v float64, fell bool) bool {
		switch {
		case t <= w:
			return true
		case v >= a || fell:
			return false
		}
		older = t <= u+maxSkew
		return older
	})
	return older
}
