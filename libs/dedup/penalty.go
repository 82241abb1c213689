package dedup

import (
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// firstPenalty is how far, in milliseconds, the replica that lost the first sample
// has to stay behind it: with one sample there is no interval to take it from.
const firstPenalty = 5000

// penaltyIterator merges two replicas, a and b.
//
// Each step moves both behind the last returned timestamp plus their own penalty and
// takes the earlier sample, a's on a tie. The side taken has no penalty afterwards;
// the other one gets twice the distance between the last two returned samples. So a
// replica that answers at its regular interval is never left, and one that misses
// about two scrapes is.
//
// In counter mode each replica carries an offset. When the side changes, both sides are
// lifted to the last returned value if they are below it; a side that is a merge itself
// hands that on to its own two. Before the first sample a's first value counts as the
// last returned one.
type penaltyIterator struct {
	a, b    replica
	counter bool

	started bool
	onA     bool // the current sample is a's
	// adjacent: the current sample directly follows the previous one in its replica.
	adjacent bool

	// The current sample; typ is ValNone before the first and after the last one.
	typ chunkenc.ValueType
	t   int64
	v   float64

	penA, penB int64
	err        error
}

func (p *penaltyIterator) reset(a, b chunkenc.Iterator, counter bool) {
	*p = penaltyIterator{a: newReplica(a), b: newReplica(b), counter: counter}
}

func (p *penaltyIterator) Next() chunkenc.ValueType {
	switch {
	case p.typ != chunkenc.ValNone && p.t == math.MaxInt64:
		p.typ = chunkenc.ValNone // no time is left; seeking would find this sample again
		return p.typ
	case p.typ != chunkenc.ValNone:
		p.a.seek(after(p.t, p.penA))
		p.b.seek(after(p.t, p.penB))
	case p.started:
		return chunkenc.ValNone
	default:
		p.a.next()
		p.b.next()
		// a's first sample stands in for the last returned one.
		p.onA, p.typ, p.v = true, p.a.typ, p.a.v
	}
	if p.fail() {
		return chunkenc.ValNone
	}

	aOK, bOK := p.a.typ != chunkenc.ValNone, p.b.typ != chunkenc.ValNone
	switch {
	case aOK && bOK:
		if p.a.t <= p.b.t {
			p.penA, p.penB = 0, p.distance(p.a.t)
			p.take(&p.a, true)
		} else {
			p.penA, p.penB = p.distance(p.b.t), 0
			p.take(&p.b, false)
		}
	case aOK:
		p.penA = 0
		p.take(&p.a, true)
	case bOK:
		p.penB = 0
		p.take(&p.b, false)
	default:
		p.started, p.typ = true, chunkenc.ValNone
	}
	return p.typ
}

// distance is the penalty for the side that is not taken when the other one is, at t.
func (p *penaltyIterator) distance(t int64) int64 {
	if !p.started {
		return firstPenalty
	}
	d := t - p.t
	if d < 0 || d > math.MaxInt64/2 {
		return math.MaxInt64
	}
	return 2 * d
}

// take makes r's sample the current one.
func (p *penaltyIterator) take(r *replica, isA bool) {
	same := p.onA == isA
	if p.counter && !same && p.typ == chunkenc.ValFloat {
		p.a.liftTo(p.v)
		p.b.liftTo(p.v)
	}
	p.adjacent = same && p.started
	p.started, p.onA = true, isA
	p.typ, p.t, p.v = r.typ, r.t, r.value()
}

// lift lifts both sides to v, and the current sample with them.
func (p *penaltyIterator) lift(v float64) {
	p.a.liftTo(v)
	p.b.liftTo(v)
	if p.onA {
		p.v = p.a.value()
	} else {
		p.v = p.b.value()
	}
}

func (p *penaltyIterator) fail() bool {
	for _, r := range [...]*replica{&p.a, &p.b} {
		if r.typ != chunkenc.ValNone {
			continue
		}
		if err := r.it.Err(); err != nil {
			p.started, p.typ, p.err = true, chunkenc.ValNone, err
			return true
		}
	}
	return false
}

// Seek goes there step by step. Jumping would hide from the merge which replica was
// missing samples on the way, and the answer would depend on where it was entered.
func (p *penaltyIterator) Seek(t int64) chunkenc.ValueType {
	for p.typ == chunkenc.ValNone || p.t < t {
		if p.Next() == chunkenc.ValNone {
			return chunkenc.ValNone
		}
	}
	return p.typ
}

func (p *penaltyIterator) At() (int64, float64) { return p.t, p.v }

func (p *penaltyIterator) AtT() int64 { return p.t }

func (p *penaltyIterator) AtHistogram(h *histogram.Histogram) (int64, *histogram.Histogram) {
	return atHistogram(p.current(), p.adjacent, h)
}

func (p *penaltyIterator) AtFloatHistogram(fh *histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
	return atFloatHistogram(p.current(), p.adjacent, fh)
}

func (p *penaltyIterator) current() chunkenc.Iterator {
	if p.onA {
		return p.a.it
	}
	return p.b.it
}

func (p *penaltyIterator) Err() error { return p.err }

// after returns the first timestamp behind t and penalty, without overflow.
func after(t, penalty int64) int64 {
	s := t + 1 + penalty
	if s < t {
		return math.MaxInt64
	}
	return s
}
