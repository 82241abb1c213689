package storeapi

import (
	"container/heap"

	"github.com/prometheus/prometheus/model/labels"
)

// Orderer restores the order of series whose label sets were extended by the same
// labels, without holding the stream.
//
// Sorted label sets that all gain the labels E stay sorted but for one case: {a} comes before
// {a, z} until both gain m. Only a set and the sets that it is a prefix of can
// swap places, and these follow it directly. So a series may be passed on as soon
// as one arrives that sorts behind it: had a later one to go before it, that
// later one would have the same prefix, with a next label no smaller than that of the one
// that arrived, which then would have gone before it too.
//
// The rule does not hold where an inner label is overridden or removed, see
// [Extender.Affected].
//
// What is held is at most a chain of sets in which each is a prefix of the next.
type Orderer[T any] struct {
	emit func(labels.Labels, T) error
	held orderHeap[T]
	seq  int
}

// NewOrderer returns an Orderer that passes series on to emit, in order.
func NewOrderer[T any](emit func(labels.Labels, T) error) *Orderer[T] {
	return &Orderer[T]{emit: emit}
}

// Add takes the next series of the source. lset is its extended label set; it and
// v are kept until they are emitted. Equal label sets keep their order.
func (o *Orderer[T]) Add(lset labels.Labels, v T) error {
	for len(o.held) > 0 && labels.Compare(o.held[0].lset, lset) < 0 {
		it := heap.Pop(&o.held).(orderItem[T])
		if err := o.emit(it.lset, it.value); err != nil {
			return err
		}
	}
	o.seq++
	heap.Push(&o.held, orderItem[T]{lset: lset, value: v, seq: o.seq})
	return nil
}

// Flush passes on what is still held. It is due at the end of the source.
func (o *Orderer[T]) Flush() error {
	for len(o.held) > 0 {
		it := heap.Pop(&o.held).(orderItem[T])
		if err := o.emit(it.lset, it.value); err != nil {
			return err
		}
	}
	return nil
}

// Held is how many series wait.
func (o *Orderer[T]) Held() int { return len(o.held) }

type orderItem[T any] struct {
	lset  labels.Labels
	value T
	seq   int
}

type orderHeap[T any] []orderItem[T]

func (h orderHeap[T]) Len() int { return len(h) }

func (h orderHeap[T]) Less(i, j int) bool {
	if c := labels.Compare(h[i].lset, h[j].lset); c != 0 {
		return c < 0
	}
	return h[i].seq < h[j].seq
}

func (h orderHeap[T]) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

func (h *orderHeap[T]) Push(x any) { *h = append(*h, x.(orderItem[T])) }

func (h *orderHeap[T]) Pop() any {
	old := *h
	n := len(old) - 1
	it := old[n]
	old[n] = orderItem[T]{}
	*h = old[:n]
	return it
}
