package chunks

import "strconv"

// Aggr names a part of an AggrChunk. The numbers are those of the store protocol's
// aggregate enum, so a conversion needs no table.
type Aggr uint8

const (
	// Raw is the samples as they were scraped.
	Raw Aggr = iota
	// Count is the number of raw samples in each window.
	Count
	// Sum is their sum.
	Sum
	// Min is the smallest of them.
	Min
	// Max is the largest of them.
	Max
	// Counter is the running value of a counter, corrected for resets, between a
	// window's first and last raw value.
	Counter
)

// NumAggr is how many aggregates there are beside Raw.
const NumAggr = 5

var aggrNames = [...]string{"raw", "count", "sum", "min", "max", "counter"}

// String returns the lower-case name, or the number for a value that is none.
func (a Aggr) String() string {
	if int(a) < len(aggrNames) {
		return aggrNames[a]
	}
	return "aggr(" + strconv.Itoa(int(a)) + ")"
}

// Index returns a's place in AggrChunk.Aggr; false for Raw and unknown values.
func (a Aggr) Index() (int, bool) {
	if a < Count || a > Counter {
		return 0, false
	}
	return int(a) - 1, true
}
