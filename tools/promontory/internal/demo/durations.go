package demo

import (
	"math"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
)

// stream is a part of the requests with its own rhythm and its own durations.
type stream struct {
	rate           curve
	median, spread float64 // of the duration, in seconds; see lognormal
}

// classicBounds are the upper bounds of the classic histogram, in seconds; +Inf comes after them.
var classicBounds = [...]float64{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10}

// The native histogram: bucket i reaches up to 2^(i/8) seconds. The first ends above 2^-12 s, a quarter of a
// millisecond, the last at 2^5 s.
const (
	nativeSchema    = 3
	perDoubling     = 1 << nativeSchema
	firstNative     = -12*perDoubling + 1
	lastNative      = 5 * perDoubling
	nativeThreshold = 1e-9
)

// durations are the latencies of a target's requests. The share of each stream that falls into a bucket is fixed; how
// much each stream has brought together since the start of the process (grown) changes.
type durations struct {
	streams []stream
	classic [][]float64 // by bound, then by stream: the share at or below it
	buckets [][]float64 // by native bucket, then by stream: the share in it
}

func newDurations(streams ...stream) *durations {
	d := &durations{streams: streams}
	for _, bound := range classicBounds {
		d.classic = append(d.classic, d.shares(0, bound))
	}
	for i := firstNative; i <= lastNative; i++ {
		d.buckets = append(d.buckets, d.shares(math.Exp2(float64(i-1)/perDoubling), math.Exp2(float64(i)/perDoubling)))
	}
	return d
}

// shares is how much of each stream takes more than lower and at most upper seconds.
func (d *durations) shares(lower, upper float64) []float64 {
	shares := make([]float64, len(d.streams))
	for i, s := range d.streams {
		shares[i] = lognormal(upper, s.median, s.spread) - lognormal(lower, s.median, s.spread)
	}
	return shares
}

// grown is the number of requests of each stream since the start of the process, not rounded.
func (d *durations) grown(t *Target, at time.Time) []float64 {
	grown := make([]float64, len(d.streams))
	for i, s := range d.streams {
		grown[i] = t.grown(s.rate, at)
	}
	return grown
}

// in is the number of requests in a bucket. Each bucket is rounded down by itself, so that none ever shrinks.
func in(shares, grown []float64) int64 {
	var n float64
	for i, share := range shares {
		n += share * grown[i]
	}
	return int64(n)
}

// count is the number of all requests: what the native buckets hold.
func (d *durations) count(grown []float64) (total int64) {
	for _, shares := range d.buckets {
		total += in(shares, grown)
	}
	return total
}

// below is the number of requests up to a classic bound. Since the native buckets are rounded down one by one, it may
// be a little more than they hold together: never more than the count.
func (d *durations) below(bound int, grown []float64) int64 {
	return min(in(d.classic[bound], grown), d.count(grown))
}

// sum is the time spent in all requests, in seconds.
func (d *durations) sum(grown []float64) float64 {
	var spent float64
	for i, s := range d.streams {
		// The mean of a lognormal distribution.
		spent += grown[i] * s.median * math.Exp(s.spread*s.spread/2)
	}
	return floor(spent, 0.001)
}

// native is the native histogram; the caller owns it.
func (d *durations) native(grown []float64) *histogram.Histogram {
	counts := make([]int64, len(d.buckets))
	h := &histogram.Histogram{Schema: nativeSchema, ZeroThreshold: nativeThreshold, Sum: d.sum(grown)}
	for i, shares := range d.buckets {
		counts[i] = in(shares, grown)
		h.Count += uint64(counts[i])
	}
	first := slices.IndexFunc(counts, func(n int64) bool { return n > 0 })
	if first < 0 {
		return h
	}
	last := len(counts)
	for counts[last-1] == 0 {
		last--
	}
	h.PositiveSpans = []histogram.Span{{Offset: int32(firstNative + first), Length: uint32(last - first)}}
	h.PositiveBuckets = deltas(counts[first:last])
	return h
}

// deltas turns counts into the differences in which histograms are kept.
func deltas(counts []int64) []int64 {
	out := make([]int64, len(counts))
	var before int64
	for i, n := range counts {
		out[i] = n - before
		before = n
	}
	return out
}
