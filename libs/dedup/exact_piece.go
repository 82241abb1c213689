package dedup

import (
	"bytes"
	"encoding/binary"
	"math"

	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/promontory-io/promontory/libs/chunks"
)

// piece is one chunk in the eyes of exact: an interval of time with a rank, and a cursor
// once it has been opened.
type piece struct {
	chunk *chunks.AggrChunk
	index int          // of chunk in the series
	data  chunks.Chunk // the part that says how many samples there are
	// mint and maxt bound the samples. They begin as the chunk says and are corrected
	// when decoding shows otherwise.
	mint, maxt int64

	// samples is how many there are, 1 when the chunk does not say.
	samples int
	// mean is the average distance of the samples, 0 when there are fewer than two.
	mean int64
	// class is mean on a logarithmic scale; a smaller one has more samples in the same time.
	class int32
	// still: so few bytes that no value can have changed.
	still bool
	// phase is where in its scrape interval the replica scrapes.
	phase int64

	// banned is the round of the merge in which it is not asked any more.
	banned int

	cur   *cursor
	probe *probe
}

// Classes are about 0.7 % apart, which tells one missing sample in a usual chunk of 120, and lie
// so that none of the intervals people use is at the edge of one.
const (
	classesPerOctave = 96
	classOrigin      = 15000 // ms; class 0
	classUnknown     = math.MaxInt32
)

// describe fills in what the chunk says without being decoded.
func (p *piece) describe(c *chunks.AggrChunk, part chunks.Chunk) {
	*p = piece{chunk: c, data: part, mint: c.MinTime, maxt: c.MaxTime, class: classUnknown, samples: 1}
	if len(part.Data) < 2 {
		return
	}
	n := int64(binary.BigEndian.Uint16(part.Data))
	span := c.MaxTime - c.MinTime
	if n < 2 || span <= 0 { // negative where it overflows
		return
	}
	p.samples, p.mean = int(n), max(span/(n-1), 1)
	p.class = int32(math.Round(classesPerOctave * math.Log2(float64(span)/float64(n-1)/classOrigin)))
	// Scrape intervals are whole seconds, or whole tenths of one: rounding takes jitter and
	// single losses out of the estimate, to which the phase is very sensitive.
	unit := int64(1000)
	if p.mean < 2000 {
		unit = 100
	}
	interval := max((p.mean+unit/2)/unit*unit, unit)
	if p.phase = p.mint % interval; p.phase < 0 {
		p.phase += interval
	}
	// Header, first time and value, one distance; then two bits a sample.
	p.still = part.Encoding == chunkenc.EncXOR && n >= 8 && int64(len(part.Data)) <= 26+(n+3)/4
}

// better is the order of rank: which of two chunks is followed where both have samples.
//
// It is a strict total order on what the chunks themselves say, so that who looks at the two
// always agrees. First the denser one, because it misses less. Then one that moves:
// a replica may be stuck. Then the earlier phase, which a replica keeps from chunk to chunk, and so
// one replica is followed as long as the chunks are equally good. The rest only breaks ties.
func (p *piece) better(q *piece) bool {
	switch {
	case p.class != q.class:
		return p.class < q.class
	case p.still != q.still:
		return q.still
	case p.phase != q.phase:
		return p.phase < q.phase
	case p.chunk.MinTime != q.chunk.MinTime:
		return p.chunk.MinTime < q.chunk.MinTime
	case p.chunk.MaxTime != q.chunk.MaxTime:
		return p.chunk.MaxTime > q.chunk.MaxTime
	}
	return bytes.Compare(p.data.Data, q.data.Data) < 0
}

// covers reports whether p has samples around x: some at or before it and some after.
func (p *piece) covers(x int64) bool { return p.mint <= x && p.maxt > x }

// smaller returns the smaller of two distances of which 0 means unknown.
func smaller(a, b int64) int64 {
	if a == 0 || (b != 0 && b < a) {
		return b
	}
	return a
}
