package storeapi

import (
	"encoding/binary"
	"math/bits"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/promontory-io/promontory/libs/chunks"
)

// Field tags of the messages on the Series stream: field number << 3 | wire type.
const (
	tagResponseSeries  = 1<<3 | 2
	tagResponseWarning = 2<<3 | 2
	tagResponseHints   = 3<<3 | 2
	tagResponseBatch   = 4<<3 | 2

	tagBatchSeries = 1<<3 | 2

	tagSeriesLabel = 1<<3 | 2
	tagSeriesChunk = 2<<3 | 2

	tagLabelName  = 1<<3 | 2
	tagLabelValue = 2<<3 | 2

	tagAggrMinTime = 1<<3 | 0
	tagAggrMaxTime = 2<<3 | 0
	tagAggrRaw     = 3<<3 | 2 // count, sum, min, max and counter follow: 4 to 8

	tagChunkType = 1<<3 | 0
	tagChunkData = 2<<3 | 2
	tagChunkHash = 3<<3 | 0
)

func sizeVarint(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }

func appendVarint(b []byte, v uint64) []byte { return binary.AppendUvarint(b, v) }

// sizeBytes is the size of a length-delimited field with a one-byte tag; an
// empty one is left out.
func sizeBytes(n int) int {
	if n == 0 {
		return 0
	}
	return 1 + sizeVarint(uint64(n)) + n
}

func sizeInt(v uint64) int {
	if v == 0 {
		return 0
	}
	return 1 + sizeVarint(v)
}

func appendString(b []byte, tag byte, s string) []byte {
	if s == "" {
		return b
	}
	b = append(b, tag)
	b = appendVarint(b, uint64(len(s)))
	return append(b, s...)
}

func appendInt(b []byte, tag byte, v uint64) []byte {
	if v == 0 {
		return b
	}
	b = append(b, tag)
	return appendVarint(b, v)
}

func labelSize(name, value string) int { return sizeBytes(len(name)) + sizeBytes(len(value)) }

// labelsSize is the size of lset as repeated Label fields.
func labelsSize(lset labels.Labels) (n int) {
	lset.Range(func(l labels.Label) {
		s := labelSize(l.Name, l.Value)
		n += 1 + sizeVarint(uint64(s)) + s
	})
	return n
}

// AppendLabels appends lset as the label fields of a Series message.
func AppendLabels(b []byte, lset labels.Labels) []byte {
	lset.Range(func(l labels.Label) {
		b = append(b, tagSeriesLabel)
		b = appendVarint(b, uint64(labelSize(l.Name, l.Value)))
		b = appendString(b, tagLabelName, l.Name)
		b = appendString(b, tagLabelValue, l.Value)
	})
	return b
}

// wireEncoding is the number that stands for e on the wire.
func wireEncoding(e chunkenc.Encoding) uint64 { return uint64(e) - 1 }

func chunkSize(c *chunks.Chunk) int {
	return sizeInt(wireEncoding(c.Encoding)) + sizeBytes(len(c.Data)) + sizeInt(c.Hash)
}

func aggrChunkSize(c *chunks.AggrChunk) int {
	n := sizeInt(uint64(c.MinTime)) + sizeInt(uint64(c.MaxTime))
	if c.Raw.Present() {
		s := chunkSize(&c.Raw)
		n += 1 + sizeVarint(uint64(s)) + s
	}
	if c.Aggr != nil {
		for i := range c.Aggr {
			if a := &c.Aggr[i]; a.Present() {
				s := chunkSize(a)
				n += 1 + sizeVarint(uint64(s)) + s
			}
		}
	}
	return n
}

func appendChunk(b []byte, tag byte, c *chunks.Chunk) []byte {
	b = append(b, tag)
	b = appendVarint(b, uint64(chunkSize(c)))
	b = appendInt(b, tagChunkType, wireEncoding(c.Encoding))
	b = append(b, tagChunkData)
	b = appendVarint(b, uint64(len(c.Data)))
	b = append(b, c.Data...)
	return appendInt(b, tagChunkHash, c.Hash)
}

func appendAggrChunk(b []byte, size int, c *chunks.AggrChunk) []byte {
	b = append(b, tagSeriesChunk)
	b = appendVarint(b, uint64(size))
	b = appendInt(b, tagAggrMinTime, uint64(c.MinTime))
	b = appendInt(b, tagAggrMaxTime, uint64(c.MaxTime))
	if c.Raw.Present() {
		b = appendChunk(b, tagAggrRaw, &c.Raw)
	}
	if c.Aggr != nil {
		for i := range c.Aggr {
			if a := &c.Aggr[i]; a.Present() {
				b = appendChunk(b, tagAggrRaw+byte(i+1)<<3, a)
			}
		}
	}
	return b
}

// chunksSize is the size of chks as repeated AggrChunk fields.
func chunksSize(chks []chunks.AggrChunk) (n int) {
	for i := range chks {
		s := aggrChunkSize(&chks[i])
		n += 1 + sizeVarint(uint64(s)) + s
	}
	return n
}

// hashChunks fills in the hashes that nobody computed yet. Peers compare replicas'
// chunks by them.
func hashChunks(chks []chunks.AggrChunk) {
	for i := range chks {
		c := &chks[i]
		if c.Raw.Present() {
			c.Raw.Hash = c.Raw.Sum()
		}
		if c.Aggr != nil {
			for j := range c.Aggr {
				if a := &c.Aggr[j]; a.Present() {
					a.Hash = a.Sum()
				}
			}
		}
	}
}

// dataSize is how many bytes of sample data c carries.
func dataSize(c *chunks.AggrChunk) int {
	n := len(c.Raw.Data)
	if c.Aggr != nil {
		for i := range c.Aggr {
			n += len(c.Aggr[i].Data)
		}
	}
	return n
}
