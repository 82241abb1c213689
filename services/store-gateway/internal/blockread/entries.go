package blockread

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/prometheus/prometheus/storage"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/cache/indexcache"
	"github.com/promontory-io/promontory/services/store-gateway/internal/indexheader"
	"github.com/promontory-io/promontory/services/store-gateway/internal/rangeread"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

const (
	// seriesFraming is what an entry has around its content: length and checksum.
	seriesFraming = binary.MaxVarintLen32 + 4
	// windowBytes is how many bytes of entries are read at once, about, where memory is not short.
	windowBytes = 2 << 20
	// firstWindow is how many entries are read first; who wants a few waits for no more.
	firstWindow = 256
	// maxSeriesBytes bounds what is taken for an entry. A length beyond it is damage.
	maxSeriesBytes = 64 << 20
)

// entryReader reads series entries, a window at a time. It serves one goroutine.
type entryReader struct {
	b     *Block
	r     *indexheader.Reader
	q     *Query
	tally *Tally

	// cache is nil over a local bucket: finding an entry there takes longer than reading
	// it, by a tenth of a whole request.
	cache indexcache.Cache

	refs   []uint32 // what is left to read
	window int      // how many at once
	room   int64    // how many bytes at once

	arena   rangeread.Arena
	layout  rangeread.Layout
	items   []rangeread.Item
	missing []int
	content [][]byte
	keys    []storage.SeriesRef
}

func newEntryReader(b *Block, r *indexheader.Reader, q *Query, tally *Tally, refs []uint32, room int64) *entryReader {
	window := firstWindow
	if q.Limit > 0 {
		// One more shows that the last is whole, another one that there is one more.
		window = int(min(q.Limit+2, firstWindow))
	}
	e := &entryReader{b: b, r: r, q: q, tally: tally, refs: refs, window: window, room: room}
	if !b.deps.Bucket.Local() {
		e.cache = b.deps.Cache
	}
	return e
}

// next returns the contents of the next entries, valid until the call after; none at
// the end.
func (e *entryReader) next(ctx context.Context) ([][]byte, error) {
	n, size := e.size()
	if n == 0 {
		return nil, nil
	}
	if more := size - e.room; more > 0 { // a single entry that is very large
		if err := e.q.Memory.grow(ctx, more); err != nil {
			return nil, err
		}
		e.room = size
	}
	refs := e.refs[:n]
	e.refs = e.refs[n:]
	e.window = min(4*e.window, max(e.b.cfg.BatchSeries, 1))
	if err := e.q.Limits.addSeries(n); err != nil {
		return nil, err
	}
	e.content = append(e.content[:0], make([][]byte, n)...)
	e.missing = e.missing[:0]
	var hitBytes int64
	if c := e.cache; c != nil {
		e.keys = e.keys[:0]
		for _, ref := range refs {
			e.keys = append(e.keys, storage.SeriesRef(ref))
		}
		c.Series(ctx, e.q.Tenant, e.b.Meta.ULID, e.keys, e.content)
	}
	for i, c := range e.content {
		if c == nil {
			e.missing = append(e.missing, i)
		}
		hitBytes += int64(len(c))
	}
	counts := &e.tally.Kinds[Series]
	counts.Touched += int64(n - len(e.missing))
	counts.TouchedBytes += hitBytes
	if err := e.q.Limits.addBytes(hitBytes); err != nil {
		return nil, err
	}
	if len(e.missing) > 0 {
		if err := e.fetch(ctx, refs); err != nil {
			return nil, err
		}
	}
	return e.content, nil
}

// offset is where an entry begins in the index.
func (e *entryReader) offset(ref uint32) int64 {
	if e.r.Version() == 1 {
		return int64(ref)
	}
	return int64(ref) * 16
}

// entryOverhead is what an entry takes in a window besides its bytes.
const entryOverhead = 96

// size is how many entries make the next window, and the bytes that they take.
func (e *entryReader) size() (n int, sum int64) {
	for i, ref := range e.refs {
		if i == e.window {
			return i, sum
		}
		size := e.b.seriesBytes
		if i+1 < len(e.refs) {
			size = min(size, e.offset(e.refs[i+1])-e.offset(ref))
		}
		size += entryOverhead
		if sum+size > e.room && i > 0 {
			return i, sum
		}
		sum += size
	}
	return len(e.refs), sum
}

// fetch reads the entries that are missing.
func (e *entryReader) fetch(ctx context.Context, refs []uint32) error {
	e.items = e.items[:0]
	end := e.r.SeriesEnd()
	for _, i := range e.missing {
		start := e.offset(refs[i])
		if start < e.r.SeriesStart() || start >= end {
			return e.b.atIndex(start, fmt.Errorf("%w: no series can be there", ErrCorrupt))
		}
		e.items = append(e.items, rangeread.Item{Start: start, End: min(start+e.b.seriesBytes, end), Min: 1})
	}
	e.b.deps.Bucket.Lay(&e.layout, e.items)
	counts := &e.tally.Kinds[Series]
	if err := e.q.Limits.addBytes(int64(e.layout.Bytes())); err != nil {
		return err
	}
	begin := time.Now()
	err := e.b.deps.Bucket.ReadItems(ctx, e.b.indexName(), e.items, &e.layout, &e.arena)
	counts.FetchTime += time.Since(begin)
	counts.Requests += int64(e.layout.Requests())
	counts.FetchedBytes += int64(e.layout.Bytes())
	if err != nil {
		return err
	}
	for k, i := range e.missing {
		it := &e.items[k]
		content, need := entryContent(it.Buf)
		if need > 0 {
			if content, err = e.refetch(ctx, it.Start, need); err != nil {
				return err
			}
		}
		if content == nil {
			return e.b.atIndex(it.Start, fmt.Errorf("%w: checksum or length of a series entry", ErrCorrupt))
		}
		e.content[i] = content
		counts.Touched++
		counts.Fetched++
		counts.TouchedBytes += int64(len(content))
		if c := e.cache; c != nil {
			c.StoreSeries(e.q.Tenant, e.b.Meta.ULID, storage.SeriesRef(refs[i]), content)
		}
	}
	return nil
}

// entryContent returns the content of an entry, which begins b. need is how many bytes
// there should be where b is too short; both are zero for a damaged entry.
func entryContent(b []byte) (content []byte, need int) {
	n, k := binary.Uvarint(b)
	if k == 0 && len(b) < binary.MaxVarintLen32 {
		return nil, len(b) + seriesFraming
	}
	if k <= 0 || n > maxSeriesBytes {
		return nil, 0
	}
	end := k + int(n)
	if len(b) < end+4 {
		return nil, end + 4
	}
	content = b[k:end]
	if crc32.Checksum(content, castagnoli) != binary.BigEndian.Uint32(b[end:]) {
		return nil, 0
	}
	return content, 0
}

// refetch reads an entry that is larger than it was taken to be.
func (e *entryReader) refetch(ctx context.Context, start int64, need int) ([]byte, error) {
	e.tally.Kinds[Series].Refetches++
	p := rangeread.Part{Off: start, Buf: make([]byte, need), Min: need}
	if err := e.q.Limits.addBytes(int64(need)); err != nil {
		return nil, err
	}
	if err := e.b.deps.Bucket.Read(ctx, e.b.indexName(), &p); err != nil {
		return nil, err
	}
	e.tally.Kinds[Series].Requests++
	e.tally.Kinds[Series].FetchedBytes += int64(need)
	content, _ := entryContent(p.Buf)
	return content, nil
}

func (b *Block) indexName() string { return block.ObjectName(b.Meta.ULID, block.IndexFilename) }

// atIndex says where in the index there is trouble.
func (b *Block) atIndex(pos int64, err error) error {
	return fmt.Errorf("%s at %d: %w", b.indexName(), pos, err)
}
