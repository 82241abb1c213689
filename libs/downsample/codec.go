package downsample

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/promontory-io/promontory/libs/chunks"
)

// Encoding is the chunk encoding byte of an aggregate chunk in a block. It never
// travels between processes: the store protocol carries the parts on their own.
const Encoding chunkenc.Encoding = 0xff

// ErrCorrupt is wrapped by all errors about bytes that are no aggregate chunk. Trying
// again does not help; the block is broken.
var ErrCorrupt = errors.New("corrupt aggregate chunk")

// AppendAggr appends the encoding of the five aggregates to dst: for each of count,
// sum, min, max and counter its length as uvarint and, unless that is 0 for absent,
// the encoding byte, which the length does not count, and the data.
//
// It is an error if the counter is absent: many readers demand at least a byte after
// the last length. It is also one if a part has an encoding that decoders refuse.
func AppendAggr(dst []byte, aggr *[chunks.NumAggr]chunks.Chunk) ([]byte, error) {
	if i, _ := chunks.Counter.Index(); !aggr[i].Present() {
		return dst, errors.New("encode aggregate chunk: the counter is absent")
	}
	for i, c := range aggr {
		if c.Present() && !chunkenc.IsValidEncoding(c.Encoding) {
			return dst, fmt.Errorf("encode aggregate chunk: %s has encoding %d", aggrAt(i), c.Encoding)
		}
	}
	for _, c := range aggr {
		dst = binary.AppendUvarint(dst, uint64(len(c.Data)))
		if c.Present() {
			dst = append(dst, byte(c.Encoding))
			dst = append(dst, c.Data...)
		}
	}
	return dst, nil
}

// DecodeAggr splits data, as AppendAggr writes it, into its parts. The parts share
// memory with data. Unlike other decoders it takes an absent last part, and one left
// out altogether, for what it is. Errors wrap ErrCorrupt.
//
// The parts' own content is not looked at.
func DecodeAggr(data []byte) (aggr [chunks.NumAggr]chunks.Chunk, err error) {
	rest := data
	for i := range aggr {
		if len(rest) == 0 && i == len(aggr)-1 {
			return aggr, nil
		}
		n, k := binary.Uvarint(rest)
		if k <= 0 {
			return aggr, fmt.Errorf("%w: length of %s at byte %d", ErrCorrupt, aggrAt(i), len(data)-len(rest))
		}
		rest = rest[k:]
		if n == 0 {
			continue
		}
		// n is compared before anything is added to it: it may be close to 2^64.
		if len(rest) == 0 || n > uint64(len(rest)-1) {
			return aggr, fmt.Errorf("%w: %s claims %d bytes, %d are left", ErrCorrupt, aggrAt(i), n, max(0, len(rest)-1))
		}
		enc := chunkenc.Encoding(rest[0])
		if !chunkenc.IsValidEncoding(enc) {
			return aggr, fmt.Errorf("%w: %s has encoding %d", ErrCorrupt, aggrAt(i), enc)
		}
		end := 1 + int(n)
		aggr[i] = chunks.Chunk{Encoding: enc, Data: rest[1:end:end]}
		rest = rest[end:]
	}
	if len(rest) > 0 {
		return aggr, fmt.Errorf("%w: %d bytes after the last part", ErrCorrupt, len(rest))
	}
	return aggr, nil
}

func aggrAt(i int) chunks.Aggr { return chunks.Aggr(i + 1) }
