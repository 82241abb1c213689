package read

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"path"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"

	"github.com/promontory-io/promontory/libs/block"
)

// Data is the content of a chunk.
type Data struct {
	Encoding chunkenc.Encoding
	// Bytes are the payload behind the encoding byte, valid until the next call.
	Bytes []byte
	// CRC is the checksum over encoding and payload.
	CRC uint32
}

// Chunk reads the chunk at ref. It is cheapest in the order in which the block was written.
func (s *Source) Chunk(ctx context.Context, ref chunks.BlockChunkRef) (Data, error) {
	seg, at := ref.Unpack()
	off := int64(at)
	object, err := s.openSegment(ctx, seg)
	if err != nil {
		return Data{}, err
	}
	if off < segmentStart || off >= s.chunks.size {
		return Data{}, s.corrupt(object, off, fmt.Errorf("no chunk can be here, the segment has %d bytes", s.chunks.size))
	}
	head, err := s.chunks.upTo(ctx, off, chunkHead)
	if err != nil {
		return Data{}, s.fail(object, off, err)
	}
	n, k := binary.Uvarint(head)
	if k <= 0 || n > maxChunk || int64(n)+int64(k)+1+crc32.Size > s.chunks.size-off {
		return Data{}, s.corrupt(object, off, fmt.Errorf("chunk of %d bytes reaches over the end of its segment", n))
	}
	b, err := s.chunks.bytes(ctx, off, k+1+int(n)+crc32.Size)
	if err != nil {
		return Data{}, s.fail(object, off, err)
	}
	content, err := s.checked(ctx, s.chunks, b, off, k)
	if err != nil {
		return Data{}, s.fail(object, off, err)
	}
	if content == nil {
		return Data{}, s.corrupt(object, off, errors.New("chunk does not match its checksum"))
	}
	crc := content[len(content) : len(content)+crc32.Size]
	return Data{Encoding: chunkenc.Encoding(content[0]), Bytes: content[1:], CRC: binary.BigEndian.Uint32(crc)}, nil
}

// openSegment moves the chunk window to a segment, numbered from 0.
func (s *Source) openSegment(ctx context.Context, seg int) (object string, err error) {
	if seg < 0 || seg >= len(s.segments) {
		return "", s.corrupt(fmt.Sprintf("%s/%06d", block.ChunksDirname, seg+1), -1, ErrMissing)
	}
	object = path.Join(block.ChunksDirname, s.segments[seg].name)
	if s.segment == seg {
		return object, nil
	}
	sg := &s.segments[seg]
	if sg.size == -1 {
		if sg.size, err = s.req.size(ctx, s.object(object)); err != nil {
			if errors.Is(err, ErrMissing) {
				sg.size = -2
			} else {
				sg.size = -1
				return "", fmt.Errorf("block %s: %w", s.id, err)
			}
		}
	}
	if sg.size == -2 {
		return "", s.corrupt(object, -1, ErrMissing)
	}
	if s.chunks != nil {
		s.chunks.close()
	}
	s.chunks = newWindow(&s.req, s.object(object), sg.size, s.req.opts.ChunkBuffer)
	s.segment = -1
	head, err := s.chunks.upTo(ctx, 0, segmentStart)
	if err != nil {
		return "", s.fail(object, 0, err)
	}
	if len(head) < segmentStart || binary.BigEndian.Uint32(head) != chunks.MagicChunks {
		return "", s.corrupt(object, 0, errors.New("does not begin like a chunk segment"))
	}
	s.segment = seg
	return object, nil
}
