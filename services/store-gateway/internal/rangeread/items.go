package rangeread

import (
	"context"

	"golang.org/x/sync/errgroup"
)

// Item is a small piece of an object among many, whose exact size may not be known.
type Item struct {
	// Start is where it begins, and End about where it ends.
	Start, End int64
	// Buf is what ReadItems has read from Start on: at least Min bytes and, unless
	// the object ends, those up to End.
	Buf []byte
	// Min is how many bytes there must be.
	Min int
}

// Arena is memory that is used again and again for what is read. The zero value is
// ready.
type Arena struct{ buf []byte }

// Cap is how much memory it holds.
func (a *Arena) Cap() int { return cap(a.buf) }

// take returns n bytes; what was taken before must not be in use any more.
func (a *Arena) take(n int) []byte {
	if cap(a.buf) < n {
		a.buf = make([]byte, n+n/8)
	}
	return a.buf[:n]
}

const (
	// KeepGap is the largest gap between two items, in bytes, that is kept in memory rather than cut out.
	KeepGap = 4 << 10
	// maxRequest is how many bytes one request may span.
	maxRequest = 16 << 20
	// itemConcurrency is how many requests for one object are under way at once.
	itemConcurrency = 4
)

// Layout is how items are read: with which requests, and into which pieces of memory.
type Layout struct {
	parts  []Part
	spans  []Span
	partOf []int
	size   int
}

// Requests is how many requests the items need.
func (l *Layout) Requests() int { return len(l.spans) }

// Bytes is how much memory the items need.
func (l *Layout) Bytes() int { return l.size }

// Lay plans the reading of items, which are in ascending order of their starts and may
// overlap. The slices of l are used again.
func (b *Bucket) Lay(l *Layout, items []Item) {
	l.parts, l.partOf, l.size = l.parts[:0], l.partOf[:0], 0
	for i := range items {
		it := &items[i]
		k := len(l.parts) - 1
		if k < 0 || it.Start > l.parts[k].end()+KeepGap {
			l.parts = append(l.parts, Part{Off: it.Start})
			k++
		}
		p := &l.parts[k]
		p.size = max(p.size, int(it.End-p.Off))
		p.Min = int(it.Start-p.Off) + it.Min
		l.partOf = append(l.partOf, k)
	}
	for i := range l.parts {
		l.size += l.parts[i].size
	}
	l.spans = Coalesce(len(l.parts), func(i int) (int64, int64) { return l.parts[i].Off, l.parts[i].end() }, b.maxGap, maxRequest)
}

// ReadItems reads items as they were laid out, with memory of a.
func (b *Bucket) ReadItems(ctx context.Context, name string, items []Item, l *Layout, a *Arena) error {
	mem := a.take(l.size)
	for i := range l.parts {
		p := &l.parts[i]
		p.Buf, mem = mem[:p.size:p.size], mem[p.size:]
	}
	if err := b.readSpans(ctx, name, l); err != nil {
		return err
	}
	for i := range items {
		p := &l.parts[l.partOf[i]]
		items[i].Buf = p.Buf[items[i].Start-p.Off:]
	}
	return nil
}

func (b *Bucket) readSpans(ctx context.Context, name string, l *Layout) error {
	if len(l.spans) == 1 || b.Local() {
		for _, s := range l.spans {
			if err := b.ReadParts(ctx, name, l.parts[s.First:s.Last]); err != nil {
				return err
			}
		}
		return nil
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(itemConcurrency)
	for _, s := range l.spans {
		g.Go(func() error { return b.ReadParts(ctx, name, l.parts[s.First:s.Last]) })
	}
	return g.Wait()
}
