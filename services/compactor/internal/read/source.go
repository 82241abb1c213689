package read

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"path"
	"slices"
	"strconv"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/encoding"
	"github.com/prometheus/prometheus/tsdb/index"
	"github.com/thanos-io/objstore"

	"github.com/promontory-io/promontory/libs/block"
)

const (
	tocBytes     = 6*8 + crc32.Size
	seriesAlign  = 16
	maxEntry     = 64 << 20 // bytes of one series entry: a million chunks and more
	maxChunk     = 64 << 20
	chunkHead    = binary.MaxVarintLen32 + 1
	segmentStart = chunks.SegmentHeaderSize
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Chunk is where a chunk of a series is and what it covers, as the index says.
type Chunk struct {
	// MinTime and MaxTime are both inclusive, in Unix milliseconds.
	MinTime, MaxTime int64
	Ref              chunks.BlockChunkRef
}

// Series is one entry of an index.
type Series struct {
	// Ref is what tombstones call the series.
	Ref uint64
	// Labels are symbol references: name, value, name, value, sorted by name.
	Labels []uint32
	Chunks []Chunk
}

// Source reads one block. Not safe for concurrent use. It must be closed.
type Source struct {
	id       ulid.ULID
	req      requests
	version  int
	index    *window
	chunks   *window
	segment  int // of the chunks window, -1 before the first
	segments []segment
	toc      index.TOC
	pos, end int64 // of the series section: next entry and end
	symbols  int   // how many there are, known after Symbols
	damaged  bool  // the table of contents is not usable; salvage goes by the layout
	rereads  int
	maxEntry int64
}

type segment struct {
	name string
	size int64 // -1 if not asked yet, -2 if the object is missing
}

// Open reads a block's table of contents and finds its segments. The objects' names
// and sizes come from meta where it lists them.
func Open(ctx context.Context, bkt objstore.BucketReader, meta *block.Meta, opts Options) (*Source, error) {
	s, err := open(ctx, bkt, meta, opts)
	if err != nil {
		return nil, err
	}
	if err := s.readTOC(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// open finds the objects of a block.
func open(ctx context.Context, bkt objstore.BucketReader, meta *block.Meta, opts Options) (*Source, error) {
	s := &Source{id: meta.ULID, req: requests{bkt: bkt, opts: opts}, segment: -1}
	sizes := map[string]int64{}
	for _, f := range meta.Thanos.Files {
		if f.SizeBytes > 0 {
			sizes[f.RelPath] = f.SizeBytes
		}
	}
	// The index is asked for its size also where meta.json tells: what is shorter than
	// that, or not there, is found out before anything is built on it.
	size, err := s.req.size(ctx, s.object(block.IndexFilename))
	if err != nil {
		return nil, s.missing(block.IndexFilename, err)
	}
	s.index = newWindow(&s.req, s.object(block.IndexFilename), size, opts.IndexBuffer)
	names := slices.Clone(meta.Thanos.SegmentFiles)
	if len(names) == 0 {
		if names, err = s.listSegments(ctx); err != nil {
			return nil, err
		}
	}
	for _, name := range names {
		seg := segment{name: name, size: -1}
		if n, ok := sizes[path.Join(block.ChunksDirname, name)]; ok {
			seg.size = n
		}
		s.segments = append(s.segments, seg)
	}
	return s, nil
}

func (s *Source) object(rel string) string { return block.ObjectName(s.id, rel) }

// ID is the block's ULID.
func (s *Source) ID() ulid.ULID { return s.id }

// Rereads returns how many entries and chunks were right only when read a second time.
func (s *Source) Rereads() int { return s.rereads }

// MaxEntry returns the size of the largest series entry so far, with its padding.
func (s *Source) MaxEntry() int64 { return s.maxEntry }

// Close frees the buffers and waits for requests under way.
func (s *Source) Close() {
	s.index.close()
	if s.chunks != nil {
		s.chunks.close()
	}
}

func (s *Source) corrupt(object string, off int64, err error) error {
	return &CorruptError{Block: s.id, Object: object, Offset: off, Err: err}
}

// missing makes a missing object the block's fault; other errors stay what they are.
func (s *Source) missing(object string, err error) error {
	if errors.Is(err, ErrMissing) {
		return s.corrupt(object, -1, ErrMissing)
	}
	return fmt.Errorf("block %s: %w", s.id, err)
}

// fail tells apart what the block has to answer for and what the bucket has.
func (s *Source) fail(object string, off int64, err error) error {
	if errors.Is(err, ErrMissing) {
		return s.corrupt(object, -1, ErrMissing)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return s.corrupt(object, off, fmt.Errorf("cut off: %w", err))
	}
	return fmt.Errorf("block %s: %w", s.id, err)
}

func (s *Source) listSegments(ctx context.Context) ([]string, error) {
	var out []string
	err := s.req.retry(ctx, func() error {
		out = nil
		return s.req.bkt.Iter(ctx, s.object(block.ChunksDirname)+objstore.DirDelim, func(name string) error {
			base := path.Base(name)
			if _, err := strconv.ParseUint(base, 10, 32); err == nil && len(base) >= 6 {
				out = append(out, base)
			}
			return nil
		})
	}, s.object(block.ChunksDirname))
	if err != nil {
		return nil, fmt.Errorf("block %s: list chunk segments: %w", s.id, err)
	}
	slices.Sort(out)
	return fillGaps(out), nil
}

// fillGaps names the segments that are missing between the listed ones, for references
// count from the first.
func fillGaps(names []string) []string {
	if len(names) == 0 {
		return nil
	}
	last, err := strconv.Atoi(names[len(names)-1])
	if err != nil || last == len(names) || last > 1<<20 {
		return names
	}
	out := make([]string, last)
	for i := range out {
		out[i] = fmt.Sprintf("%06d", i+1)
	}
	return out
}

// byteSlice presents a table of contents to the parser that wants a whole index.
type byteSlice []byte

func (b byteSlice) Len() int                    { return len(b) }
func (b byteSlice) Range(start, end int) []byte { return b[start:end] }

func (s *Source) readTOC(ctx context.Context) error {
	if err := s.readHeader(ctx); err != nil {
		return err
	}
	if s.index.size < index.HeaderLen+tocBytes {
		return s.corrupt(block.IndexFilename, -1, fmt.Errorf("cut off after %d bytes", s.index.size))
	}
	at := s.index.size - tocBytes
	// Read on its own: the window has to go on from the front.
	tail, err := s.index.again(ctx, at, tocBytes)
	if err != nil {
		return s.fail(block.IndexFilename, at, err)
	}
	toc, err := index.NewTOCFromByteSlice(byteSlice(tail))
	if err != nil {
		return s.corrupt(block.IndexFilename, at, fmt.Errorf("table of contents: %w", err))
	}
	s.toc = *toc
	begin, end := int64(toc.Series), at
	for _, o := range []uint64{toc.LabelIndices, toc.LabelIndicesTable, toc.Postings, toc.PostingsTable} {
		if o := int64(o); o >= begin && o < end && o > 0 {
			end = o
		}
	}
	if begin < index.HeaderLen || begin > at || int64(toc.Symbols) < index.HeaderLen || int64(toc.Symbols) > at {
		return s.corrupt(block.IndexFilename, at, errors.New("table of contents points out of the index"))
	}
	s.pos, s.end = begin, end
	return nil
}

func (s *Source) readHeader(ctx context.Context) error {
	head, err := s.index.bytes(ctx, 0, index.HeaderLen)
	if err != nil {
		return s.fail(block.IndexFilename, 0, err)
	}
	if magic := binary.BigEndian.Uint32(head); magic != index.MagicIndex {
		return s.corrupt(block.IndexFilename, 0, fmt.Errorf("begins with %08x, not with %08x", magic, index.MagicIndex))
	}
	s.version = int(head[4])
	if s.version != index.FormatV1 && s.version != index.FormatV2 {
		return s.corrupt(block.IndexFilename, 4, fmt.Errorf("version %d, want 1 or 2", s.version))
	}
	return nil
}

func (s *Source) align() int64 {
	if s.version == index.FormatV1 {
		return 1
	}
	return seriesAlign
}

// Symbols calls f for each symbol with the reference that series use for it, in the
// order of the strings. The string is f's to keep. It must be called before Next.
func (s *Source) Symbols(ctx context.Context, f func(ref uint32, symbol string) error) error {
	begin := int64(s.toc.Symbols)
	head, err := s.index.bytes(ctx, begin, 8)
	if err != nil {
		return s.fail(block.IndexFilename, begin, err)
	}
	length, count := int64(binary.BigEndian.Uint32(head)), int(binary.BigEndian.Uint32(head[4:]))
	if length < 4 || begin+4+length+crc32.Size > s.index.size || int64(count) > length {
		return s.corrupt(block.IndexFilename, begin, errors.New("symbol table is cut off"))
	}
	sum := crc32.Update(0, castagnoli, head[4:])
	pos, end := begin+8, begin+4+length
	for i := range count {
		at := pos
		b, err := s.index.upTo(ctx, pos, int(min(binary.MaxVarintLen32, end-pos)))
		if err != nil {
			return s.fail(block.IndexFilename, pos, err)
		}
		n, k := binary.Uvarint(b)
		if k <= 0 || n > uint64(end-pos-int64(k)) {
			return s.corrupt(block.IndexFilename, pos, errors.New("symbol reaches over the end of its table"))
		}
		if b, err = s.index.bytes(ctx, pos, k+int(n)); err != nil {
			return s.fail(block.IndexFilename, pos, err)
		}
		sum = crc32.Update(sum, castagnoli, b)
		pos += int64(len(b))
		ref := uint32(i)
		if s.version == index.FormatV1 {
			ref = uint32(at)
		}
		if err := f(ref, string(b[k:])); err != nil {
			return err
		}
	}
	crc, err := s.index.bytes(ctx, end, crc32.Size)
	if err != nil {
		return s.fail(block.IndexFilename, end, err)
	}
	if want := binary.BigEndian.Uint32(crc); pos != end || sum != want {
		return s.corrupt(block.IndexFilename, begin, fmt.Errorf("symbol table has checksum %08x, want %08x", sum, want))
	}
	s.symbols = count
	return nil
}

// Next reads the next series into dst, whose slices are used again. io.EOF is the end.
// After a CorruptError Resync finds the next readable series.
func (s *Source) Next(ctx context.Context, dst *Series) error {
	align := s.align()
	s.pos += (align - s.pos%align) % align
	if s.pos >= s.end {
		return io.EOF
	}
	head, err := s.index.upTo(ctx, s.pos, binary.MaxVarintLen32)
	if err != nil {
		return s.fail(block.IndexFilename, s.pos, err)
	}
	n, k := binary.Uvarint(head)
	// An entry has at least its two counts, so a zero is padding up to the next section.
	if k > 0 && n == 0 && (s.damaged || s.end-s.pos < seriesAlign) {
		return io.EOF
	}
	if k <= 0 || n == 0 || n > maxEntry || int64(n) > s.end-s.pos-int64(k)-crc32.Size {
		return s.corrupt(block.IndexFilename, s.pos, fmt.Errorf("no series entry can have %d bytes here", n))
	}
	whole := k + int(n) + crc32.Size
	b, err := s.index.bytes(ctx, s.pos, whole)
	if err != nil {
		return s.fail(block.IndexFilename, s.pos, err)
	}
	body, err := s.checked(ctx, s.index, b, s.pos, k)
	if err != nil {
		return s.fail(block.IndexFilename, s.pos, err)
	}
	if body == nil {
		return s.corrupt(block.IndexFilename, s.pos, errors.New("series entry does not match its checksum"))
	}
	if err := decodeSeries(body, dst); err != nil {
		return s.corrupt(block.IndexFilename, s.pos, err)
	}
	dst.Ref = uint64(s.pos)
	if s.version == index.FormatV2 {
		dst.Ref /= seriesAlign
	}
	s.maxEntry = max(s.maxEntry, (int64(whole)+align-1)/align*align)
	s.pos += int64(whole)
	return nil
}

// checked returns b[from:] without the CRC at its end if that matches; else what a
// second, fresh read gives; nil if that does not match either.
func (s *Source) checked(ctx context.Context, w *window, b []byte, off int64, from int) ([]byte, error) {
	body, ok := verify(b[from:])
	if ok {
		return body, nil
	}
	fresh, err := w.again(ctx, off, len(b))
	if err != nil {
		return nil, err
	}
	if body, ok = verify(fresh[from:]); !ok {
		return nil, nil
	}
	s.rereads++
	return body, nil
}

// verify splits content and the CRC behind it, and reports whether they match.
func verify(b []byte) ([]byte, bool) {
	n := len(b) - crc32.Size
	return b[:n], crc32.Checksum(b[:n], castagnoli) == binary.BigEndian.Uint32(b[n:])
}

// decodeSeries decodes the content of a series entry.
func decodeSeries(b []byte, dst *Series) error {
	d := encoding.Decbuf{B: b}
	dst.Labels, dst.Chunks = dst.Labels[:0], dst.Chunks[:0]
	n := 2 * d.Uvarint()
	if d.Err() != nil || n < 0 || n > len(b) {
		return errors.New("series entry has an impossible number of labels")
	}
	for range n {
		dst.Labels = append(dst.Labels, uint32(d.Uvarint()))
	}
	n = d.Uvarint()
	if d.Err() != nil || n < 0 || n > len(b) {
		return errors.New("series entry has an impossible number of chunks")
	}
	var t0, ref int64
	for i := range n {
		var c Chunk
		if i == 0 {
			c.MinTime = d.Varint64()
			c.MaxTime = c.MinTime + int64(d.Uvarint64())
			ref = int64(d.Uvarint64())
		} else {
			c.MinTime = t0 + int64(d.Uvarint64())
			c.MaxTime = c.MinTime + int64(d.Uvarint64())
			ref += d.Varint64()
		}
		t0 = c.MaxTime
		c.Ref = chunks.BlockChunkRef(ref)
		dst.Chunks = append(dst.Chunks, c)
	}
	if d.Err() != nil {
		return fmt.Errorf("series entry: %w", d.Err())
	}
	return nil
}
