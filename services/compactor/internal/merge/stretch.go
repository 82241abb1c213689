package merge

import (
	"fmt"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/tombstones"

	"github.com/promontory-io/promontory/libs/chunks"
	"github.com/promontory-io/promontory/libs/dedup"
	"github.com/promontory-io/promontory/libs/downsample"
	"github.com/promontory-io/promontory/libs/xorchunk"
)

var rawOnly = []chunks.Aggr{chunks.Raw}

// stretches is the merged series as an iterator over its samples. What it passes over
// ends up in the owner's own chunks: chunks that overlap nothing as they are, the samples
// of others in the packer. drain does the same without decoding the former.
type stretches struct {
	owner  *series
	stats  *Stats
	pieces []piece
	next   int
	whole  bool // there is but one stretch

	cur  chunkenc.Iterator // of the current stretch, nil between two
	pack bool              // whether its samples go to the packer
	err  error

	readers []downsample.Reader // one for each replica of a stretch
	floats  []*pointIterator    // the same for replicas of nothing but floats
	xor     xorchunk.Reader
	its     []chunkenc.Iterator
	merger  dedup.Merger
	filters []filter
	raw     []chunks.AggrChunk
	which   []indexed
}

func (s *stretches) reset(pieces []piece, stats *Stats) {
	s.pieces, s.stats, s.next, s.cur, s.err = pieces, stats, 0, nil, nil
	s.whole = s.owner.fn == dedup.Exact && overlapping(pieces)
	s.owner.pack.reset()
}

// take returns the pieces of the next stretch. With exact, whose choices depend on what
// is around a sample, that is everything as soon as anything overlaps.
func (s *stretches) take() []piece {
	i := s.next
	if s.whole {
		s.next = len(s.pieces)
		return s.pieces[i:]
	}
	j, end := i+1, s.pieces[i].maxt
	for ; j < len(s.pieces) && s.pieces[j].mint <= end; j++ {
		end = max(end, s.pieces[j].maxt)
	}
	s.next = j
	return s.pieces[i:j]
}

// overlapping reports whether any two pieces overlap; they are sorted.
func overlapping(pieces []piece) bool {
	for i := 1; i < len(pieces); i++ {
		if pieces[i].mint <= pieces[i-1].maxt {
			return true
		}
	}
	return false
}

// copyable reports whether a stretch needs no decoding.
func copyable(p []piece) bool { return len(p) == 1 && len(p[0].deleted) == 0 }

// copyChunk hands on the only chunk of a stretch.
func (s *stretches) copyChunk(p *piece) {
	s.stats.Copied++
	s.owner.pack.flush()
	if s.owner.wantOwn {
		s.owner.own = append(s.owner.own, p.chunk())
	}
}

// drain goes through everything for the sake of the own chunks alone.
func (s *stretches) drain() error {
	for s.next < len(s.pieces) {
		p := s.take()
		if copyable(p) {
			s.copyChunk(&p[0])
			continue
		}
		it := s.merged(p)
		for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
			if err := s.owner.pack.add(typ, it); err != nil {
				return err
			}
		}
		if err := it.Err(); err != nil {
			return err
		}
	}
	s.owner.pack.flush()
	return nil
}

// open begins the next stretch.
func (s *stretches) open() {
	p := s.take()
	if copyable(p) {
		s.copyChunk(&p[0])
		s.cur, s.pack = s.iterator(0, p), false
		return
	}
	s.cur, s.pack = s.merged(p), s.owner.wantOwn
}

// iterator reads chunks that do not overlap, with memory number i. Floats, which most
// chunks are, are decoded at once.
func (s *stretches) iterator(i int, p []piece) chunkenc.Iterator {
	if allFloats(p) {
		for len(s.floats) <= i {
			s.floats = append(s.floats, new(pointIterator))
		}
		it := s.floats[i]
		it.points, it.i, it.err = it.points[:0], -1, nil
		for k := range p {
			if it.points, it.err = s.decode(it.points, &p[k]); it.err != nil {
				it.points = nil
				break
			}
		}
		return it
	}
	for len(s.readers) <= i {
		s.readers = append(s.readers, downsample.Reader{})
	}
	begin := len(s.raw)
	if i == 0 {
		begin = 0
		s.raw = s.raw[:0]
	}
	for k := range p {
		s.raw = append(s.raw, chunks.AggrChunk{MinTime: p[k].mint, MaxTime: p[k].maxt, Raw: chunks.Chunk{Encoding: p[k].enc, Data: p[k].data}})
	}
	return s.readers[i].Iterator(s.raw[begin:len(s.raw):len(s.raw)], rawOnly)
}

// decode appends the samples of a chunk of floats that are newer than the last of dst.
func (s *stretches) decode(dst []xorchunk.Point, p *piece) ([]xorchunk.Point, error) {
	dst, err := s.xor.Append(dst, p.data)
	if err != nil {
		return dst, fmt.Errorf("chunk from %d to %d: %w", p.mint, p.maxt, err)
	}
	return dst, nil
}

func allFloats(p []piece) bool {
	for i := range p {
		if p[i].enc != chunkenc.EncXOR {
			return false
		}
	}
	return true
}

// indexed is a piece of a stretch by its number.
type indexed struct {
	mint, maxt int64
	piece      int
}

// replicas sorts the pieces of a stretch into as many replicas as are needed so that those
// of one do not overlap.
func (s *stretches) replicas(p []piece) [][]indexed {
	s.which = s.which[:0]
	for i := range p {
		s.which = append(s.which, indexed{p[i].mint, p[i].maxt, i})
	}
	return dedup.SplitOverlaps(s.which, func(c *indexed) (int64, int64) { return c.mint, c.maxt })
}

// merged returns the samples of a stretch that has to be decoded.
func (s *stretches) merged(p []piece) chunkenc.Iterator {
	s.stats.Merged += len(p)
	if s.whole {
		return s.exact(p)
	}
	replicas := s.replicas(p)
	// Readers must not move once iterators point to them.
	for len(s.readers) < len(replicas) {
		s.readers = append(s.readers, downsample.Reader{})
	}
	s.its = s.its[:0]
	s.filters = append(s.filters[:0], make([]filter, len(replicas))...)
	for i, r := range replicas {
		mine := make([]piece, len(r))
		var deleted tombstones.Intervals
		for k, x := range r {
			mine[k] = p[x.piece]
			for _, iv := range mine[k].deleted {
				deleted = deleted.Add(iv)
			}
		}
		it := s.iterator(i, mine)
		if len(deleted) > 0 {
			s.filters[i] = filter{Iterator: it, deleted: deleted}
			it = &s.filters[i]
		}
		s.its = append(s.its, it)
	}
	return s.merger.Merge(s.owner.fn, s.its, dedup.Options{})
}

// exact merges all pieces with the function that looks at chunks, not samples. What is
// deleted is left out behind it: a gap is nothing that another replica should fill.
func (s *stretches) exact(p []piece) chunkenc.Iterator {
	s.raw = s.raw[:0]
	var deleted tombstones.Intervals
	for k := range p {
		s.raw = append(s.raw, chunks.AggrChunk{MinTime: p[k].mint, MaxTime: p[k].maxt, Raw: chunks.Chunk{Encoding: p[k].enc, Data: p[k].data}})
		for _, iv := range p[k].deleted {
			deleted = deleted.Add(iv)
		}
	}
	it := s.merger.MergeChunks(dedup.Exact, s.raw, rawOnly, dedup.Options{})
	if len(deleted) == 0 {
		return it
	}
	return &filter{Iterator: it, deleted: deleted}
}

// Next implements chunkenc.Iterator.
func (s *stretches) Next() chunkenc.ValueType {
	for s.err == nil {
		if s.cur == nil {
			if s.next >= len(s.pieces) {
				s.owner.pack.flush()
				return chunkenc.ValNone
			}
			s.open()
		}
		typ := s.cur.Next()
		if typ == chunkenc.ValNone {
			s.err, s.cur = s.cur.Err(), nil
			continue
		}
		if s.pack {
			s.err = s.owner.pack.add(typ, s.cur)
		}
		if s.err == nil {
			return typ
		}
	}
	return chunkenc.ValNone
}

// Seek implements chunkenc.Iterator, step by step: nothing may be passed over.
func (s *stretches) Seek(t int64) chunkenc.ValueType {
	for {
		typ := s.Next()
		if typ == chunkenc.ValNone || s.AtT() >= t {
			return typ
		}
	}
}

// At implements chunkenc.Iterator.
func (s *stretches) At() (int64, float64) { return s.cur.At() }

// AtT implements chunkenc.Iterator.
func (s *stretches) AtT() int64 { return s.cur.AtT() }

// AtHistogram implements chunkenc.Iterator.
func (s *stretches) AtHistogram(h *histogram.Histogram) (int64, *histogram.Histogram) {
	return s.cur.AtHistogram(h)
}

// AtFloatHistogram implements chunkenc.Iterator.
func (s *stretches) AtFloatHistogram(h *histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
	return s.cur.AtFloatHistogram(h)
}

// Err implements chunkenc.Iterator.
func (s *stretches) Err() error { return s.err }

var _ chunkenc.Iterator = (*stretches)(nil)

// filter leaves out deleted samples. What follows one has lost its neighbour, so the
// reset hints of histograms are not to be believed.
type filter struct {
	chunkenc.Iterator
	deleted tombstones.Intervals
	gap     bool
}

func (f *filter) Next() chunkenc.ValueType { return f.pass(f.Iterator.Next()) }

func (f *filter) Seek(t int64) chunkenc.ValueType { return f.pass(f.Iterator.Seek(t)) }

func (f *filter) pass(typ chunkenc.ValueType) chunkenc.ValueType {
	f.gap = false
	for typ != chunkenc.ValNone && f.in(f.AtT()) {
		f.gap = true
		typ = f.Iterator.Next()
	}
	return typ
}

func (f *filter) in(t int64) bool {
	for _, iv := range f.deleted {
		if iv.InBounds(t) {
			return true
		}
	}
	return false
}

func (f *filter) AtHistogram(h *histogram.Histogram) (int64, *histogram.Histogram) {
	t, h := f.Iterator.AtHistogram(h)
	if f.gap && h != nil && h.CounterResetHint != histogram.GaugeType {
		h.CounterResetHint = histogram.UnknownCounterReset
	}
	return t, h
}

func (f *filter) AtFloatHistogram(h *histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
	t, h := f.Iterator.AtFloatHistogram(h)
	if f.gap && h != nil && h.CounterResetHint != histogram.GaugeType {
		h.CounterResetHint = histogram.UnknownCounterReset
	}
	return t, h
}
