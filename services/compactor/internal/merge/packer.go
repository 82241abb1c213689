package merge

import (
	"fmt"

	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/promontory-io/promontory/libs/xorchunk"
)

// samplesPerChunk is how many float samples, and histogramsPerChunk how many histograms,
// a packed chunk has at most. Floats take twice what a scraper puts into a chunk: the
// first sample of a chunk, its frame and its entry in the index cost some thirty bytes,
// as much as twenty samples.
const (
	samplesPerChunk    = 240
	histogramsPerChunk = 120
)

// packer encodes samples into full chunks. A change of the kind of samples, and what
// histograms demand, begins a new one.
type packer struct {
	emit func(Chunk)
	// arena holds the float chunks of a series. It is reset with the series, not before.
	arena []byte
	xor   xorchunk.Writer
	at    int // where the current float chunk begins

	typ        chunkenc.ValueType
	chunk      chunkenc.Chunk
	app        chunkenc.Appender
	n          int
	mint, maxt int64
}

// reset begins a series.
func (p *packer) reset() { *p = packer{emit: p.emit, arena: p.arena[:0], xor: p.xor} }

// flush ends the current chunk.
func (p *packer) flush() {
	c := Chunk{MinTime: p.mint, MaxTime: p.maxt, Samples: p.n}
	switch {
	case p.n == 0:
	case p.typ == chunkenc.ValFloat:
		p.arena = p.xor.End(p.at)
		c.Encoding, c.Bytes = chunkenc.EncXOR, p.arena[p.at:len(p.arena):len(p.arena)]
		p.emit(c)
	default:
		c.Encoding, c.Bytes = p.chunk.Encoding(), p.chunk.Bytes()
		p.emit(c)
	}
	p.typ, p.chunk, p.app, p.n = chunkenc.ValNone, nil, nil, 0
}

// add takes the sample that it stands on.
func (p *packer) add(typ chunkenc.ValueType, it chunkenc.Iterator) error {
	if typ == chunkenc.ValFloat {
		p.addFloat(it.At())
		return nil
	}
	return p.addHistogram(typ, it)
}

func (p *packer) addFloat(t int64, v float64) {
	if p.typ != chunkenc.ValFloat || p.n >= samplesPerChunk {
		p.flush()
		p.typ, p.at = chunkenc.ValFloat, len(p.arena)
		p.xor.Begin(p.arena)
	}
	p.xor.Add(t, v)
	p.count(t)
}

// addFloats is add for many samples.
func (p *packer) addFloats(points []xorchunk.Point) {
	for _, x := range points {
		p.addFloat(x.T, x.V)
	}
}

func (p *packer) begin(typ chunkenc.ValueType, c chunkenc.Chunk) error {
	app, err := c.Appender()
	if err != nil {
		return fmt.Errorf("begin chunk: %w", err)
	}
	p.typ, p.chunk, p.app = typ, c, app
	return nil
}

func (p *packer) count(t int64) {
	if p.n == 0 {
		p.mint = t
	}
	p.maxt = t
	p.n++
}

// addHistogram leaves it to the appender whether the histogram fits: it may want the
// chunk to be encoded anew with more buckets, or a new one because a counter was reset.
func (p *packer) addHistogram(typ chunkenc.ValueType, it chunkenc.Iterator) error {
	// The appender before tells a new chunk whether a counter was reset in between.
	var prevInt *chunkenc.HistogramAppender
	var prevFloat *chunkenc.FloatHistogramAppender
	if p.typ != typ || p.n >= histogramsPerChunk {
		if p.typ == typ {
			prevInt, _ = p.app.(*chunkenc.HistogramAppender)
			prevFloat, _ = p.app.(*chunkenc.FloatHistogramAppender)
		}
		p.flush()
		c := chunkenc.Chunk(chunkenc.NewHistogramChunk())
		if typ == chunkenc.ValFloatHistogram {
			c = chunkenc.NewFloatHistogramChunk()
		}
		if err := p.begin(typ, c); err != nil {
			return err
		}
	}
	var (
		t       int64
		next    chunkenc.Chunk
		recoded bool
		app     chunkenc.Appender
		err     error
	)
	if typ == chunkenc.ValHistogram {
		at, h := it.AtHistogram(nil)
		t = at
		next, recoded, app, err = p.app.AppendHistogram(prevInt, t, h, false)
	} else {
		at, h := it.AtFloatHistogram(nil)
		t = at
		next, recoded, app, err = p.app.AppendFloatHistogram(prevFloat, t, h, false)
	}
	if err != nil {
		return fmt.Errorf("append histogram at %d: %w", t, err)
	}
	if next != nil {
		if !recoded {
			p.flush()
			p.typ = typ
		}
		p.chunk = next
	}
	p.app = app
	p.count(t)
	return nil
}
