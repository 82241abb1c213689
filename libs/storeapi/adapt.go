package storeapi

import (
	"slices"

	"github.com/prometheus/prometheus/model/labels"
)

// WithoutLabels removes labels from the series of a store that cannot do it
// itself, and sorts them again. It holds the whole answer: the new order is known
// only at its end.
func WithoutLabels(s Stream, remove []string) Stream {
	return &resorted{Stream: s, remove: remove}
}

type resorted struct {
	Stream
	remove []string
	buf    []Series
	cur    int
	read   bool
}

func (r *resorted) Next() bool {
	if !r.read {
		r.fill()
	}
	if r.cur+1 >= len(r.buf) {
		return false
	}
	r.cur++
	return true
}

func (r *resorted) fill() {
	r.read, r.cur = true, -1
	b := labels.NewBuilder(labels.EmptyLabels())
	for r.Stream.Next() {
		s := *r.Stream.At()
		b.Reset(s.Labels)
		s.Labels = b.Del(r.remove...).Labels()
		r.buf = append(r.buf, s)
	}
	slices.SortStableFunc(r.buf, func(a, b Series) int { return labels.Compare(a.Labels, b.Labels) })
}

func (r *resorted) At() *Series { return &r.buf[r.cur] }

func (r *resorted) Close() {
	r.buf, r.cur = nil, 0
	r.Stream.Close()
}

// FilterShard keeps the series of one shard, for stores that do not shard.
func FilterShard(s Stream, shard *Shard) Stream {
	if shard == nil {
		return s
	}
	return &sharded{Stream: s, shard: shard}
}

type sharded struct {
	Stream
	shard *Shard
}

func (s *sharded) Next() bool {
	for s.Stream.Next() {
		if s.shard.Has(s.At().Labels) {
			return true
		}
	}
	return false
}

// Limit ends a stream after n series; 0 is no limit.
func Limit(s Stream, n int64) Stream {
	if n <= 0 {
		return s
	}
	return &limited{Stream: s, left: n}
}

type limited struct {
	Stream
	left int64
}

func (l *limited) Next() bool {
	if l.left == 0 {
		return false
	}
	l.left--
	return l.Stream.Next()
}
