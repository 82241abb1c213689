package downsample

import (
	"bytes"
	"fmt"
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/promontory-io/promontory/libs/chunks"
	"github.com/promontory-io/promontory/libs/xorchunk"
)

// Downsampler makes the chunks of downsampled series, one series at a time. It keeps
// its buffers from series to series, so its memory follows the longest one. The zero
// value is ready. Not safe for concurrent use.
type Downsampler struct {
	floats  []xorchunk.Point
	build   floatBuilder
	xor     xorchunk.Reader
	hists   []histPoint
	counter CounterSeries
	dec     decoder
	skipped int
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
			d.floats = append(d.floats, xorchunk.Point{T: t, V: v})
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
		out = d.flushFloats(out, resolution)
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
	return d.flushHistograms(d.flushFloats(out, resolution), resolution)
}

// Floats is Raw for a series of nothing but floats, which are in memory: it does the same
// in less time. points stay the caller's.
func (d *Downsampler) Floats(points []xorchunk.Point, resolution int64) ([]chunks.AggrChunk, error) {
	if resolution <= 0 {
		return nil, fmt.Errorf("downsample to %d ms: the resolution must be positive", resolution)
	}
	// NaNs are rare: without one nothing is copied.
	isNaN := func(p xorchunk.Point) bool { return math.IsNaN(p.V) }
	if i := slices.IndexFunc(points, isNaN); i >= 0 {
		d.floats = append(d.floats[:0], points[:i]...)
		for _, p := range points[i:] {
			if !isNaN(p) {
				d.floats = append(d.floats, p)
			}
		}
		points = d.floats
	}
	return d.cutFloats(nil, points, resolution), nil
}

// flushFloats downsamples the floats read so far.
func (d *Downsampler) flushFloats(out []chunks.AggrChunk, resolution int64) []chunks.AggrChunk {
	data := d.floats
	d.floats = d.floats[:0]
	return d.cutFloats(out, data, resolution)
}

// cutFloats cuts data into batches and makes a chunk of each.
func (d *Downsampler) cutFloats(out []chunks.AggrChunk, data []xorchunk.Point, resolution int64) []chunks.AggrChunk {
	if len(data) == 0 {
		return out
	}
	n := chunkCount(data[0].T, data[len(data)-1].T, rawSpacing, resolution, len(data))
	size := len(data)/n + 1
	for len(data) > 0 {
		j := extend(data, min(size, len(data)), resolution, func(p *xorchunk.Point) int64 { return p.T })
		out = append(out, d.floatChunk(data[:j], resolution))
		data = data[j:]
	}
	return out
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
func eachWindow(data []xorchunk.Point, resolution int64, f func(t int64, w window)) {
	var (
		w      window
		end    = windowEnd(data[0].T, resolution)
		lastT  = data[len(data)-1].T
		offset float64 // sum of the values before each fall
		last   = data[0].V
	)
	for _, p := range data {
		if p.T > end {
			f(end, w)
			w = window{}
			end = windowEnd(p.T, resolution)
		}
		if p.V < last {
			offset += last
		}
		last = p.V
		if w.count == 0 {
			w.min, w.max = p.V, p.V
		}
		w.count++
		w.sum += p.V
		// No value is NaN here, which the built-in functions would have to look for. A zero
		// may be negative: they order it below the positive one.
		if p.V < w.min || p.V == 0 && w.min == 0 {
			w.min = min(w.min, p.V)
		}
		if p.V > w.max || p.V == 0 && w.max == 0 {
			w.max = max(w.max, p.V)
		}
		w.counter = offset + p.V
	}
	f(min(end, lastT), w)
}

// floatChunk makes one chunk of all of data.
func (d *Downsampler) floatChunk(data []xorchunk.Point, resolution int64) chunks.AggrChunk {
	b := &d.build
	b.begin()
	last := data[len(data)-1]
	b.edge(data[0].T, data[0].V)
	eachWindow(data, resolution, func(t int64, w window) {
		b.window(chunks.Count, t, w.count)
		b.window(chunks.Sum, t, w.sum)
		b.window(chunks.Min, t, w.min)
		b.window(chunks.Max, t, w.max)
		b.window(chunks.Counter, t, w.counter)
	})
	b.edge(last.T, last.V)
	return b.finish()
}

// floatBuilder encodes aggregates that are floats. Its memory is used again from chunk to
// chunk; what it returns is not.
type floatBuilder struct {
	parts [chunks.NumAggr]xorchunk.Writer
	bufs  [chunks.NumAggr][]byte
	// mint and maxt are the first and the last window. The counter's first value is
	// older than mint: it lies within the first window, which is named for its end.
	mint, maxt int64
}

func (b *floatBuilder) begin() {
	b.mint, b.maxt = math.MaxInt64, math.MinInt64
	for i := range b.parts {
		b.parts[i].Begin(b.bufs[i][:0])
	}
}

// edge appends a first or last value of the counter.
func (b *floatBuilder) edge(t int64, v float64) {
	i, _ := chunks.Counter.Index()
	b.parts[i].Add(t, v)
}

// window appends the value of the window that is emitted at t.
func (b *floatBuilder) window(a chunks.Aggr, t int64, v float64) {
	i, _ := a.Index()
	b.parts[i].Add(t, v)
	b.mint, b.maxt = min(b.mint, t), max(b.maxt, t)
}

// finish returns the chunk with those aggregates that have samples.
func (b *floatBuilder) finish() chunks.AggrChunk {
	out := chunks.AggrChunk{MinTime: b.mint, MaxTime: b.maxt, Aggr: new([chunks.NumAggr]chunks.Chunk)}
	for i := range b.parts {
		n := b.parts[i].Len()
		b.bufs[i] = b.parts[i].End(0)
		if n > 0 {
			out.Aggr[i] = chunks.Chunk{Encoding: chunkenc.EncXOR, Data: bytes.Clone(b.bufs[i])}
		}
	}
	return out
}
