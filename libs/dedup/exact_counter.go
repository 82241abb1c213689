package dedup

import (
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/promontory-io/promontory/libs/downsample"
)

// evener evens out the resets of a counter of which some chunks are downsampled. Each
// chunk, read on its own, begins with its true value and never falls. What is added up is
// increases: those within one chunk, and where the merge goes over to another one, that one's own increase since
// the time of the last sample, in proportion where that lies between two of its samples. So two chunks
// that have counted different resets do not have to agree.
type evener struct {
	on    bool
	began bool
	total float64
}

// add takes p's sample at hand, which comes after the current one of e, into the total.
func (v *evener) add(e *exactIterator, p *piece) {
	c := p.cur
	if c.typ != chunkenc.ValFloat {
		return // histograms keep their resets, which the query engine sees
	}
	switch {
	case !v.began:
		v.total, v.began = c.v, true
	case e.owner == p:
		v.total += c.v - e.v
	case c.hasPrev && c.prevT <= e.x:
		v.total += (c.v - c.prev) * float64(c.t-e.x) / float64(c.t-c.prevT)
	case !e.owner.cur.over():
		// p begins here, with a true value, but that of the owner is not known in the midst of its chunk. Its
		// next sample says how much it grew.
		o := e.owner.cur
		v.total += (o.v - e.v) * min(1, float64(c.t-e.x)/float64(o.t-e.x))
	default:
		// p begins here, with a true value, and the owner has ended with one.
		last := e.v
		if s, ok := e.owner.cur.it.(*downsample.CounterSeries); ok {
			if raw, known := s.Last(); known {
				last = raw
			}
		}
		if c.v < last {
			v.total += c.v
		} else {
			v.total += c.v - last
		}
	}
}
