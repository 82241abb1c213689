package postings

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/index"
)

// ErrCorrupt says that a postings list cannot be right.
var ErrCorrupt = errors.New("corrupt postings list")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Evaluate joins lists, which belong to the keys of p in the order of Keys, into the
// references of the series found, in ascending order. Each list is consumed. What is returned takes no more than 4 times
// [Plan.Most] bytes, and half as much besides while it is made where several groups are joined.
func (p *Plan) Evaluate(ctx context.Context, lists []index.Postings) ([]uint32, error) {
	if p.Empty {
		return nil, nil
	}
	var add, remove []index.Postings
	most := p.most(lists)
	for _, g := range p.Groups {
		union := index.Merge(ctx, lists[:len(g.Keys)]...)
		lists = lists[len(g.Keys):]
		if g.Remove {
			remove = append(remove, union)
		} else {
			add = append(add, union)
		}
	}
	found := index.Intersect(add...)
	if len(remove) > 0 {
		found = index.Without(found, index.Merge(ctx, remove...))
	}
	if len(p.Groups) == 1 {
		return Expand(found, most, nil) // a series has one value of a label: lists of one group have none in common
	}
	// How few groups have in common is not known.
	return Expand(found, min(most, firstRefs), func(have int) (int, error) { return max(have+1, min(2*have, most)), nil })
}

// firstRefs is for how many references there is room at first where their number is not known.
const firstRefs = 1024

// most is how many series the plan finds at most, by the length of the lists.
func (p *Plan) most(lists []index.Postings) int {
	least := -1
	for _, g := range p.Groups {
		own := lists[:len(g.Keys)]
		lists = lists[len(g.Keys):]
		if g.Remove {
			continue
		}
		n := 0
		for i, l := range own {
			if sized, ok := l.(interface{ Len() int }); ok {
				n += sized.Len()
			} else {
				n += g.Keys[i].most()
			}
		}
		if least < 0 || n < least {
			least = n
		}
	}
	return max(least, 0)
}

// Expand returns all that is left in p. It makes room for size references at first; more is asked, where it is not nil, for how
// many there should be room when there was room for have: it reserves the memory, or ends Expand with its error. Nil doubles.
func Expand(p index.Postings, size int, more func(have int) (int, error)) ([]uint32, error) {
	out := make([]uint32, 0, size)
	for p.Next() {
		ref := p.At()
		if ref > 1<<32-1 {
			return nil, fmt.Errorf("%w: reference %d", ErrCorrupt, ref)
		}
		if len(out) == cap(out) {
			next := max(2*cap(out), 16)
			if more != nil {
				var err error
				if next, err = more(cap(out)); err != nil {
					return nil, err
				}
			}
			grown := make([]uint32, len(out), max(next, len(out)+1))
			copy(grown, out)
			out = grown
		}
		out = append(out, uint32(ref))
	}
	return out, p.Err()
}

// Check takes the bytes of a list as they lie in the index apart: length, count,
// references, checksum. It returns count and references, which share memory with b,
// after checking that they are whole. b may be longer than the list.
func Check(b []byte) ([]byte, error) {
	if len(b) < 4 {
		return nil, fmt.Errorf("%w: %d bytes", ErrCorrupt, len(b))
	}
	n := uint64(binary.BigEndian.Uint32(b))
	if n < 4 || n%4 != 0 || n+8 > uint64(len(b)) {
		return nil, fmt.Errorf("%w: it claims %d bytes, there are %d", ErrCorrupt, n, len(b))
	}
	content, sum := b[4:4+n], binary.BigEndian.Uint32(b[4+n:])
	if got := crc32.Checksum(content, castagnoli); got != sum {
		return nil, fmt.Errorf("%w: checksum %08x, want %08x", ErrCorrupt, got, sum)
	}
	if count := uint64(binary.BigEndian.Uint32(content)); 4+4*count != n {
		return nil, fmt.Errorf("%w: %d references in %d bytes", ErrCorrupt, count, n)
	}
	return content, nil
}

// List iterates over the references that Check returned.
type List struct {
	rest []byte
	cur  uint32
}

var _ index.Postings = (*List)(nil)

// NewList returns an iterator over content, which Check has found good.
func NewList(content []byte) *List { return &List{rest: content[4:]} }

// Len is how many references are left.
func (l *List) Len() int { return len(l.rest) / 4 }

// Next moves on.
func (l *List) Next() bool {
	if len(l.rest) < 4 {
		return false
	}
	l.cur = binary.BigEndian.Uint32(l.rest)
	l.rest = l.rest[4:]
	return true
}

// Seek moves to the first reference that is not below ref, and not back.
//
// It doubles its steps before it halves them: in intersections targets are near.
func (l *List) Seek(ref storage.SeriesRef) bool {
	if storage.SeriesRef(l.cur) >= ref && l.cur != 0 {
		return true
	}
	n := l.Len()
	at := func(i int) storage.SeriesRef { return storage.SeriesRef(binary.BigEndian.Uint32(l.rest[4*i:])) }
	lo, step := 0, 1
	for lo+step <= n && at(lo+step-1) < ref {
		lo += step
		step *= 2
	}
	hi := min(lo+step-1, n)
	for lo < hi {
		if mid := int(uint(lo+hi) / 2); at(mid) < ref {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	l.rest = l.rest[4*lo:]
	return l.Next()
}

// At is the current reference.
func (l *List) At() storage.SeriesRef { return storage.SeriesRef(l.cur) }

// Err is nil: the bytes were checked before.
func (l *List) Err() error { return nil }
