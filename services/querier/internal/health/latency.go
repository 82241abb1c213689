package health

import (
	"slices"
	"time"
)

const (
	// keepCalls is how many calls a latency remembers.
	keepCalls = 64
	// minCalls is from how many on it says something.
	minCalls = 8
)

// latency is the last calls' times, a ring. The zero value is ready.
type latency struct {
	ring [keepCalls]time.Duration
	next int
	n    int
}

func (l *latency) add(d time.Duration) {
	l.ring[l.next] = d
	l.next = (l.next + 1) % keepCalls
	l.n = min(l.n+1, keepCalls)
}

// quantile returns the smallest time that at least the share q of the calls did not exceed; 0 without calls.
func (l *latency) quantile(q float64) time.Duration {
	if l.n == 0 {
		return 0
	}
	sorted := l.ring
	times := sorted[:l.n]
	slices.Sort(times)
	i := int(q * float64(l.n))
	return times[min(i, l.n-1)]
}
