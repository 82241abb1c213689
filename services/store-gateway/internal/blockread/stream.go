package blockread

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/services/store-gateway/internal/rangeread"
)

// Stream yields the series of a block that a query selects, as the store shows them and in that
// order. It serves one goroutine and must be closed.
type Stream struct {
	b      *Block
	out    chan *batch
	free   chan *batch
	cancel context.CancelCauseFunc
	done   chan struct{}
	err    error // set before done is closed, as are mem and held
	// held is what the stream holds of the request's memory beyond the block's StreamBytes.
	mem  *Memory
	held int64

	cur *batch
	pos int
}

// batchPool keeps the memory of batches between requests.
var batchPool = sync.Pool{New: func() any { return &batch{} }}

// maxPooled is the largest batch that is kept.
const maxPooled = 16 << 20

// Series starts to read what q selects. It returns before anything is read; failures come out of
// the stream's Err.
func (b *Block) Series(ctx context.Context, q *Query) *Stream {
	ctx, cancel := context.WithCancelCause(ctx)
	s := &Stream{
		b: b, out: make(chan *batch), free: make(chan *batch, 2), cancel: cancel,
		done: make(chan struct{}), mem: q.Memory, pos: -1,
	}
	go s.run(ctx, q)
	return s
}

// Block is what the stream reads.
func (s *Stream) Block() *Block { return s.b }

// Next moves to the next series; false means the end or an error.
func (s *Stream) Next() bool {
	s.pos++
	for s.cur == nil || s.pos >= len(s.cur.items) {
		if s.cur != nil {
			s.free <- s.cur // has room: there are never more than two
			s.cur = nil
		}
		bt, ok := <-s.out
		if !ok {
			return false
		}
		s.cur, s.pos = bt, 0
	}
	return true
}

// At is the current series, valid until Next.
func (s *Stream) At() *Item { return &s.cur.items[s.pos] }

// Err is why the stream ended early. It names the block; see [Broken].
func (s *Stream) Err() error {
	<-s.done
	return s.err
}

// errClosed is why the goroutine of a closed stream ends.
var errClosed = errors.New("stream is closed")

// Close ends the stream at any point and frees what it holds.
func (s *Stream) Close() {
	s.cancel(errClosed)
	<-s.done
	s.mem.shrink(s.held)
	s.held = 0
	if s.cur != nil {
		recycle(s.cur)
		s.cur = nil
	}
	for {
		select {
		case bt := <-s.free:
			recycle(bt)
		default:
			return
		}
	}
}

func recycle(bt *batch) {
	if bt.memory() <= maxPooled {
		bt.reset()
		batchPool.Put(bt)
	}
}

// run produces the batches.
func (s *Stream) run(ctx context.Context, q *Query) {
	p := &producer{s: s, b: s.b, q: q}
	p.chunks = chunkReader{b: s.b, q: q, tally: &p.tally}
	defer close(s.done)
	defer func() {
		if r := recover(); r != nil {
			s.err = s.b.wrap(fmt.Errorf("panic while reading: %v\n%s", r, debug.Stack()))
		}
		if !p.asked {
			_ = q.Memory.admit(ctx, 0, 0) // others need not wait for what has failed
		}
		q.Stats.add(&p.tally)
		s.held = p.held
		close(s.out)
	}()
	p.tally.Blocks = 1
	err := p.produce(ctx)
	if err != nil && !errors.Is(err, errLimit) {
		s.err = s.b.wrap(err)
	}
}

// errLimit ends a stream that has given all that was asked for.
var errLimit = errors.New("limit reached")

// producer makes the batches of one stream.
type producer struct {
	s     *Stream
	b     *Block
	q     *Query
	tally Tally

	chunks  chunkReader
	pending *batch
	made    int
	room    int64 // of a batch, in bytes
	asked   bool  // whether the other streams need not wait for this one any more
	need    int64 // what was admitted
	held    int64 // see Stream
	last    labels.Labels
	count   int64 // label sets so far
}

func (p *producer) produce(ctx context.Context) error {
	r, release, err := p.b.header.Acquire(ctx)
	if err != nil {
		return err
	}
	defer release()
	f := finder{b: p.b, r: r, q: p.q, tally: &p.tally}
	refs, rest, err := f.find(ctx, p.q.Matchers, true)
	p.held += f.kept
	p.asked = true
	if err != nil || len(refs) == 0 {
		return errors.Join(err, p.q.Memory.admit(ctx, 0, 0))
	}
	total := f.answerBytes(len(refs))
	if p.q.Limit > 0 && len(rest) == 0 && int64(len(refs)) > p.q.Limit && p.q.Shard == nil {
		// More are not needed, unless some have no chunks in the range.
		p.need, total = p.b.streamBytes(int(p.q.Limit)+1), f.answerBytes(int(p.q.Limit)+1)
	}
	if p.need == 0 {
		p.need = p.b.streamBytes(len(refs))
	}
	if err := p.q.Memory.admit(ctx, p.need, total); err != nil {
		return err
	}
	p.held += p.need
	window := p.size(len(refs))
	extender := storeapi.NewExtender(p.b.External, p.q.Without)
	decoder := &entryDecoder{symbols: r.Symbols(), without: p.q.Without, rest: rest}
	extender.External().Range(func(l labels.Label) { decoder.ext = append(decoder.ext, l) })
	entries := newEntryReader(p.b, r, p.q, &p.tally, refs, window)
	emit := func(lset labels.Labels, refs []chunkRef) error { return p.add(ctx, lset, refs) }

	if slices.ContainsFunc(extender.Affected(), r.HasLabel) {
		return p.sorted(ctx, entries, decoder, emit)
	}
	order := storeapi.NewOrderer(emit)
	if err := p.decode(ctx, entries, decoder, order.Add); err != nil {
		return err
	}
	if err := order.Flush(); err != nil {
		return err
	}
	return p.flush(ctx)
}

// size chooses how much is read at once of so many series: what makes it fast if there is memory, else what was admitted. It
// returns the bytes for a window of entries.
func (p *producer) size(series int) (window int64) {
	window = min(p.b.minWindow(), p.need/2)
	batch := (p.need - window) / 2
	most := 4*int64(series)*p.b.seriesCost() + int64(series)*(p.b.seriesBytes+entryOverhead)
	want := min(2*max(p.q.BatchBytes, batch)+max(windowBytes, window), most) - p.need
	if want > 0 {
		got := p.q.Memory.extra(want)
		p.held += got
		more := min(got/5, max(windowBytes-window, 0))
		window += more
		batch += (got - more) / 2
	}
	p.room = batch
	return window
}

// sorted holds all label sets, but no chunks, to bring them into order: labels that are
// overridden or removed leave none.
func (p *producer) sorted(ctx context.Context, entries *entryReader, d *entryDecoder, emit func(labels.Labels, []chunkRef) error) error {
	var all []found
	memory := account{m: p.q.Memory}
	defer memory.close()
	err := p.decode(ctx, entries, d, func(lset labels.Labels, refs []chunkRef) error {
		all = append(all, found{lset: lset, refs: refs})
		return memory.add(ctx, seriesOverhead+int64(lset.ByteSize())+int64(len(refs))*chunkRefBytes)
	})
	if err != nil {
		return err
	}
	slices.SortStableFunc(all, func(a, b found) int { return labels.Compare(a.lset, b.lset) })
	for _, s := range all {
		if err := emit(s.lset, s.refs); err != nil {
			return err
		}
	}
	return p.flush(ctx)
}

// decode reads all entries and passes on those that the query selects.
func (p *producer) decode(ctx context.Context, entries *entryReader, d *entryDecoder, emit func(labels.Labels, []chunkRef) error) error {
	shard := storeapi.NewShard(p.q.Shard)
	var refs []chunkRef
	for {
		window, err := entries.next(ctx)
		if err != nil || len(window) == 0 {
			return err
		}
		for _, content := range window {
			n := numbers{b: content}
			lset, ok, err := d.labels(&n)
			if err != nil {
				return err
			}
			if !ok {
				p.tally.Lazy.OverfetchedBytes += int64(len(content))
				continue
			}
			if !shard.Has(lset) {
				continue
			}
			// References live as long as their series; they are cut from a common piece.
			if cap(refs)-len(refs) < 8 {
				refs = make([]chunkRef, 0, 1024)
			}
			first := len(refs)
			if refs, err = appendChunks(refs, &n, p.q.MinTime, p.q.MaxTime); err != nil {
				return err
			}
			if len(refs) == first {
				continue
			}
			own := refs[first:len(refs):len(refs)]
			if p.q.SkipChunks {
				own, refs = nil, refs[:first]
			}
			if err := emit(lset, own); err != nil {
				return err
			}
		}
	}
}

// add puts a series, in its final order, into the pending batch.
func (p *producer) add(ctx context.Context, lset labels.Labels, refs []chunkRef) error {
	if p.q.Limit > 0 && (p.count == 0 || !labels.Equal(p.last, lset)) {
		if p.count == p.q.Limit {
			if err := p.flush(ctx); err != nil {
				return err
			}
			return errLimit
		}
		p.count++
		p.last = lset
	}
	size := seriesOverhead + int64(len(refs))*p.b.chunkOverhead()
	var end uint64
	if p.pending != nil {
		end = p.pending.end
	}
	for i := range refs {
		size += p.b.estimate(&refs[i])
		if gap := int64(refs[i].ref - end); gap > 0 && gap <= rangeread.KeepGap {
			size += gap
		}
		end = refs[i].ref + uint64(refs[i].size)
	}
	if p.pending != nil && p.pending.bytes+size > min(p.pending.room, max(p.q.BatchBytes, 1)) {
		if err := p.flush(ctx); err != nil {
			return err
		}
	}
	if p.pending == nil {
		bt, err := p.batch(ctx)
		if err != nil {
			return err
		}
		p.pending = bt
	}
	bt := p.pending
	bt.end = end
	bt.bytes += size
	bt.series = append(bt.series, found{lset: lset, refs: refs})
	if len(bt.series) >= max(p.b.cfg.BatchSeries, 1) {
		return p.flush(ctx)
	}
	return nil
}

// batch returns an empty batch: a new one up to two, then one that was read.
func (p *producer) batch(ctx context.Context) (*batch, error) {
	if p.made < 2 {
		p.made++
		bt := batchPool.Get().(*batch)
		if bt.memory() > p.room {
			batchPool.Put(bt) // others may need as much
			bt = &batch{}
		}
		bt.room = p.room
		return bt, nil
	}
	select {
	case bt := <-p.s.free:
		bt.reset()
		return bt, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// flush reads the chunks of the pending batch and hands it over.
func (p *producer) flush(ctx context.Context) error {
	bt := p.pending
	if bt == nil {
		return nil
	}
	p.pending = nil
	if more := bt.bytes - bt.room; more > 0 {
		// The last series made it too large; it may be a very large one.
		if err := p.q.Memory.grow(ctx, more); err != nil {
			p.q.Limits.dropped("memory")
			return err
		}
		bt.room += more
		p.held += more
	}
	if err := p.chunks.load(ctx, bt); err != nil {
		return err
	}
	select {
	case p.s.out <- bt:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
