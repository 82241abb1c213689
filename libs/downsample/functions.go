package downsample

import (
	"strings"
	"time"

	"github.com/promontory-io/promontory/libs/chunks"
)

// AggregatesFor returns the aggregates that answer a selector standing directly in
// the PromQL function or aggregation of the given name, "" for none. The result is
// either one aggregate or {Count, Sum}, of which a reader takes the mean. Raw data
// can stand in for any of them. The caller owns the result.
func AggregatesFor(function string) []chunks.Aggr {
	switch {
	case function == "min" || strings.HasPrefix(function, "min_"):
		return []chunks.Aggr{chunks.Min}
	case function == "max" || strings.HasPrefix(function, "max_"):
		return []chunks.Aggr{chunks.Max}
	case function == "count" || strings.HasPrefix(function, "count_"):
		return []chunks.Aggr{chunks.Count}
	case strings.HasPrefix(function, "sum_"):
		// sum itself adds up series at one instant: each must then be a mean.
		return []chunks.Aggr{chunks.Sum}
	}
	switch function {
	case "increase", "rate", "irate", "resets", "xincrease", "xrate":
		return []chunks.Aggr{chunks.Counter}
	}
	return []chunks.Aggr{chunks.Count, chunks.Sum}
}

// AutoResolution returns the coarsest resolution for a range query with the given
// step whose request says "auto": at least five windows in a step.
func AutoResolution(step time.Duration) time.Duration { return step / 5 }

// CapResolution returns the coarsest resolution to ask stores for: maxSource, unless
// the function around the selector needs two points in its range, which a window
// longer than half the range could not give. rng is the range of the selector, 0 for
// an instant one, which is not capped.
func CapResolution(maxSource time.Duration, function string, rng time.Duration) time.Duration {
	if rng > 0 && needsTwoPoints(function) {
		return min(maxSource, rng/2)
	}
	return maxSource
}

func needsTwoPoints(function string) bool {
	switch function {
	case "rate", "irate", "increase", "delta", "idelta", "deriv",
		"predict_linear", "holt_winters", "double_exponential_smoothing":
		return true
	}
	return false
}

// Lookback returns how far a query that accepts data up to resolution maxSource must
// look back for a sample: lookback, raised to the coarsest resolution that may be
// served. With less, an instant between two windows would find none.
func Lookback(lookback, maxSource time.Duration) time.Duration {
	switch {
	case maxSource > 5*time.Minute:
		return max(lookback, time.Hour)
	case maxSource > 0:
		return max(lookback, 5*time.Minute)
	}
	return lookback
}
