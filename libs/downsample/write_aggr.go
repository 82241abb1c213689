package downsample

import (
	"fmt"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/promontory-io/promontory/libs/chunks"
	"github.com/promontory-io/promontory/libs/xorchunk"
)

// Aggregated downsamples chunks of windows of from milliseconds further, to windows
// of to. chks are the chunks of one series, sorted and not overlapping. A raw chunk
// among them is first brought to from, an empty chunk is skipped. The output is like
// that of Raw; its chunk boundaries are boundaries of chks.
//
// Errors name the time range of the chunk; those that wrap ErrCorrupt will not go
// away.
func (d *Downsampler) Aggregated(chks []chunks.AggrChunk, from, to int64) ([]chunks.AggrChunk, error) {
	if from <= 0 || to <= from {
		return nil, fmt.Errorf("downsample from %d to %d ms: the resolutions must be positive and rise", from, to)
	}
	in, err := d.onlyAggregates(chks, from)
	if err != nil {
		return nil, err
	}
	if len(in) == 0 {
		return nil, nil
	}
	samples := 0
	for i := range in {
		samples += windows(&in[i])
	}
	n := chunkCount(in[0].MinTime, in[len(in)-1].MaxTime, from, to, samples)
	size := max(1, len(in)/n)

	var out []chunks.AggrChunk
	total := new(histTotal)
	for len(in) > 0 {
		j := 1
		kind := kindOf(&in[0])
		for j < len(in) && j < size && kindOf(&in[j]) == kind {
			j++
		}
		if kind == floatKind {
			chk, err := d.floatsFurther(in[:j], to)
			if err != nil {
				return nil, err
			}
			out = append(out, chk)
		} else {
			chks, err := d.histogramsFurther(in[:j], to, kind == gaugeKind, total)
			if err != nil {
				return nil, err
			}
			out = append(out, chks...)
		}
		in = in[j:]
	}
	return out, nil
}

// onlyAggregates returns chks with raw chunks replaced by their aggregates and without
// empty chunks.
func (d *Downsampler) onlyAggregates(chks []chunks.AggrChunk, resolution int64) ([]chunks.AggrChunk, error) {
	out := make([]chunks.AggrChunk, 0, len(chks))
	for i := range chks {
		c := &chks[i]
		if c.Aggr != nil {
			if windows(c) > 0 {
				out = append(out, *c)
			}
			continue
		}
		if numSamples(c.Raw) == 0 {
			continue
		}
		it, err := new(decoder).open(c.Raw)
		if err != nil {
			return nil, fmt.Errorf("downsample chunk from %d to %d: %w", c.MinTime, c.MaxTime, err)
		}
		made, err := d.Raw(it, resolution)
		if err != nil {
			return nil, fmt.Errorf("downsample chunk from %d to %d: %w", c.MinTime, c.MaxTime, err)
		}
		out = append(out, made...)
	}
	return out, nil
}

// windows returns how many windows c has: as many as its first aggregate.
func windows(c *chunks.AggrChunk) int {
	for a := chunks.Count; a <= chunks.Counter; a++ {
		if part, ok := c.Of(a); ok {
			return numSamples(part)
		}
	}
	return 0
}

// kind is what a chunk's samples were; kinds do not mix in a chunk.
type kind uint8

const (
	floatKind kind = iota
	counterKind
	gaugeKind
)

func kindOf(c *chunks.AggrChunk) kind {
	part, ok := c.Of(chunks.Counter)
	if !ok {
		part, ok = c.Of(chunks.Sum)
	}
	if !ok || part.Encoding == chunkenc.EncXOR {
		return floatKind
	}
	// The header bits say gauge or not for all samples of a chunk.
	if len(part.Data) > 2 && chunkenc.CounterResetHeader(part.Data[2]&chunkenc.CounterResetHeaderMask) == chunkenc.GaugeType {
		return gaugeKind
	}
	return counterKind
}

// floatsFurther makes one chunk of all of in.
func (d *Downsampler) floatsFurther(in []chunks.AggrChunk, resolution int64) (chunks.AggrChunk, error) {
	b := &d.build
	b.begin()
	for _, a := range []chunks.Aggr{chunks.Count, chunks.Sum, chunks.Min, chunks.Max} {
		if err := d.readFloats(in, a); err != nil {
			return chunks.AggrChunk{}, err
		}
		if len(d.floats) == 0 {
			continue
		}
		eachWindow(d.floats, resolution, func(t int64, w window) {
			switch a {
			case chunks.Min:
				b.window(a, t, w.min)
			case chunks.Max:
				b.window(a, t, w.max)
			default:
				b.window(a, t, w.sum)
			}
		})
	}

	d.counter.Reset(in)
	d.floats = d.floats[:0]
	for d.counter.Next() == chunkenc.ValFloat {
		t, v := d.counter.At()
		d.floats = append(d.floats, xorchunk.Point{T: t, V: v})
	}
	if err := d.counter.Err(); err != nil {
		return chunks.AggrChunk{}, err
	}
	last, ok := d.counter.Last()
	if !ok {
		return chunks.AggrChunk{}, fmt.Errorf("downsample chunks from %d on: %w: no counter", in[0].MinTime, ErrCorrupt)
	}
	first, end := d.floats[0], d.floats[len(d.floats)-1].T
	b.edge(first.T, first.V)
	eachWindow(d.floats, resolution, func(t int64, w window) { b.window(chunks.Counter, t, w.counter) })
	b.edge(end, last)
	return b.finish(), nil
}

// readFloats reads aggregate a of all of in into d.floats.
func (d *Downsampler) readFloats(in []chunks.AggrChunk, a chunks.Aggr) error {
	d.floats = d.floats[:0]
	for i := range in {
		part, ok := in[i].Of(a)
		if !ok {
			continue
		}
		err := fmt.Errorf("%w: %s has encoding %d", ErrCorrupt, a, part.Encoding)
		if part.Encoding == chunkenc.EncXOR {
			d.floats, err = d.xor.Append(d.floats, part.Data)
		}
		if err != nil {
			return fmt.Errorf("read %s chunk from %d to %d: %w", a, in[i].MinTime, in[i].MaxTime, err)
		}
	}
	return nil
}

// each calls f for each sample of aggregate a of each chunk of in that has it.
func (d *Downsampler) each(in []chunks.AggrChunk, a chunks.Aggr, f func(chunkenc.Iterator, chunkenc.ValueType) error) error {
	for i := range in {
		part, ok := in[i].Of(a)
		if !ok {
			continue
		}
		it, err := d.dec.open(part)
		if err == nil {
			for typ := it.Next(); typ != chunkenc.ValNone && err == nil; typ = it.Next() {
				err = f(it, typ)
			}
			if err == nil {
				err = it.Err()
			}
		}
		if err != nil {
			return fmt.Errorf("read %s chunk from %d to %d: %w", a, in[i].MinTime, in[i].MaxTime, err)
		}
	}
	return nil
}

// histogramsFurther makes the chunks of all of in, whose samples are histograms.
func (d *Downsampler) histogramsFurther(in []chunks.AggrChunk, resolution int64, gauge bool, total *histTotal) ([]chunks.AggrChunk, error) {
	if err := d.readFloats(in, chunks.Count); err != nil {
		return nil, err
	}
	sums, err := d.readHistograms(in, chunks.Sum, histogram.GaugeType)
	if err != nil {
		return nil, err
	}
	if len(sums) != len(d.floats) {
		return nil, fmt.Errorf("downsample chunks from %d on: %w: %d counts and %d sums", in[0].MinTime, ErrCorrupt, len(d.floats), len(sums))
	}
	hint := histogram.UnknownCounterReset
	if gauge {
		hint = histogram.GaugeType
	}
	counters, err := d.readHistograms(in, chunks.Counter, hint)
	if err != nil {
		return nil, err
	}
	b := &histBuilder{gauge: gauge}
	if err := b.further(d.floats, sums, counters, resolution, total); err != nil {
		return nil, fmt.Errorf("downsample chunks from %d on: %w", in[0].MinTime, err)
	}
	return b.out, nil
}

// readHistograms reads aggregate a of all of in at one schema, with the given hint
// unless a sample says that it is a reset.
func (d *Downsampler) readHistograms(in []chunks.AggrChunk, a chunks.Aggr, hint histogram.CounterResetHint) ([]histPoint, error) {
	var out []histPoint
	err := d.each(in, a, func(it chunkenc.Iterator, typ chunkenc.ValueType) error {
		if typ == chunkenc.ValFloat {
			return fmt.Errorf("%w: %s is a %s", ErrCorrupt, a, typ)
		}
		t, h := it.AtFloatHistogram(new(histogram.FloatHistogram))
		if h.UsesCustomBuckets() {
			return fmt.Errorf("%w: %s has custom buckets", ErrCorrupt, a)
		}
		if hint == histogram.GaugeType || h.CounterResetHint != histogram.CounterReset {
			h.CounterResetHint = hint
		}
		out = append(out, histPoint{t: t, h: h})
		return nil
	})
	if err != nil || len(out) == 0 {
		return nil, err
	}
	return out, lowerSchema(out)
}

// further merges windows: counts and sums of equal length, which are added, and
// counters, of which each window keeps the last. Counters may have samples between
// windows, which only carry resets and the first value.
func (b *histBuilder) further(counts []xorchunk.Point, sums, counters []histPoint, resolution int64, total *histTotal) error {
	if len(counts) == 0 {
		return fmt.Errorf("%w: no counts", ErrCorrupt)
	}
	var running *histogram.FloatHistogram
	next := 0
	// upTo moves running to the newest counter at or before t.
	upTo := func(t int64) error {
		for ; next < len(counters) && counters[next].t <= t; next++ {
			if b.gauge {
				running = counters[next].h
				continue
			}
			var err error
			if running, err = total.add(counters[next].h); err != nil {
				return err
			}
		}
		return nil
	}
	lastT := counts[len(counts)-1].T
	if len(counters) > 0 && counters[0].t < counts[0].T {
		first := counters[0].t
		if err := upTo(first); err != nil {
			return err
		}
		if !b.gauge {
			if err := b.firstCounter(first, running); err != nil {
				return err
			}
		}
	}
	for i := 0; i < len(counts); {
		end := windowEnd(counts[i].T, resolution)
		n, sum := 0.0, sums[i].h.Copy()
		j := i
		for ; j < len(counts) && counts[j].T <= end; j++ {
			n += counts[j].V
			if sums[j].t != counts[j].T {
				return fmt.Errorf("%w: count is at %d, sum at %d", ErrCorrupt, counts[j].T, sums[j].t)
			}
			if j > i {
				if err := addTo(sum, sums[j].h); err != nil {
					return err
				}
			}
		}
		if err := upTo(min(end, lastT)); err != nil {
			return err
		}
		if running == nil {
			return fmt.Errorf("%w: no counter up to %d", ErrCorrupt, end)
		}
		if err := b.window(min(end, lastT), n, sum, running); err != nil {
			return err
		}
		i = j
	}
	b.cut()
	return nil
}
