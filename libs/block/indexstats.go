package block

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/bits"
	"os"
	"path/filepath"

	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/encoding"
	"github.com/prometheus/prometheus/tsdb/index"
)

// ErrCorrupt says that a block's data cannot be right: a file is missing, cut off,
// or points to what is not there. Trying again does not help; report the block.
var ErrCorrupt = errors.New("corrupt block")

const (
	indexTOCBytes = 6*8 + 4
	seriesAlign   = 16
)

// ReadIndexStats reads the series section of a local block's index once, from
// front to back, and returns the sizes of the largest series entry and the largest chunk.
//
// On the way it checks what makes a block unreadable later: the index's header,
// table of contents and series checksums, and that each chunk reference points into
// a segment that is there. Problems wrap ErrCorrupt.
//
// A chunk's size is the distance to the next chunk in the order of the index, or to
// the end of its segment; chunks written in another order (nobody does) are left out.
//
// Format: Prometheus TSDB index v1 and v2, tsdb/docs/format/index.md.
func ReadIndexStats(dir string) (IndexStats, error) {
	segments, err := listSegments(dir)
	if err != nil {
		return IndexStats{}, err
	}
	f, err := os.Open(filepath.Join(dir, IndexFilename))
	if err != nil {
		return IndexStats{}, fileErr(err)
	}
	stats, err := scanIndex(f, segments)
	if err = errors.Join(err, f.Close()); err != nil {
		return IndexStats{}, fmt.Errorf("index in %s: %w", dir, err)
	}
	return stats, nil
}

func scanIndex(f *os.File, segments []segment) (IndexStats, error) {
	version, begin, end, err := seriesSection(f)
	if err != nil {
		return IndexStats{}, err
	}
	s := indexScan{
		r:        bufio.NewReaderSize(io.NewSectionReader(f, begin, end-begin), 1<<18),
		pos:      begin,
		end:      end,
		segments: segments,
		castag:   crc32.MakeTable(crc32.Castagnoli),
	}
	align := int64(seriesAlign)
	if version == index.FormatV1 {
		align = 1
	}
	for {
		more, err := s.next(align)
		if err != nil {
			return IndexStats{}, fmt.Errorf("series at %d: %w", s.pos, err)
		}
		if !more {
			return s.finish(), nil
		}
	}
}

// seriesSection returns the version of an index and where its series begin and end.
func seriesSection(f *os.File) (version int, begin, end int64, err error) {
	st, err := f.Stat()
	if err != nil {
		return 0, 0, 0, err
	}
	size := st.Size()
	if size < index.HeaderLen+indexTOCBytes {
		return 0, 0, 0, fmt.Errorf("%w: truncated index of %d bytes", ErrCorrupt, size)
	}
	head := make([]byte, index.HeaderLen)
	if _, err := f.ReadAt(head, 0); err != nil {
		return 0, 0, 0, err
	}
	if magic := binary.BigEndian.Uint32(head); magic != index.MagicIndex {
		return 0, 0, 0, fmt.Errorf("%w: index begins with %08x, not with %08x", ErrCorrupt, magic, index.MagicIndex)
	}
	version = int(head[4])
	if version != index.FormatV1 && version != index.FormatV2 {
		return 0, 0, 0, fmt.Errorf("%w: index version %d, want 1 or 2", ErrCorrupt, version)
	}
	tail := make([]byte, indexTOCBytes)
	if _, err := f.ReadAt(tail, size-indexTOCBytes); err != nil {
		return 0, 0, 0, err
	}
	toc, err := index.NewTOCFromByteSlice(tocBytes(tail))
	if err != nil {
		return 0, 0, 0, fmt.Errorf("%w: truncated or damaged index: %w", ErrCorrupt, err)
	}
	tocAt := size - indexTOCBytes
	begin, end = int64(toc.Series), tocAt
	for _, o := range []uint64{toc.LabelIndices, toc.LabelIndicesTable, toc.Postings, toc.PostingsTable} {
		if o := int64(o); o >= begin && o < end && o > 0 {
			end = o
		}
	}
	if begin < index.HeaderLen || begin > tocAt {
		return 0, 0, 0, fmt.Errorf("%w: series begin at %d in an index of %d bytes", ErrCorrupt, begin, size)
	}
	return version, begin, end, nil
}

// tocBytes presents a table of contents to the parser that wants a whole index.
type tocBytes []byte

func (b tocBytes) Len() int                    { return len(b) }
func (b tocBytes) Range(start, end int) []byte { return b[start:end] }

// indexScan walks the entries of the series section.
type indexScan struct {
	r        *bufio.Reader
	pos, end int64
	segments []segment
	castag   *crc32.Table
	buf      []byte

	stats   IndexStats
	lastRef chunks.ChunkRef
	hasLast bool
}

// next reads one entry and reports whether there was one.
func (s *indexScan) next(align int64) (bool, error) {
	if pad := (align - s.pos%align) % align; s.pos+pad < s.end {
		n, err := s.r.Discard(int(pad))
		s.pos += int64(n)
		if err != nil {
			return false, err
		}
	} else {
		return false, nil
	}
	begin := s.pos
	length, err := binary.ReadUvarint(s.r)
	if err != nil {
		return false, fmt.Errorf("%w: length of the entry: %w", ErrCorrupt, err)
	}
	s.pos += int64(uvarintLen(length))
	// Zeroes up to the next section are padding: an entry has at least its two counts.
	if length == 0 {
		return false, nil
	}
	if length > uint64(s.end-s.pos) || s.end-s.pos-int64(length) < crc32.Size {
		return false, fmt.Errorf("%w: entry of %d bytes reaches over the end of the series", ErrCorrupt, length)
	}
	need := int(length) + crc32.Size
	if cap(s.buf) < need {
		s.buf = make([]byte, need)
	}
	s.buf = s.buf[:need]
	if _, err := io.ReadFull(s.r, s.buf); err != nil {
		return false, err
	}
	s.pos += int64(need)
	body := s.buf[:length]
	if got, want := crc32.Checksum(body, s.castag), binary.BigEndian.Uint32(s.buf[length:]); got != want {
		return false, fmt.Errorf("%w: checksum %08x, want %08x", ErrCorrupt, got, want)
	}
	s.stats.SeriesMaxSize = max(s.stats.SeriesMaxSize, alignUp(s.pos-begin, align))
	return true, s.chunks(body)
}

// chunks reads the chunk references of one series entry.
func (s *indexScan) chunks(body []byte) error {
	d := encoding.Decbuf{B: body}
	// Label pairs are symbol references, not needed here.
	for range 2 * d.Uvarint() {
		d.Uvarint()
		if d.Err() != nil {
			break
		}
	}
	n := d.Uvarint()
	var ref int64
	for i := range n {
		if i == 0 {
			d.Varint64()
			d.Uvarint64()
			ref = int64(d.Uvarint64())
		} else {
			d.Uvarint64()
			d.Uvarint64()
			ref += d.Varint64()
		}
		if d.Err() != nil {
			break
		}
		if err := s.chunk(chunks.ChunkRef(ref)); err != nil {
			return err
		}
	}
	if d.Err() != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, d.Err())
	}
	return nil
}

func (s *indexScan) chunk(ref chunks.ChunkRef) error {
	seg, off := chunks.BlockChunkRef(ref).Unpack()
	if seg < 0 || seg >= len(s.segments) {
		return fmt.Errorf("%w: chunk segment %06d is missing, there are %d", ErrCorrupt, seg+1, len(s.segments))
	}
	if int64(off) < chunks.SegmentHeaderSize || int64(off) >= s.segments[seg].size {
		return fmt.Errorf("%w: chunk at %d of segment %s, which has %d bytes", ErrCorrupt, off, s.segments[seg].name, s.segments[seg].size)
	}
	if s.hasLast {
		s.measure(ref)
	}
	s.lastRef, s.hasLast = ref, true
	return nil
}

// measure takes the size of the chunk before the one at next.
func (s *indexScan) measure(next chunks.ChunkRef) {
	seg, off := chunks.BlockChunkRef(s.lastRef).Unpack()
	nextSeg, nextOff := chunks.BlockChunkRef(next).Unpack()
	size := int64(nextOff - off)
	if seg != nextSeg {
		size = s.segments[seg].size - int64(off)
	}
	s.stats.ChunkMaxSize = max(s.stats.ChunkMaxSize, size)
}

func (s *indexScan) finish() IndexStats {
	if s.hasLast {
		seg, off := chunks.BlockChunkRef(s.lastRef).Unpack()
		s.stats.ChunkMaxSize = max(s.stats.ChunkMaxSize, s.segments[seg].size-int64(off))
	}
	return s.stats
}

func uvarintLen(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }

func alignUp(n, align int64) int64 { return (n + align - 1) / align * align }
