package bucket

import (
	"errors"
	"math"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/tombstones"

	aggregate "github.com/promontory-io/promontory/libs/chunks"
	"github.com/promontory-io/promontory/libs/downsample"
)

// errHistograms refuses what cannot be cut window by window.
var errHistograms = errors.New("downsampled native histograms cannot lose some of their time: delete the whole series, or times that hold whole chunks")

// cutAggregates leaves out the windows of an aggregate chunk that reach into times that are to go.
//
// Counters run through a chunk, corrected for resets, and end with the last raw value under the time of the last window:
// what is left keeps both, so that the increase over what is left, and the step to the next chunk, stay what they were.
func cutAggregates(c *downsample.Chunk, gone tombstones.Intervals, resolution int64) ([]chunks.Meta, error) {
	parts, err := c.Aggr()
	if err != nil {
		return nil, err
	}
	left := chunks.Meta{MinTime: math.MaxInt64, MaxTime: math.MinInt64}
	counter, _ := aggregate.Counter.Index()
	for i := range parts {
		if !parts[i].Present() {
			continue
		}
		if parts[i].Encoding != chunkenc.EncXOR {
			return nil, errHistograms
		}
		if parts[i], err = cutWindows(parts[i], gone, resolution, i == counter, &left); err != nil {
			return nil, err
		}
	}
	if left.MinTime > left.MaxTime {
		return nil, nil
	}
	made, err := downsample.NewChunk(&aggregate.AggrChunk{MinTime: left.MinTime, MaxTime: left.MaxTime, Aggr: &parts})
	if err != nil {
		return nil, err
	}
	left.Chunk = made
	return []chunks.Meta{left}, nil
}

// cutWindows leaves out windows of one aggregate, and widens span to what is left.
func cutWindows(part aggregate.Chunk, gone tombstones.Intervals, resolution int64, counter bool, span *chunks.Meta) (aggregate.Chunk, error) {
	read, err := chunkenc.FromData(part.Encoding, part.Data)
	if err != nil {
		return part, err
	}
	made := chunkenc.NewXORChunk()
	app, err := made.Appender()
	if err != nil {
		return part, err
	}
	var lastRaw float64
	last, kept, ended := int64(math.MinInt64), int64(math.MinInt64), false
	it := read.Iterator(nil)
	for it.Next() != chunkenc.ValNone {
		t, v := it.At()
		ended = counter && t == last
		last, lastRaw = t, v
		if windowGone(t, gone, resolution) || ended {
			continue
		}
		app.Append(t, v)
		kept = t
		span.MinTime, span.MaxTime = min(span.MinTime, t), max(span.MaxTime, t)
	}
	if ended && kept != math.MinInt64 {
		app.Append(kept, lastRaw)
	}
	return aggregate.Chunk{Encoding: chunkenc.EncXOR, Data: made.Bytes()}, it.Err()
}

// windowGone reports whether the window that ends at t, or in which the last sample is at t, reaches into times that are to go.
func windowGone(t int64, gone tombstones.Intervals, resolution int64) bool {
	begin := t - ((t%resolution)+resolution)%resolution
	for _, v := range gone {
		if v.Mint <= begin+resolution-1 && begin <= v.Maxt {
			return true
		}
	}
	return false
}
