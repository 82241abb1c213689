// Package chunks holds the two value types in which sample data travels between
// stores and readers: a single encoded chunk, and the bundle of a raw chunk or up
// to five aggregate chunks that covers one stretch of one series.
//
// Values of this package are plain data. They never decode anything: a chunk stays
// bytes until an iterator reaches it, so that whoever only routes chunks pays for
// slices and not for samples.
package chunks

import (
	"github.com/cespare/xxhash/v2"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// Chunk is one encoded chunk without the framing that a block or a message puts
// around it. The zero value means "no chunk here".
//
// Data may alias a buffer that belongs to somebody else (a received frame, a block
// segment); who hands out a Chunk says for how long it is valid. Nobody writes to
// Data once it is in a Chunk.
type Chunk struct {
	// Encoding is the byte the TSDB itself uses: 1 XOR, 2 histogram, 3 float
	// histogram. On the wire the number is one less.
	Encoding chunkenc.Encoding
	// Hash is xxhash64 of Data, 0 when nobody has computed it yet.
	Hash uint64
	// Data is the payload that follows the encoding byte in a block. Empty means
	// that the chunk is absent.
	Data []byte
}

// Present reports whether there is a chunk at all.
func (c Chunk) Present() bool { return len(c.Data) > 0 }

// Sum returns xxhash64 of the data: the stored Hash where there is one, else a
// freshly computed value, which is not stored.
func (c Chunk) Sum() uint64 {
	if c.Hash != 0 {
		return c.Hash
	}
	return xxhash.Sum64(c.Data)
}

// AggrChunk is what is known about one series between MinTime and MaxTime: either
// the samples themselves (Raw) or aggregates of downsampled data (Aggr). A sender
// fills in only what was asked for, so any part may be absent.
type AggrChunk struct {
	// MinTime and MaxTime are Unix milliseconds of the first and the last sample,
	// both inclusive.
	MinTime, MaxTime int64
	// Raw is the chunk of undownsampled samples, absent in downsampled data.
	Raw Chunk
	// Aggr holds the aggregate chunks, nil for raw data. Index is Aggr number minus
	// one: count, sum, min, max, counter; see Aggr.Index.
	Aggr *[NumAggr]Chunk
}

// Of returns the chunk that holds a, and whether there is one. It looks at exactly
// that field: falling back from an aggregate to raw is the reader's decision.
func (c *AggrChunk) Of(a Aggr) (Chunk, bool) {
	if a == Raw {
		return c.Raw, c.Raw.Present()
	}
	i, ok := a.Index()
	if !ok || c.Aggr == nil {
		return Chunk{}, false
	}
	return c.Aggr[i], c.Aggr[i].Present()
}

// Set stores ch as the chunk for a, making room for aggregates when there is none
// yet. It does nothing for an unknown a.
func (c *AggrChunk) Set(a Aggr, ch Chunk) {
	if a == Raw {
		c.Raw = ch
		return
	}
	i, ok := a.Index()
	if !ok {
		return
	}
	if c.Aggr == nil {
		c.Aggr = new([NumAggr]Chunk)
	}
	c.Aggr[i] = ch
}

// Empty reports whether neither raw nor any aggregate data is present.
func (c *AggrChunk) Empty() bool {
	if c.Raw.Present() {
		return false
	}
	if c.Aggr == nil {
		return true
	}
	for i := range c.Aggr {
		if c.Aggr[i].Present() {
			return false
		}
	}
	return true
}

// Equal reports whether c and o hold the same time range and the same bytes in
// every part. Hashes are compared first where both sides know them, so that equal
// chunks of replicas cost one byte comparison and different ones usually none.
func (c *AggrChunk) Equal(o *AggrChunk) bool {
	if c.MinTime != o.MinTime || c.MaxTime != o.MaxTime || !c.Raw.Equal(o.Raw) {
		return false
	}
	for a := Count; a <= Counter; a++ {
		x, _ := c.Of(a)
		y, _ := o.Of(a)
		if !x.Equal(y) {
			return false
		}
	}
	return true
}

// Equal reports whether c and o have the same bytes in the same encoding. Two
// absent chunks are equal.
func (c Chunk) Equal(o Chunk) bool {
	if len(c.Data) != len(o.Data) {
		return false
	}
	if len(c.Data) == 0 {
		return true
	}
	if c.Encoding != o.Encoding || (c.Hash != 0 && o.Hash != 0 && c.Hash != o.Hash) {
		return false
	}
	return string(c.Data) == string(o.Data)
}

// Compare orders chunks of one series by minimum, then by maximum time; the result
// is that of cmp.Compare. It is the order in which merged streams list them.
func (c *AggrChunk) Compare(o *AggrChunk) int {
	switch {
	case c.MinTime < o.MinTime:
		return -1
	case c.MinTime > o.MinTime:
		return 1
	case c.MaxTime < o.MaxTime:
		return -1
	case c.MaxTime > o.MaxTime:
		return 1
	}
	return 0
}
