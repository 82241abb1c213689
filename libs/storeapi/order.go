package storeapi

import (
	"slices"

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
	// held is sorted; equal label sets are in the order in which they came.
	held []orderItem[T]
}

type orderItem[T any] struct {
	lset  labels.Labels
	value T
}

// NewOrderer returns an Orderer that passes series on to emit, in order.
func NewOrderer[T any](emit func(labels.Labels, T) error) *Orderer[T] {
	return &Orderer[T]{emit: emit}
}

// Add takes the next series of the source. lset is its extended label set; it and
// v are kept until they are emitted. Equal label sets keep their order.
func (o *Orderer[T]) Add(lset labels.Labels, v T) error {
	// Nearly always one series waits, and goes before the one that came.
	n := 0
	for n < len(o.held) && labels.Compare(o.held[n].lset, lset) < 0 {
		n++
	}
	if err := o.release(n); err != nil {
		return err
	}
	at := len(o.held)
	for at > 0 && labels.Compare(o.held[at-1].lset, lset) > 0 {
		at--
	}
	o.held = slices.Insert(o.held, at, orderItem[T]{lset: lset, value: v})
	return nil
}

// release emits the first n that are held.
func (o *Orderer[T]) release(n int) error {
	for i := range n {
		if err := o.emit(o.held[i].lset, o.held[i].value); err != nil {
			return err
		}
	}
	o.held = slices.Delete(o.held, 0, n)
	return nil
}

// Flush passes on what is still held. It is due at the end of the source.
func (o *Orderer[T]) Flush() error { return o.release(len(o.held)) }

// Held is how many series wait.
func (o *Orderer[T]) Held() int { return len(o.held) }
