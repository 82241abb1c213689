package indexheader

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/tsdb/index"
)

// Range is where a postings list lies in the index: its length field begins at
// Start, and it ends at End or, because of padding, some bytes before.
type Range struct{ Start, End int64 }

// Reader answers from a header. It is safe for concurrent use.
type Reader struct {
	src     io.ReaderAt
	close   func() error
	version int
	toc     *index.TOC
	// indexSize is that of the index in the bucket.
	indexSize int64
	// postingsEnd bounds the last postings list.
	postingsEnd int64

	// Symbols: where every symbolFactor'th lies in the file, and where they end.
	symbols     int
	symbolAt    []int64
	symbolsEnd  int64
	symbolShift int64 // added to a version 1 reference to get a place in the file

	names  []string // sorted, without ""
	tables map[string]*valueTable
}

// symbolFactor is how many symbols are read at once.
const symbolFactor = 32

// valueTable finds the values of one label.
type valueTable struct {
	// samples are some of the values in order, the first and the last among them.
	samples []sample
	// end is where the lines of this label end in the file.
	end   int64
	count int
	// after is where the postings list after the last one begins in the index.
	after int64
	// all holds every line in memory, where they are not sorted in the file.
	all []line
}

type sample struct {
	value string
	pos   int64
}

type line struct {
	value string
	rng   Range
}

// DefaultSampling is how many values of a label share one place in memory.
const DefaultSampling = 32

// OpenFile opens a header. sampling is how many values of a label share one place in memory;
// below 1 means DefaultSampling. Errors wrap ErrCorrupt, fs.ErrNotExist, or are those of
// the file system.
func OpenFile(name string, sampling int) (*Reader, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil {
		var r *Reader
		if r, err = open(f, st.Size(), sampling); err == nil {
			r.close = f.Close
			return r, nil
		}
	}
	return nil, errors.Join(fmt.Errorf("index header %s: %w", name, err), f.Close())
}

// OpenBytes opens a header in memory. b must not change any more.
func OpenBytes(b []byte, sampling int) (*Reader, error) {
	r, err := open(bytes.NewReader(b), int64(len(b)), sampling)
	if err != nil {
		return nil, fmt.Errorf("index header: %w", err)
	}
	r.close = func() error { return nil }
	return r, nil
}

func open(src io.ReaderAt, size int64, sampling int) (*Reader, error) {
	if sampling < 1 {
		sampling = DefaultSampling
	}
	if size < headLen+tocLen+footerLen || size > maxFileSize {
		return nil, fmt.Errorf("%w: header of %d bytes", ErrCorrupt, size)
	}
	head, foot := make([]byte, headLen), make([]byte, footerLen)
	if err := errors.Join(readAt(src, head, 0), readAt(src, foot, size-footerLen)); err != nil {
		return nil, err
	}
	if m := binary.BigEndian.Uint32(head); m != magic || head[4] != headerVersion {
		return nil, fmt.Errorf("%w: header begins with %08x version %d", ErrCorrupt, m, head[4])
	}
	if crc32.Checksum(foot[:16], castagnoli) != binary.BigEndian.Uint32(foot[16:]) {
		return nil, fmt.Errorf("%w: checksum of the footer", ErrCorrupt)
	}
	symbolsStart, tableStart := binary.BigEndian.Uint64(foot), binary.BigEndian.Uint64(foot[8:])
	if symbolsStart != headLen || tableStart < headLen || tableStart > uint64(size-footerLen-tocLen) {
		return nil, fmt.Errorf("%w: footer says symbols at %d, table at %d of %d bytes", ErrCorrupt, symbolsStart, tableStart, size)
	}
	r := &Reader{
		src: src, version: int(head[5]), tables: map[string]*valueTable{},
		postingsEnd: int64(binary.BigEndian.Uint64(head[6:])),
	}
	r.indexSize = r.postingsEnd + size - footerLen - int64(tableStart)
	tail := make([]byte, tocLen)
	err := readAt(src, tail, size-footerLen-tocLen)
	if err == nil {
		r.toc, err = parseTOC(tail, r.indexSize)
	}
	if err != nil {
		return nil, err
	}
	if int64(r.toc.PostingsTable) != r.postingsEnd || int64(r.toc.Series-r.toc.Symbols) != int64(tableStart)-headLen {
		return nil, fmt.Errorf("%w: header does not fit the index it was made of", ErrCorrupt)
	}
	r.symbolShift = headLen - int64(r.toc.Symbols)
	if err := r.scanSymbols(int64(tableStart)); err != nil {
		return nil, fmt.Errorf("symbols: %w", err)
	}
	if err := r.scanTable(int64(tableStart), size-footerLen-tocLen, sampling); err != nil {
		return nil, fmt.Errorf("postings offset table: %w", err)
	}
	return r, nil
}

func readAt(src io.ReaderAt, buf []byte, off int64) error {
	_, err := src.ReadAt(buf, off)
	return err
}

func (r *Reader) scanSymbols(limit int64) error {
	s, err := openSection(r.src, headLen, limit)
	if err != nil {
		return err
	}
	n, err := s.u32()
	if err != nil {
		return err
	}
	if int64(n) > s.left() {
		return fmt.Errorf("%w: %d symbols in %d bytes", ErrCorrupt, n, s.left())
	}
	r.symbols = int(n)
	r.symbolAt = make([]int64, 0, n/symbolFactor+1)
	for i := range r.symbols {
		if i%symbolFactor == 0 {
			r.symbolAt = append(r.symbolAt, s.pos)
		}
		if _, err := s.bytes(); err != nil {
			return err
		}
	}
	r.symbolsEnd = s.pos
	return s.finish()
}

// scanTable reads the postings offset table once and keeps samples of it.
func (r *Reader) scanTable(start, limit int64, sampling int) error {
	s, err := openSection(r.src, start, limit)
	if err != nil {
		return err
	}
	n, err := s.u32()
	if err != nil {
		return err
	}
	b := tableBuilder{r: r, sampling: sampling, sorted: true}
	scan := tableScan{s: s}
	for range n {
		e, err := scan.next()
		if err != nil {
			return err
		}
		if e.offset < indexHeadLen || e.offset >= r.postingsEnd {
			return fmt.Errorf("%w: postings of %s=%q at %d, the table is at %d", ErrCorrupt, e.name, e.value, e.offset, r.postingsEnd)
		}
		b.add(e)
	}
	b.closeTable(s.pos, r.postingsEnd)
	if err := s.finish(); err != nil {
		return err
	}
	if !b.sorted {
		if err := r.loadTable(start, limit); err != nil {
			return err
		}
	}
	for name := range r.tables {
		if name != "" {
			r.names = append(r.names, name)
		}
	}
	slices.Sort(r.names)
	return nil
}

// tableBuilder samples the lines as they come.
type tableBuilder struct {
	r        *Reader
	sampling int

	table     *valueTable
	name      string
	lastValue []byte
	lastPos   int64
	lastOff   int64
	// sorted is whether lines come in the order of names and values, and lists in the
	// order of lines. Indexes of version 1 do not promise it.
	sorted bool
}

func (b *tableBuilder) add(e entry) {
	if b.table == nil || text(e.name) != b.name {
		if b.table != nil && text(e.name) < b.name {
			b.sorted = false
		}
		b.closeTable(e.pos, e.offset)
		b.name = string(e.name)
		b.table = &valueTable{}
		if b.r.tables[b.name] != nil {
			b.sorted = false
		}
		b.r.tables[b.name] = b.table
	} else if bytes.Compare(e.value, b.lastValue) <= 0 {
		b.sorted = false
	}
	if e.offset <= b.lastOff {
		b.sorted = false
	}
	b.lastValue = append(b.lastValue[:0], e.value...)
	b.lastPos, b.lastOff = e.pos, e.offset
	if b.table.count%b.sampling == 0 {
		b.table.samples = append(b.table.samples, sample{string(e.value), e.pos})
	}
	b.table.count++
}

// closeTable ends the label before pos, where the next label's first line is.
func (b *tableBuilder) closeTable(pos, nextOffset int64) {
	if b.table == nil {
		return
	}
	if s := b.table.samples; s[len(s)-1].pos != b.lastPos {
		b.table.samples = append(s, sample{string(b.lastValue), b.lastPos})
	}
	b.table.samples = slices.Clip(b.table.samples)
	b.table.end, b.table.after = pos, nextOffset
}

// loadTable reads all lines into memory and works out the ends of the lists by their
// order in the file.
func (r *Reader) loadTable(start, limit int64) error {
	s, err := openSection(r.src, start, limit)
	if err != nil {
		return err
	}
	n, err := s.u32()
	if err != nil {
		return err
	}
	clear(r.tables)
	var starts []int64
	scan := tableScan{s: s}
	for range n {
		e, err := scan.next()
		if err != nil {
			return err
		}
		t := r.tables[text(e.name)]
		if t == nil {
			t = &valueTable{}
			r.tables[string(e.name)] = t
		}
		t.all = append(t.all, line{value: string(e.value), rng: Range{Start: e.offset}})
		starts = append(starts, e.offset)
	}
	slices.Sort(starts)
	for _, t := range r.tables {
		t.count = len(t.all)
		slices.SortFunc(t.all, func(a, b line) int { return strings.Compare(a.value, b.value) })
		for i := range t.all {
			rng := &t.all[i].rng
			rng.End = r.postingsEnd
			if k, _ := slices.BinarySearch(starts, rng.Start+1); k < len(starts) {
				rng.End = starts[k]
			}
		}
	}
	return nil
}

// Close closes the file. The Reader must not be used after it.
func (r *Reader) Close() error { return r.close() }

// Version is that of the index, 1 or 2.
func (r *Reader) Version() int { return r.version }

// IndexSize is the size of the index in the bucket.
func (r *Reader) IndexSize() int64 { return r.indexSize }

// SeriesEnd bounds the section of series entries in the index.
func (r *Reader) SeriesEnd() int64 {
	end := r.postingsEnd
	for _, o := range []uint64{r.toc.LabelIndices, r.toc.LabelIndicesTable, r.toc.Postings} {
		if o > r.toc.Series {
			end = min(end, int64(o))
		}
	}
	return end
}

// SeriesStart is where the section of series entries begins in the index.
func (r *Reader) SeriesStart() int64 { return int64(r.toc.Series) }
