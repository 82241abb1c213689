package cardinality

import (
	"bytes"
	"cmp"
	"container/heap"
	"slices"
)

// top keeps the largest figures; of equal ones those that came first.
type top struct {
	limit int
	list  smallest
}

// add makes a string of its parts only for those that stay.
func (t *top) add(n uint64, name ...[]byte) {
	if t.limit <= 0 || len(t.list) == t.limit && n <= t.list[0].Value {
		return
	}
	f := Figure{Name: string(bytes.Join(name, nil)), Value: n}
	if len(t.list) == t.limit {
		t.list[0] = f
		heap.Fix(&t.list, 0)
		return
	}
	heap.Push(&t.list, f)
}

func (t *top) sorted() []Figure {
	out := append([]Figure{}, t.list...)
	slices.SortFunc(out, func(a, b Figure) int {
		return cmp.Or(cmp.Compare(b.Value, a.Value), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// smallest is a heap with the smallest figure first.
type smallest []Figure

func (s smallest) Len() int           { return len(s) }
func (s smallest) Less(i, j int) bool { return s[i].Value < s[j].Value }
func (s smallest) Swap(i, j int)      { s[i], s[j] = s[j], s[i] }

// Push implements heap.Interface.
func (s *smallest) Push(v any) {
	if f, ok := v.(Figure); ok {
		*s = append(*s, f)
	}
}

// Pop implements heap.Interface.
func (s *smallest) Pop() any {
	old := *s
	last := old[len(old)-1]
	*s = old[:len(old)-1]
	return last
}
