package storeapi

import (
	"encoding/binary"
	"time"

	"github.com/promontory-io/promontory/libs/chunks"
)

// Resolution is how coarse the samples of a chunk are, as far as the chunk itself shows.
type Resolution int

// Resolutions of chunks. A downsampled chunk with one window counts as the finer of the two.
const (
	ResolutionRaw Resolution = iota
	Resolution5m
	Resolution1h
	NumResolutions
)

// String returns "raw", "5m" or "1h".
func (r Resolution) String() string {
	switch r {
	case Resolution5m:
		return "5m"
	case Resolution1h:
		return "1h"
	}
	return "raw"
}

// coarse is the mean distance of windows from which a chunk is of the one-hour resolution: between the two, so
// that gaps of a five-minute chunk do not make it look like one.
const coarse = int64(30 * time.Minute / time.Millisecond)

// Measure returns how many samples a chunk says it has, all encodings begin with that number, and its resolution.
func Measure(c *chunks.AggrChunk) (samples int64, r Resolution) {
	if c.Raw.Present() || c.Aggr == nil {
		return numSamples(c.Raw.Data), ResolutionRaw
	}
	for i := range c.Aggr {
		sub := &c.Aggr[i]
		if !sub.Present() {
			continue
		}
		samples = numSamples(sub.Data)
		if i == chunks.NumAggr-1 && samples > 0 {
			samples-- // the last sample of a counter is a mark, not a window
		}
		if samples > 1 && (c.MaxTime-c.MinTime)/(samples-1) >= coarse {
			return samples, Resolution1h
		}
		return samples, Resolution5m
	}
	return 0, ResolutionRaw
}

func numSamples(data []byte) int64 {
	if len(data) < 2 {
		return 0
	}
	return int64(binary.BigEndian.Uint16(data))
}
