package indexheader

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"unsafe"
)

// section walks a part of the file that is framed as the index frames its sections:
// length u32, content, CRC32-C of the content u32.
type section struct {
	r      *bufio.Reader
	pos    int64 // in the file, of the next byte
	end    int64 // of the content
	crc    uint32
	summed bool // whether crc is kept
	buf    []byte
}

const scanBuf = 64 << 10

// openSection starts at pos, where the length is. limit is the end of the bytes
// that may belong to it.
func openSection(src io.ReaderAt, pos, limit int64) (*section, error) {
	var head [4]byte
	if limit-pos < 8 {
		return nil, fmt.Errorf("%w: section at %d has no room", ErrCorrupt, pos)
	}
	if _, err := src.ReadAt(head[:], pos); err != nil {
		return nil, err
	}
	n := int64(binary.BigEndian.Uint32(head[:]))
	if pos+4+n+4 > limit {
		return nil, fmt.Errorf("%w: section at %d claims %d bytes, there are %d", ErrCorrupt, pos, n, limit-pos-8)
	}
	return &section{
		r:   bufio.NewReaderSize(io.NewSectionReader(src, pos+4, n+4), int(min(scanBuf, n+16))),
		pos: pos + 4, end: pos + 4 + n, summed: true,
	}, nil
}

// openRange starts in the middle of a section; nothing is summed.
func openRange(src io.ReaderAt, pos, end int64) *section {
	return &section{
		r:   bufio.NewReaderSize(io.NewSectionReader(src, pos, end-pos), int(min(scanBuf, end-pos+16))),
		pos: pos, end: end,
	}
}

func (s *section) left() int64 { return s.end - s.pos }

// next returns n bytes of the content, valid until the next call.
func (s *section) next(n int) ([]byte, error) {
	if int64(n) > s.left() || n < 0 {
		return nil, fmt.Errorf("%w: %d bytes wanted at %d, %d are left", ErrCorrupt, n, s.pos, s.left())
	}
	if cap(s.buf) < n {
		s.buf = make([]byte, max(n, 2*cap(s.buf)))
	}
	b := s.buf[:n]
	if _, err := io.ReadFull(s.r, b); err != nil {
		return nil, fmt.Errorf("read at %d: %w", s.pos, err)
	}
	s.pos += int64(n)
	if s.summed {
		s.crc = crc32.Update(s.crc, castagnoli, b)
	}
	return b, nil
}

func (s *section) u32() (uint32, error) {
	b, err := s.next(4)
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint32(b), nil
}

// uvarint reads one number; the reader's buffer has room for its longest form.
func (s *section) uvarint() (uint64, error) {
	b, err := s.r.Peek(int(min(binary.MaxVarintLen64, s.left())))
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, fmt.Errorf("read at %d: %w", s.pos, err)
	}
	v, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, fmt.Errorf("%w: number at %d", ErrCorrupt, s.pos)
	}
	_, err = s.next(n)
	return v, err
}

// bytes reads a length and as many bytes, valid until the next call.
func (s *section) bytes() ([]byte, error) {
	n, err := s.uvarint()
	if err != nil {
		return nil, err
	}
	if n > uint64(s.left()) {
		return nil, fmt.Errorf("%w: %d bytes wanted at %d, %d are left", ErrCorrupt, n, s.pos, s.left())
	}
	return s.next(int(n))
}

// finish checks the checksum of a section that was read to its end.
func (s *section) finish() error {
	if s.left() > 0 {
		if _, err := s.next(int(s.left())); err != nil {
			return err
		}
	}
	var tail [4]byte
	if _, err := io.ReadFull(s.r, tail[:]); err != nil {
		return err
	}
	if want := binary.BigEndian.Uint32(tail[:]); want != s.crc {
		return fmt.Errorf("%w: checksum %08x, want %08x", ErrCorrupt, s.crc, want)
	}
	return nil
}

// entry is one line of the postings offset table. name and value alias the
// buffers of the tableScan and are valid until its next step.
type entry struct {
	pos         int64 // in the file
	name, value []byte
	offset      int64 // of the postings list in the index
}

// tableScan walks the lines of the postings offset table.
type tableScan struct {
	s           *section
	name, value []byte
}

func (t *tableScan) next() (e entry, err error) {
	e.pos = t.s.pos
	keys, err := t.s.uvarint()
	if err != nil {
		return e, err
	}
	if keys != 2 {
		return e, fmt.Errorf("%w: postings table entry at %d has %d keys", ErrCorrupt, e.pos, keys)
	}
	b, err := t.s.bytes()
	if err != nil {
		return e, err
	}
	t.name = append(t.name[:0], b...)
	if b, err = t.s.bytes(); err != nil {
		return e, err
	}
	t.value = append(t.value[:0], b...)
	off, err := t.s.uvarint()
	e.name, e.value, e.offset = t.name, t.value, int64(off)
	return e, err
}

// text views b as a string for as long as b stays as it is.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
