package read

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"

	"github.com/prometheus/prometheus/tsdb/index"
	"github.com/thanos-io/objstore"

	"github.com/promontory-io/promontory/libs/block"
)

// OpenDamaged is Open for a block of which something is broken: where the index has
// no usable table of contents it goes by the layout that all writers follow, symbols
// right behind the header and series behind them.
func OpenDamaged(ctx context.Context, bkt objstore.BucketReader, meta *block.Meta, opts Options) (*Source, error) {
	s, err := open(ctx, bkt, meta, opts)
	if err != nil {
		return nil, err
	}
	// What meta.json says of sizes may be just what is not true any more.
	for i := range s.segments {
		s.segments[i].size = -1
	}
	err = s.readTOC(ctx)
	if err == nil {
		return s, nil
	}
	var c *CorruptError
	if !errors.As(err, &c) || s.version == 0 {
		return nil, err
	}
	s.damaged = true
	s.toc = index.TOC{Symbols: index.HeaderLen}
	head, err := s.index.bytes(ctx, index.HeaderLen, 4)
	if err != nil {
		return nil, s.fail(block.IndexFilename, index.HeaderLen, err)
	}
	s.pos = index.HeaderLen + 4 + int64(binary.BigEndian.Uint32(head)) + crc32.Size
	s.end = s.index.size
	if s.pos > s.end {
		return nil, s.corrupt(block.IndexFilename, index.HeaderLen, errors.New("symbol table is cut off"))
	}
	return s, nil
}

// Resync moves on from an unreadable series to the next one that can be read. It
// returns how many bytes were passed over, and io.EOF if there is no other.
func (s *Source) Resync(ctx context.Context) (skipped int64, err error) {
	from := s.pos
	var scratch Series
	align := s.align()
	for pos := from + align; pos < s.end; pos += align {
		ok, err := s.readable(ctx, pos, &scratch)
		if err != nil {
			return 0, err
		}
		if ok {
			s.pos = pos
			return pos - from, nil
		}
	}
	s.pos = s.end
	return s.end - from, io.EOF
}

// readable reports whether a whole series entry begins at pos.
func (s *Source) readable(ctx context.Context, pos int64, scratch *Series) (bool, error) {
	head, err := s.index.upTo(ctx, pos, binary.MaxVarintLen32)
	if err != nil {
		return false, s.fail(block.IndexFilename, pos, err)
	}
	n, k := binary.Uvarint(head)
	if k <= 0 || n < 2 || n > maxEntry || int64(n) > s.end-pos-int64(k)-crc32.Size {
		return false, nil
	}
	// Most places are told from series by their first bytes, without a checksum.
	count, kk := binary.Uvarint(head[k:])
	if kk <= 0 || 2*count > n || (n > 1<<20 && count == 0) {
		return false, nil
	}
	b, err := s.index.bytes(ctx, pos, k+int(n)+crc32.Size)
	if err != nil {
		return false, s.fail(block.IndexFilename, pos, err)
	}
	body, ok := verify(b[k:])
	if !ok || decodeSeries(body, scratch) != nil {
		return false, nil //nolint:nilerr // that is the answer
	}
	if s.version == index.FormatV2 {
		for _, ref := range scratch.Labels {
			if int(ref) >= s.symbols {
				return false, nil
			}
		}
	}
	return true, nil
}
