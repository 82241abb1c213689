// Package plan decides how a query is taken apart: into ranges of time, into shards, and whether its answer may be kept.
//
// All of it is pure. Times are Unix milliseconds, ranges include both ends.
package plan

import "time"

// Range is the steps of a range query: Start, Start+Step, … up to End.
type Range struct{ Start, End, Step int64 }

// Align rounds both ends down to a multiple of the step.
func (r Range) Align() Range {
	r.Start = floor(r.Start, r.Step)
	r.End = floor(r.End, r.Step)
	return r
}

// floor rounds t down to a multiple of unit, also below zero.
func floor(t, unit int64) int64 {
	m := t % unit
	if m < 0 {
		m += unit
	}
	return t - m
}

// Last returns the last step of r.
func (r Range) Last() int64 { return r.Start + (r.End-r.Start)/r.Step*r.Step }

// Split cuts r so that the steps of a part are all between the same two multiples of interval. Parts ascend, have the steps
// of r and no others, and end with their last step; the end of the last is that of r. An interval of 0 does not cut.
func (r Range) Split(interval int64) []Range {
	if interval <= 0 {
		return []Range{r}
	}
	var parts []Range
	for start := r.Start; start <= r.End; {
		part := Range{Start: start, End: min(floor(start, interval)+interval-1, r.End), Step: r.Step}
		next := part.Last() + r.Step
		if next > r.End {
			part.End = r.End
		} else {
			part.End = part.Last()
		}
		parts = append(parts, part)
		start = next
	}
	return parts
}

// Intervals says how long the parts of queries are.
type Intervals struct {
	// Static is the length of all parts; 0 is to split dynamically.
	Static time.Duration
	// Min and Max bound what is chosen by the range of the query, of which it makes Shards parts.
	Min, Max time.Duration
	Shards   int
}

// For returns the length of the parts of a query over r in milliseconds; 0 is not to split.
func (v Intervals) For(r Range) int64 {
	span := time.Duration(r.End-r.Start) * time.Millisecond
	switch {
	case v.Static > 0:
		return v.Static.Milliseconds()
	case v.Max > 0 && span/v.Max >= 2:
		return v.Max.Milliseconds()
	case span > v.Min && v.Shards > 0:
		return max((span / time.Duration(v.Shards)).Milliseconds(), 1)
	default:
		return v.Min.Milliseconds()
	}
}

// Bucket is the number of the interval that t lies in.
func Bucket(t, interval int64) int64 {
	if interval <= 0 {
		return 0
	}
	return floor(t, interval) / interval
}

// Window cuts a range of a call for labels or series. Where grid is not 0 the outer ends are first moved outward to its
// multiples, but not beyond fresh, so that calls that differ by seconds have parts in common; what is younger than fresh is a
// part of its own. A cut is at a multiple of interval.
func Window(start, end, interval, grid, fresh int64) []Range {
	if grid > 0 {
		start = floor(start, grid)
		if fresh = floor(fresh, grid); end < fresh {
			end = min(floor(end, grid)+grid, fresh) - 1
		}
	}
	if interval <= 0 {
		return []Range{{Start: start, End: end, Step: 1}}
	}
	var parts []Range
	for start <= end {
		stop := min(floor(start, interval)+interval-1, end)
		if grid > 0 && start < fresh && stop >= fresh {
			stop = fresh - 1
		}
		parts = append(parts, Range{Start: start, End: stop, Step: 1})
		start = stop + 1
	}
	return parts
}

// Finer returns the steps, in milliseconds and from long to short, at which people look at data and that divide step: at each
// of its times a query has the same value whatever its step is, so answers at these steps hold one at step.
func Finer(step int64) (out []int64) {
	const second, minute, hour = int64(1000), 60 * int64(1000), 3600 * int64(1000)
	for _, s := range []int64{
		12 * hour, 6 * hour, 3 * hour, 2 * hour, hour, 30 * minute, 20 * minute, 15 * minute, 10 * minute, 5 * minute, 2 * minute, minute,
		30 * second, 20 * second, 15 * second, 10 * second, 5 * second, 2 * second, second,
	} {
		if s < step && step%s == 0 {
			out = append(out, s)
		}
	}
	return out
}

// ResolutionClass names what a querier makes of max_source_resolution: which data it may be served and how far it looks back at
// least. Of two resolutions of one class the answers are equal.
func ResolutionClass(resolution time.Duration) string {
	switch {
	case resolution <= 0:
		return "raw"
	case resolution < 5*time.Minute:
		return "under 5m"
	case resolution == 5*time.Minute:
		return "5m"
	case resolution < time.Hour:
		return "under 1h"
	}
	return "1h"
}
