package downsample

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/promontory-io/promontory/libs/chunks"
)

// Chunk makes an encoded aggregate chunk look like a chunk to the TSDB, so that its
// block reader and writer can carry it. It holds no samples that could be iterated as
// one sequence: Iterator returns an iterator that only has an error.
type Chunk struct{ data []byte }

var _ chunkenc.Chunk = (*Chunk)(nil)

// NewChunk encodes the aggregates of c; see AppendAggr for the errors.
func NewChunk(c *chunks.AggrChunk) (*Chunk, error) {
	if c.Aggr == nil {
		return nil, errors.New("encode aggregate chunk: no aggregates")
	}
	data, err := AppendAggr(nil, c.Aggr)
	if err != nil {
		return nil, err
	}
	return &Chunk{data: data}, nil
}

// Aggr decodes the parts, which share memory with the chunk.
func (c *Chunk) Aggr() ([chunks.NumAggr]chunks.Chunk, error) { return DecodeAggr(c.data) }

// Bytes returns the payload behind the encoding byte.
func (c *Chunk) Bytes() []byte { return c.data }

// Encoding returns 0xff.
func (c *Chunk) Encoding() chunkenc.Encoding { return Encoding }

// Appender always fails: aggregate chunks are written whole.
func (c *Chunk) Appender() (chunkenc.Appender, error) {
	return nil, errors.New("append to an aggregate chunk: not possible")
}

// Iterator returns an iterator that fails; read the parts of Aggr instead.
func (c *Chunk) Iterator(chunkenc.Iterator) chunkenc.Iterator {
	return failed{errors.New("iterate over an aggregate chunk: pick one of its aggregates")}
}

// NumSamples returns the number of windows, which is that of the first part present;
// 0 if the chunk is corrupt.
func (c *Chunk) NumSamples() int {
	aggr, err := c.Aggr()
	if err != nil {
		return 0
	}
	for i := range aggr {
		if n := numSamples(aggr[i]); n > 0 {
			return n
		}
	}
	return 0
}

// numSamples reads the sample count that all chunk encodings begin with.
func numSamples(c chunks.Chunk) int {
	if len(c.Data) < 2 {
		return 0
	}
	return int(binary.BigEndian.Uint16(c.Data))
}

// Compact does nothing: the chunk has its final size.
func (c *Chunk) Compact() {}

// Reset makes c the chunk encoded in stream, which it keeps.
func (c *Chunk) Reset(stream []byte) { c.data = stream }

// NewPool returns the chunk pool to open blocks of any resolution with: it knows
// aggregate chunks beside those of the TSDB. Safe for concurrent use.
func NewPool() chunkenc.Pool { return pool{chunkenc.NewPool()} }

type pool struct{ raw chunkenc.Pool }

func (p pool) Get(e chunkenc.Encoding, b []byte) (chunkenc.Chunk, error) {
	if e == Encoding {
		return &Chunk{data: b}, nil
	}
	c, err := p.raw.Get(e, b)
	if err != nil {
		return nil, fmt.Errorf("get chunk: %w", err)
	}
	return c, nil
}

func (p pool) Put(c chunkenc.Chunk) error {
	if _, ok := c.(*Chunk); ok {
		return nil // as small as it is, there is nothing to gain
	}
	return p.raw.Put(c)
}
