package faults

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
)

// Counts are numbers of operations by kind. The zero value of a missing kind is right: it did not happen.
type Counts map[string]int64

// Total returns the sum over all kinds.
func (c Counts) Total() int64 { return c.Of(Operations()...) }

// Of returns the sum over the given kinds.
func (c Counts) Of(ops ...string) int64 {
	var sum int64
	for _, op := range ops {
		sum += c[op]
	}
	return sum
}

// String lists the kinds that happened.
func (c Counts) String() string {
	var parts []string
	for _, op := range Operations() {
		if c[op] != 0 {
			parts = append(parts, fmt.Sprintf("%s=%d", op, c[op]))
		}
	}
	return strings.Join(parts, " ")
}

// counters count operations by their index in Operations.
type counters [7]atomic.Int64

func (c *counters) add(op string) { c[slices.Index(Operations(), op)].Add(1) }

func (c *counters) reset() {
	for i := range c {
		c[i].Store(0)
	}
}

func (c *counters) counts() Counts {
	counts := Counts{}
	for i, op := range Operations() {
		counts[op] = c[i].Load()
	}
	return counts
}
