package downsample

import (
	"errors"
	"fmt"
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/promontory-io/promontory/libs/chunks"
)

// histPoint is a native histogram sample with exponential buckets, owned by whoever
// holds the point.
type histPoint struct {
	t     int64
	h     *histogram.FloatHistogram
	gauge bool
}

// flushHistograms downsamples the histograms read so far, which are all gauges or all
// counters.
func (d *Downsampler) flushHistograms(out []chunks.AggrChunk, resolution int64) ([]chunks.AggrChunk, error) {
	data := d.hists
	if len(data) == 0 {
		return out, nil
	}
	defer func() {
		clear(data) // histograms are big; do not hold on to them
		d.hists = data[:0]
	}()
	n := chunkCount(data[0].t, data[len(data)-1].t, rawSpacing, resolution, len(data))
	size := len(data)/n + 1
	total := new(histTotal)
	for rest := data; len(rest) > 0; {
		j := extend(rest, min(size, len(rest)), resolution, func(p *histPoint) int64 { return p.t })
		if err := lowerSchema(rest[:j]); err != nil {
			return nil, err
		}
		b := &histBuilder{gauge: rest[0].gauge}
		if err := b.batch(rest[:j], resolution, total); err != nil {
			return nil, err
		}
		out = append(out, b.out...)
		rest = rest[j:]
	}
	return out, nil
}

// lowerSchema gives all of data the lowest resolution of any, so that they can share a
// chunk.
func lowerSchema(data []histPoint) error {
	lowest := data[0].h.Schema
	for _, p := range data {
		lowest = min(lowest, p.h.Schema)
	}
	for _, p := range data {
		if p.h.Schema == lowest {
			continue
		}
		if err := p.h.ReduceResolution(lowest); err != nil {
			return fmt.Errorf("downsample histogram at %d: %w", p.t, err)
		}
	}
	return nil
}

// histTotal is a running counter histogram in which resets are evened out. It runs on
// from chunk to chunk of a series: unlike the counter of floats it cannot say its true
// last value at the end of a chunk, so a chunk that started anew would look like a
// reset to the reader.
type histTotal struct {
	offset *histogram.FloatHistogram // nil: no reset so far
	last   *histogram.FloatHistogram
}

// add takes the next raw histogram and returns the running one, owned by the caller.
func (c *histTotal) add(h *histogram.FloatHistogram) (*histogram.FloatHistogram, error) {
	if c.last != nil && isReset(h, c.last) {
		if c.offset == nil {
			c.offset = c.last.Copy()
			c.offset.CounterResetHint = histogram.UnknownCounterReset
		} else if err := addTo(c.offset, c.last); err != nil {
			return nil, err
		}
	}
	c.last = h
	cur := h.Copy()
	cur.CounterResetHint = histogram.UnknownCounterReset
	if c.offset != nil {
		if err := addTo(cur, c.offset); err != nil {
			return nil, err
		}
	}
	return cur, nil
}

// isReset trusts a hint that says reset, and looks for itself otherwise: "no reset" was
// said about a neighbour that may have been cleaned away. A change of the layout is no
// reset as long as no count falls, hence the comparison at equal resolution.
func isReset(h, prev *histogram.FloatHistogram) bool {
	if h.CounterResetHint == histogram.CounterReset {
		return true
	}
	c := *h
	c.CounterResetHint = histogram.UnknownCounterReset
	if prev.Schema < c.Schema {
		r := h.Copy()
		if r.ReduceResolution(prev.Schema) != nil {
			return true
		}
		r.CounterResetHint = histogram.UnknownCounterReset
		return r.DetectReset(prev)
	}
	return c.DetectReset(prev)
}

// addTo adds other to h, whose hint stays.
func addTo(h, other *histogram.FloatHistogram) error {
	hint := h.CounterResetHint
	if _, _, _, err := h.Add(other); err != nil {
		return fmt.Errorf("add histograms: %w", err)
	}
	h.CounterResetHint = hint
	return nil
}

// histBuilder makes the chunks of one batch: one, unless a change of layout forces
// another.
type histBuilder struct {
	gauge bool
	out   []chunks.AggrChunk

	count        chunkenc.Chunk
	countApp     chunkenc.Appender
	sum, counter histAppender
	mint, maxt   int64 // first and last window, as for floats
}

// batch downsamples data, which is not empty and has one schema.
func (b *histBuilder) batch(data []histPoint, resolution int64, total *histTotal) error {
	var (
		n       float64
		sum     *histogram.FloatHistogram
		running *histogram.FloatHistogram
		end     = windowEnd(data[0].t, resolution)
		lastT   = data[len(data)-1].t
	)
	for i, p := range data {
		if p.t > end {
			if err := b.window(end, n, sum, running); err != nil {
				return err
			}
			n, sum = 0, nil
			end = windowEnd(p.t, resolution)
		}
		n++
		if sum == nil {
			sum = p.h.Copy()
			sum.CounterResetHint = histogram.GaugeType
		} else if err := addTo(sum, p.h); err != nil {
			return fmt.Errorf("downsample histogram at %d: %w", p.t, err)
		}
		if b.gauge {
			running = p.h
			continue
		}
		var err error
		if running, err = total.add(p.h); err != nil {
			return fmt.Errorf("downsample histogram at %d: %w", p.t, err)
		}
		// The chunk's counter begins where its samples begin, not a window later.
		if i == 0 && p.t < min(end, lastT) {
			if err := b.firstCounter(p.t, running); err != nil {
				return err
			}
		}
	}
	if err := b.window(min(end, lastT), n, sum, running); err != nil {
		return err
	}
	b.cut()
	return nil
}

// firstCounter begins a chunk with the counter's value at t.
func (b *histBuilder) firstCounter(t int64, running *histogram.FloatHistogram) error {
	if err := b.begin(); err != nil {
		return err
	}
	return b.counter.append(t, running.Copy())
}

// window adds the window that is emitted at t.
func (b *histBuilder) window(t int64, n float64, sum, running *histogram.FloatHistogram) error {
	if b.count != nil && !(b.sum.fits(sum) && b.counter.fits(running)) {
		b.cut()
	}
	if b.count == nil {
		if err := b.begin(); err != nil {
			return err
		}
	}
	b.countApp.Append(t, n)
	b.mint, b.maxt = min(b.mint, t), t
	return errors.Join(b.sum.append(t, sum), b.counter.append(t, running.Copy()))
}

func (b *histBuilder) begin() error {
	c := chunkenc.NewXORChunk()
	app, err := c.Appender()
	if err != nil {
		return fmt.Errorf("begin aggregate chunk: %w", err)
	}
	b.count, b.countApp, b.mint = c, app, math.MaxInt64
	b.sum, b.counter = histAppender{}, histAppender{}
	return nil
}

// cut ends the current chunk.
func (b *histBuilder) cut() {
	if b.count == nil {
		return
	}
	count := b.count
	b.count = nil
	if count.NumSamples() == 0 {
		return // cut right behind its first counter value: the next window has it all
	}
	out := chunks.AggrChunk{MinTime: b.mint, MaxTime: b.maxt}
	out.Set(chunks.Count, chunks.Chunk{Encoding: chunkenc.EncXOR, Data: count.Bytes()})
	out.Set(chunks.Sum, b.sum.chunk())
	out.Set(chunks.Counter, b.counter.chunk())
	b.out = append(b.out, out)
}

// histAppender appends float histograms to one chunk.
type histAppender struct {
	c    chunkenc.Chunk
	app  chunkenc.Appender
	last *histogram.FloatHistogram
}

// fits reports whether h can go into the chunk as it is.
func (a *histAppender) fits(h *histogram.FloatHistogram) bool {
	switch {
	case a.last == nil:
		return true
	case h.Schema != a.last.Schema || h.ZeroThreshold != a.last.ZeroThreshold:
		return false
	case h.CounterResetHint == histogram.GaugeType:
		return true
	}
	return !h.DetectReset(a.last)
}

// append takes over h.
func (a *histAppender) append(t int64, h *histogram.FloatHistogram) error {
	if a.c == nil {
		c := chunkenc.NewFloatHistogramChunk()
		app, err := c.Appender()
		if err != nil {
			return fmt.Errorf("begin aggregate chunk: %w", err)
		}
		a.c, a.app = c, app
	}
	c, recoded, app, err := a.app.AppendFloatHistogram(nil, t, h, false)
	if err != nil {
		return fmt.Errorf("append histogram at %d: %w", t, err)
	}
	if c != nil {
		if !recoded {
			return fmt.Errorf("append histogram at %d: its layout does not fit the chunk", t)
		}
		a.c = c
	}
	a.app, a.last = app, h
	return nil
}

func (a *histAppender) chunk() chunks.Chunk {
	if a.c == nil {
		return chunks.Chunk{}
	}
	return chunks.Chunk{Encoding: chunkenc.EncFloatHistogram, Data: a.c.Bytes()}
}
