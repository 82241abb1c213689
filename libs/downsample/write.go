package downsample

import (
	"fmt"
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/promontory-io/promontory/libs/chunks"
)

// Downsampler makes the chunks of downsampled series, one series at a time. It keeps
// its buffers from series to series, so its memory follows the longest one. The zero
// value is ready. Not safe for concurrent use.
type Downsampler struct {
	floats  []point
	hists   []histPoint
	counter CounterSeries
	dec     decoder
	skipped int
}

// point is a float sample.
type point struct {
	t int64
	v float64
}

// Skipped returns how many samples were left out since the zero value because they
// are native histograms with custom buckets, for which no aggregates are defined.
// Where it grows the downsampled block is not complete and should say so.
func (d *Downsampler) Skipped() int { return d.skipped }

// Raw downsamples the samples of it, which must be fresh and ascending, into windows
// of resolution milliseconds. The chunks are sorted, do not overlap, and have all the
// aggregates that their kind of samples has: five for floats; count, sum and counter
// for histograms. A change between floats, counter histograms and gauge histograms
// begins a new chunk. NaNs and staleness markers are left out; a series of nothing
// else has no chunks.
//
// It returns the error of it, if there is one.
func (d *Downsampler) Raw(it chunkenc.Iterator, resolution int64) ([]chunks.AggrChunk, error) {
	if resolution <= 0 {
		return nil, fmt.Errorf("downsample to %d ms: the resolution must be positive", resolution)
	}
	d.floats, d.hists = d.floats[:0], d.hists[:0]
	var out []chunks.AggrChunk
	for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
		if typ == chunkenc.ValFloat {
			t, v := it.At()
			if math.IsNaN(v) {
				continue
			}
			if len(d.hists) > 0 {
				var err error
				if out, err = d.flushHistograms(out, resolution); err != nil {
					return nil, err
				}
			}
			d.floats = append(d.floats, point{t, v})
			continue
		}
		t, h := it.AtFloatHistogram(nil)
		switch {
		case value.IsStaleNaN(h.Sum):
			continue
		case h.UsesCustomBuckets():
			d.skipped++
			continue
		}
		if len(d.floats) > 0 {
			var err error
			if out, err = d.flushFloats(out, resolution); err != nil {
				return nil, err
			}
		}
		gauge := h.CounterResetHint == histogram.GaugeType
		if n := len(d.hists); n > 0 && gauge != d.hists[n-1].gauge {
			var err error
			if out, err = d.flushHistograms(out, resolution); err != nil {
				return nil, err
			}
		}
		d.hists = append(d.hists, histPoint{t: t, h: h, gauge: gauge})
	}
	if err := it.Err(); err != nil {
		return nil, fmt.Errorf("read samples to downsample: %w", err)
	}
	// At most one of the two has anything left.
	out, err := d.flushFloats(out, resolution)
	if err != nil {
		return nil, err
	}
	return d.flushHistograms(out, resolution)
}

// flushFloats downsamples the floats read so far.
func (d *Downsampler) flushFloats(out []chunks.AggrChunk, resolution int64) ([]chunks.AggrChunk, error) {
	data := d.floats
	d.floats = d.floats[:0]
	if len(data) == 0 {
		return out, nil
	}
	n := chunkCount(data[0].t, data[len(data)-1].t, rawSpacing, resolution, len(data))
	size := len(data)/n + 1
	for len(data) > 0 {
		j := extend(data, min(size, len(data)), resolution, func(p *point) int64 { return p.t })
		chk, err := floatChunk(data[:j], resolution)
		if err != nil {
			return nil, err
		}
		out = append(out, chk)
		data = data[j:]
	}
	return out, nil
}

// extend lengthens the first j elements to the end of the last one's window.
func extend[P any](data []P, j int, resolution int64, t func(*P) int64) int {
	end := windowEnd(t(&data[j-1]), resolution)
	for j < len(data) && t(&data[j]) <= end {
		j++
	}
	return j
}

// window is what is known of the floats of one window, and of the counter since the
// beginning of its chunk.
type window struct {
	count    float64
	sum      float64
	min, max float64
	counter  float64
}

// eachWindow calls f for each window of data, which is not empty, with its timestamp:
// its end, or the last timestamp of data where that comes before.
func eachWindow(data []point, resolution int64, f func(t int64, w window)) {
	var (
		w      window
		end    = windowEnd(data[0].t, resolution)
		lastT  = data[len(data)-1].t
		offset float64 // sum of the values before each fall
		last   = data[0].v
	)
	for _, p := range data {
		if p.t > end {
			f(end, w)
			w = window{}
			end = windowEnd(p.t, resolution)
		}
		if p.v < last {
			offset += last
		}
		last = p.v
		if w.count == 0 {
			w.min, w.max = p.v, p.v
		}
		w.count++
		w.sum += p.v
		w.min, w.max = min(w.min, p.v), max(w.max, p.v)
		w.counter = offset + p.v
	}
	f(min(end, lastT), w)
}

// floatChunk makes one chunk of all of data.
func floatChunk(data []point, resolution int64) (chunks.AggrChunk, error) {
	b, err := newFloatBuilder()
	if err != nil {
		return chunks.AggrChunk{}, err
	}
	last := data[len(data)-1]
	b.edge(data[0].t, data[0].v)
	eachWindow(data, resolution, func(t int64, w window) {
		b.window(chunks.Count, t, w.count)
		b.window(chunks.Sum, t, w.sum)
		b.window(chunks.Min, t, w.min)
		b.window(chunks.Max, t, w.max)
		b.window(chunks.Counter, t, w.counter)
	})
	b.edge(last.t, last.v)
	return b.finish(), nil
}

// floatBuilder encodes aggregates that are floats.
type floatBuilder struct {
	chks [chunks.NumAggr]*chunkenc.XORChunk
	apps [chunks.NumAggr]chunkenc.Appender
	// mint and maxt are the first and the last window. The counter's first value is
	// older than mint: it lies within the first window, which is named for its end.
	mint, maxt int64
}

func newFloatBuilder() (*floatBuilder, error) {
	b := &floatBuilder{mint: math.MaxInt64, maxt: math.MinInt64}
	for i := range b.chks {
		b.chks[i] = chunkenc.NewXORChunk()
		var err error
		if b.apps[i], err = b.chks[i].Appender(); err != nil {
			return nil, fmt.Errorf("begin aggregate chunk: %w", err)
		}
	}
	return b, nil
}

// edge appends a first or last value of the counter.
func (b *floatBuilder) edge(t int64, v float64) {
	i, _ := chunks.Counter.Index()
	b.apps[i].Append(t, v)
}

// window appends the value of the window that is emitted at t.
func (b *floatBuilder) window(a chunks.Aggr, t int64, v float64) {
	i, _ := a.Index()
	b.apps[i].Append(t, v)
	b.mint, b.maxt = min(b.mint, t), max(b.maxt, t)
}

// finish returns the chunk with those aggregates that have samples.
func (b *floatBuilder) finish() chunks.AggrChunk {
	out := chunks.AggrChunk{MinTime: b.mint, MaxTime: b.maxt, Aggr: new([chunks.NumAggr]chunks.Chunk)}
	for i, c := range b.chks {
		if c.NumSamples() > 0 {
			out.Aggr[i] = chunks.Chunk{Encoding: chunkenc.EncXOR, Data: c.Bytes()}
		}
	}
	return out
}
