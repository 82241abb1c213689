// Package downsample reads and writes downsampled series.
//
// A downsampled block keeps, instead of the samples of a series, five aggregates of
// each window of 5 minutes or 1 hour: how many samples there were, their sum, the
// smallest and the largest of them, and a counter. Each PromQL function is answered
// from the aggregate that suits it; AggregatesFor says which.
//
// The counter aggregate deserves a word, because reading and writing must agree on
// it. Raw counters fall back to zero when a process restarts. A chunk of counter
// aggregates begins with the first raw value, goes on with a running total in which
// such falls are evened out, and ends with one more sample: the last timestamp a
// second time, now with the true last raw value. A reader emits nothing for that last
// sample, but compares the first value of the next chunk with it, and so sees resets
// that happen between chunks. CounterSeries is that reader.
//
// Everything here works on one series and does no I/O.
package downsample

import "time"

// The resolutions of downsampled blocks, in milliseconds. Raw data has resolution 0.
const (
	Resolution5m int64 = 5 * 60 * 1000
	Resolution1h int64 = 60 * 60 * 1000
)

// The block spans, maximum minus minimum time in milliseconds, from which on
// downsampling is worth it: raw to 5m, and 5m to 1h.
const (
	MinSpan5m = int64(40 * time.Hour / time.Millisecond)
	MinSpan1h = int64(10 * 24 * time.Hour / time.Millisecond)
)
