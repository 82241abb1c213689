package blockread

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/promontory-io/promontory/libs/chunks"
	"github.com/promontory-io/promontory/libs/downsample"
	"github.com/promontory-io/promontory/services/store-gateway/internal/rangeread"
)

// Item is a series with its chunks. Chunk data is valid until the stream moves on,
// labels for good.
type Item struct {
	Labels labels.Labels
	Chunks []chunks.AggrChunk
}

// found is a series whose chunks have yet to be read.
type found struct {
	lset labels.Labels
	refs []chunkRef
}

// batch is a number of series whose chunks are read together. Its memory is used
// again.
type batch struct {
	series []found
	bytes  int64  // that it takes, estimated
	room   int64  // that is reserved for it
	end    uint64 // of the last chunk, as a reference

	items  []Item
	chunks []chunks.AggrChunk
	aggrs  [][chunks.NumAggr]chunks.Chunk
	places []place
	ranges []rangeread.Item
	layout rangeread.Layout
	arenas []rangeread.Arena // one for each segment touched
}

// place says which chunk a range of a segment is.
type place struct {
	ref  *chunkRef
	dest int // in batch.chunks
}

func (b *batch) reset() {
	clear(b.series)
	clear(b.items)
	b.series, b.items, b.places = b.series[:0], b.items[:0], b.places[:0]
	b.bytes, b.end = 0, 0
}

// What a batch holds besides the bytes of chunks, about.
const (
	chunkOverhead  = 224 // the chunk, its place and its ranges
	aggrOverhead   = 200 // its aggregates
	seriesOverhead = 256 // the series and its label set
	chunkRefBytes  = 32
)

func (b *Block) chunkOverhead() int64 {
	if b.Meta.Thanos.Downsample.Resolution > 0 {
		return chunkOverhead + aggrOverhead
	}
	return chunkOverhead
}

// chunksPerSeries is the mean, at least 1.
func (b *Block) chunksPerSeries() int64 {
	st := b.Meta.Stats
	if st.NumSeries == 0 {
		return 1
	}
	return max(int64(st.NumChunks/st.NumSeries), 1)
}

// memory is how much of what is counted the batch holds.
func (b *batch) memory() (n int64) {
	for i := range b.arenas {
		n += int64(b.arenas[i].Cap())
	}
	return n
}

// chunkReader fills batches with chunks. It serves one goroutine.
type chunkReader struct {
	b     *Block
	q     *Query
	tally *Tally
}

// estimate is how many bytes a chunk takes.
func (b *Block) estimate(c *chunkRef) int64 {
	if c.size > 0 {
		return int64(c.size)
	}
	return b.chunkBytes
}

// load reads the chunks of the batch's series and makes its items.
func (c *chunkReader) load(ctx context.Context, bt *batch) error {
	total := 0
	for i := range bt.series {
		total += len(bt.series[i].refs)
	}
	bt.chunks = slices.Grow(bt.chunks[:0], total)[:total]
	clear(bt.chunks)
	if c.b.Meta.Thanos.Downsample.Resolution > 0 {
		bt.aggrs = slices.Grow(bt.aggrs[:0], total)[:total]
		clear(bt.aggrs)
	}
	next := 0
	for i := range bt.series {
		s := &bt.series[i]
		bt.items = append(bt.items, Item{Labels: s.lset, Chunks: bt.chunks[next : next+len(s.refs) : next+len(s.refs)]})
		for j := range s.refs {
			bt.places = append(bt.places, place{ref: &s.refs[j], dest: next})
			next++
		}
	}
	byRef := func(a, b place) int { return cmp.Compare(a.ref.ref, b.ref.ref) }
	if !slices.IsSortedFunc(bt.places, byRef) {
		slices.SortFunc(bt.places, byRef)
	}
	if err := c.q.Limits.addChunks(total); err != nil {
		return err
	}
	for rest, k := bt.places, 0; len(rest) > 0; k++ {
		seg := rest[0].ref.segment()
		n := 1
		for n < len(rest) && rest[n].ref.segment() == seg {
			n++
		}
		if k == len(bt.arenas) {
			bt.arenas = append(bt.arenas, rangeread.Arena{})
		}
		if err := c.loadSegment(ctx, bt, seg, rest[:n], &bt.arenas[k]); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}

// loadSegment reads the chunks that lie in one segment.
func (c *chunkReader) loadSegment(ctx context.Context, bt *batch, seg int, places []place, arena *rangeread.Arena) error {
	if seg >= len(c.b.segments) {
		return fmt.Errorf("%w: a chunk lies in segment %d of %d", ErrCorrupt, seg+1, len(c.b.segments))
	}
	s := c.b.segments[seg]
	bt.ranges = bt.ranges[:0]
	for _, p := range places {
		start := p.ref.offset()
		end := start + c.b.estimate(p.ref)
		if s.size > 0 {
			end = min(end, s.size)
		}
		if end < start+minChunkBytes {
			return fmt.Errorf("%s: %w: a chunk at %d, the segment has %d bytes", s.name, ErrCorrupt, start, s.size)
		}
		bt.ranges = append(bt.ranges, rangeread.Item{Start: start, End: end, Min: minChunkBytes})
	}
	bucket := c.b.deps.Bucket
	bucket.Lay(&bt.layout, bt.ranges)
	if err := c.q.Limits.addBytes(int64(bt.layout.Bytes())); err != nil {
		return err
	}
	counts := &c.tally.Kinds[Chunks]
	begin := time.Now()
	err := bucket.ReadItems(ctx, s.name, bt.ranges, &bt.layout, arena)
	counts.FetchTime += time.Since(begin)
	counts.Requests += int64(bt.layout.Requests())
	counts.FetchedBytes += int64(bt.layout.Bytes())
	if err != nil {
		return err
	}
	for i, p := range places {
		if err := c.place(ctx, bt, s, p, bt.ranges[i].Buf); err != nil {
			return fmt.Errorf("%s at %d: %w", s.name, p.ref.offset(), err)
		}
	}
	counts.Touched += int64(len(places))
	counts.Fetched += int64(len(places))
	return nil
}

// minChunkBytes is the smallest chunk there can be: length, encoding, no data, checksum.
const minChunkBytes = 1 + 1 + 4

// place puts the chunk that begins buf where it belongs.
func (c *chunkReader) place(ctx context.Context, bt *batch, s segment, p place, buf []byte) error {
	enc, data, need := chunkContent(buf)
	if need > 0 {
		c.tally.Kinds[Chunks].Refetches++
		c.tally.Kinds[Chunks].Requests++
		if err := c.q.Limits.addBytes(int64(need)); err != nil {
			return err
		}
		// The memory is the garbage collector's: a chunk beyond its estimate is rare.
		part := rangeread.Part{Off: p.ref.offset(), Buf: make([]byte, need), Min: need}
		if err := c.b.deps.Bucket.Read(ctx, s.name, &part); err != nil {
			return err
		}
		c.tally.Kinds[Chunks].FetchedBytes += int64(need)
		enc, data, _ = chunkContent(part.Buf)
	}
	if data == nil {
		return fmt.Errorf("%w: checksum or length of a chunk", ErrCorrupt)
	}
	c.tally.Kinds[Chunks].TouchedBytes += int64(len(data))
	out := &bt.chunks[p.dest]
	out.MinTime, out.MaxTime = p.ref.mint, p.ref.maxt
	if enc != downsample.Encoding {
		if !chunkenc.IsValidEncoding(enc) {
			return fmt.Errorf("%w: chunk encoding %d", ErrCorrupt, enc)
		}
		out.Raw = chunks.Chunk{Encoding: enc, Data: data, Hash: xxhash.Sum64(data)} // now, while the bytes are at hand
		return nil
	}
	parts, err := downsample.DecodeAggr(data)
	if err != nil {
		return err
	}
	if p.dest >= len(bt.aggrs) { // aggregates in a block that is said to be raw
		bt.aggrs = slices.Grow(bt.aggrs, len(bt.chunks)-len(bt.aggrs))[:len(bt.chunks)]
	}
	out.Aggr = &bt.aggrs[p.dest]
	for i := range parts {
		if c.q.wants(chunks.Aggr(i + 1)) {
			out.Aggr[i] = parts[i]
		}
	}
	return nil
}

// chunkContent takes the chunk that begins b apart. need is how many bytes there
// should be where b is too short; data is nil and need zero where it is damaged.
func chunkContent(b []byte) (enc chunkenc.Encoding, data []byte, need int) {
	n, k := binary.Uvarint(b)
	if k <= 0 || n > maxChunkBytes {
		return 0, nil, 0
	}
	end := k + 1 + int(n)
	if len(b) < end+4 {
		return 0, nil, end + 4
	}
	if crc32.Checksum(b[k:end], castagnoli) != binary.BigEndian.Uint32(b[end:]) {
		return 0, nil, 0
	}
	return chunkenc.Encoding(b[k]), b[k+1 : end : end], 0
}
