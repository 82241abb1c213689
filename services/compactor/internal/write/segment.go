package write

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"

	"github.com/prometheus/prometheus/tsdb/chunks"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/services/compactor/internal/merge"
)

const (
	chunksFormatV1 = 1
	writeBuffer    = 256 << 10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// segment is a chunk segment being written to a local file.
//
// Format: Prometheus TSDB chunks v1, tsdb/docs/format/chunks.md.
type segment struct {
	name, path string
	f          *os.File
	w          *bufio.Writer
	hash       hash.Hash
	hashFunc   block.HashFunc
	size       int64
	buf        []byte
}

func newSegment(dir string, n int, hf block.HashFunc) (*segment, error) {
	name := fmt.Sprintf("%06d", n)
	s := &segment{name: name, path: filepath.Join(dir, name), hashFunc: hf}
	f, err := os.Create(s.path)
	if err != nil {
		return nil, err
	}
	s.f = f
	var w io.Writer = f
	if hf != block.HashNone {
		s.hash = sha256.New()
		w = io.MultiWriter(f, s.hash)
	}
	s.w = bufio.NewWriterSize(w, writeBuffer)
	head := binary.BigEndian.AppendUint32(nil, chunks.MagicChunks)
	head = append(head, chunksFormatV1, 0, 0, 0)
	if _, err := s.w.Write(head); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	s.size = int64(len(head))
	return s, nil
}

// chunkBytes is how many bytes a chunk takes at most.
func chunkBytes(c *merge.Chunk) int64 {
	return int64(len(c.Bytes)) + binary.MaxVarintLen32 + 1 + crc32.Size
}

// write appends a chunk: its length, its encoding, its payload, and the CRC of the two latter.
func (s *segment) write(c *merge.Chunk) (crc uint32, err error) {
	s.buf = binary.AppendUvarint(s.buf[:0], uint64(len(c.Bytes)))
	s.buf = append(s.buf, byte(c.Encoding))
	crc = crc32.Update(0, castagnoli, s.buf[len(s.buf)-1:])
	crc = crc32.Update(crc, castagnoli, c.Bytes)
	if _, err := s.w.Write(s.buf); err != nil {
		return 0, err
	}
	if _, err := s.w.Write(c.Bytes); err != nil {
		return 0, err
	}
	n := len(s.buf) + len(c.Bytes) + crc32.Size
	s.buf = binary.BigEndian.AppendUint32(s.buf[:0], crc)
	if _, err := s.w.Write(s.buf); err != nil {
		return 0, err
	}
	s.size += int64(n)
	return crc, nil
}

func (s *segment) close() error { return errors.Join(s.w.Flush(), s.f.Close()) }

// sum returns the checksum of the closed segment, nil if none is wanted.
func (s *segment) sum() *block.Hash { return hashOf(s.hashFunc, s.hash) }
