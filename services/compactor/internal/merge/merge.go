package merge

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/tombstones"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/chunks"
	"github.com/promontory-io/promontory/libs/dedup"
	"github.com/promontory-io/promontory/libs/downsample"
	"github.com/promontory-io/promontory/services/compactor/internal/read"
)

// Chunk is one chunk of a result.
type Chunk struct {
	// MinTime and MaxTime are both inclusive, in Unix milliseconds.
	MinTime, MaxTime int64
	Encoding         chunkenc.Encoding
	// Bytes are the payload behind the encoding byte.
	Bytes []byte
	// Samples is how many samples, or windows, the chunk has.
	Samples int
}

// Input is one source of a pass.
type Input struct {
	Source *read.Source
	// MinTime and MaxTime are the range of the block, MaxTime exclusive. Chunks that lie
	// outside of it altogether are a known fault of old writers and are left out: the
	// block they belong to has them too.
	MinTime, MaxTime int64
	// Tombstones tell what is deleted, by the source's own references. Nil: nothing.
	Tombstones tombstones.Reader
}

// Output takes the series of one resolution.
type Output interface {
	// Begin is called once, with all strings that labels may have, sorted.
	Begin(symbols []string) error
	// Add is called for each series that has chunks, in the order of labels. Chunks are
	// sorted and do not overlap. Their bytes are valid until it returns.
	Add(lset labels.Labels, chunks []Chunk) error
}

// Options say what a pass makes.
type Options struct {
	// Resolution is that of the sources.
	Resolution int64
	// Dedup merges what overlaps.
	Dedup dedup.Func
	// Salvage makes the pass go on where something cannot be read, and takes down what was
	// lost. It wants a single source.
	Salvage *Loss
}

// Stats is what a pass met with.
type Stats struct {
	// Series is how many different series the sources have, SourceSeries how many with repetition.
	Series, SourceSeries int
	// Copied chunks went on undecoded, Dropped ones were identical to another,
	// Merged ones were decoded, Outside ones lay out of their block's range.
	Copied, Dropped, Merged, Outside int
	// Rereads is how many checksums were right only when read a second time.
	Rereads int
	// Skipped is how many samples could not be downsampled, since their native histograms
	// have custom buckets.
	Skipped int
}

// pass is the state of one Run.
type pass struct {
	opts    Options
	outs    outputs
	syms    *symbols
	builder labels.ScratchBuilder
	series  series
	arena   []byte
	stats   Stats
	inputs  []Input
	decode  bool // decode what is read, whether it is needed or not
}

// outputs are where each resolution goes; nil if it is not wanted.
type outputs struct {
	own, fine, hour Output
}

// Run reads all inputs once and writes the resolutions in outs: the sources' own, merged,
// and those made of it. Errors of sources are *read.CorruptError where a block is to
// blame; others may pass by themselves, or come from an Output.
func Run(ctx context.Context, inputs []Input, outs map[int64]Output, opts Options) (Stats, error) {
	p := &pass{opts: opts, inputs: inputs}
	p.outs.own = outs[opts.Resolution]
	if opts.Resolution != block.Resolution5m {
		p.outs.fine = outs[block.Resolution5m]
	}
	if opts.Resolution != block.Resolution1h {
		p.outs.hour = outs[block.Resolution1h]
	}
	p.series.init(opts.Dedup)
	err := p.run(ctx, inputs, outs)
	for _, in := range inputs {
		p.stats.Rereads += in.Source.Rereads()
	}
	p.stats.Skipped = p.series.down.Skipped()
	return p.stats, err
}

func (p *pass) run(ctx context.Context, inputs []Input, outs map[int64]Output) error {
	sources := make([]*read.Source, len(inputs))
	for i := range inputs {
		sources[i] = inputs[i].Source
	}
	syms, refs, err := readSymbols(ctx, sources)
	if err != nil {
		return err
	}
	p.syms = syms
	for _, out := range outs {
		if err := out.Begin(syms.strings); err != nil {
			return err
		}
	}
	h := make(heap, 0, len(inputs))
	for i, in := range inputs {
		c := &cursor{n: i, src: in.Source, refs: refs[i], deleted: in.Tombstones, salvage: p.opts.Salvage}
		if p.opts.Salvage != nil {
			if err := c.loadAll(ctx); err != nil {
				return err
			}
		}
		if err := c.next(ctx); err != nil {
			return err
		}
		if !c.done {
			h = append(h, c)
		}
	}
	h.init()
	var cur []uint32
	for len(h) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		cur = append(cur[:0], h[0].lset...)
		p.arena = p.arena[:0]
		p.series.reset()
		for len(h) > 0 && slices.Equal(h[0].lset, cur) {
			c := h[0]
			p.stats.SourceSeries++
			if err := p.load(ctx, c); err != nil {
				return err
			}
			if err := c.next(ctx); err != nil {
				return err
			}
			if c.done {
				h[0] = h[len(h)-1]
				h = h[:len(h)-1]
			}
			h.down(0)
		}
		p.stats.Series++
		if err := p.finish(cur); err != nil {
			return err
		}
	}
	return nil
}

// load reads the chunks of the cursor's series.
func (p *pass) load(ctx context.Context, c *cursor) error {
	deleted, err := c.intervals()
	if err != nil {
		return fmt.Errorf("block %s: tombstones: %w", c.src.ID(), err)
	}
	in := &p.inputs[c.n]
	lost := false
	for _, ch := range c.series.Chunks {
		if ch.MaxTime < in.MinTime || ch.MinTime >= in.MaxTime {
			p.stats.Outside++
			continue
		}
		if len(deleted) > 0 && (tombstones.Interval{Mint: ch.MinTime, Maxt: ch.MaxTime}).IsSubrange(deleted) {
			continue
		}
		data, err := c.src.Chunk(ctx, ch.Ref)
		if err == nil {
			err = p.check(c, ch, data)
		}
		if err != nil {
			if _, ok := read.AsCorrupt(err); ok && p.opts.Salvage != nil {
				p.opts.Salvage.addChunk(err, !lost)
				lost = true
				continue
			}
			return err
		}
		begin := len(p.arena)
		p.arena = append(p.arena, data.Bytes...)
		pc := piece{mint: ch.MinTime, maxt: ch.MaxTime, enc: data.Encoding, data: p.arena[begin:len(p.arena):len(p.arena)], crc: data.CRC}
		for _, iv := range deleted {
			if iv.Mint <= ch.MaxTime && ch.MinTime <= iv.Maxt {
				pc.deleted = append(pc.deleted, iv)
			}
		}
		p.series.pieces = append(p.series.pieces, pc)
	}
	return nil
}

// check tells whether a chunk is of a kind that the block may have.
func (p *pass) check(c *cursor, ch read.Chunk, data read.Data) error {
	var err error
	switch {
	case data.Encoding == downsample.Encoding && p.opts.Resolution == block.ResolutionRaw:
		err = errors.New("chunk of aggregates in a block of raw data")
	case data.Encoding == downsample.Encoding:
		_, err = downsample.DecodeAggr(data.Bytes)
	case !chunkenc.IsValidEncoding(data.Encoding):
		err = fmt.Errorf("chunk encoding %d is not known", data.Encoding)
	case len(data.Bytes) < 3:
		err = fmt.Errorf("chunk of %d bytes has no room for a sample", len(data.Bytes))
	case ch.MaxTime < ch.MinTime:
		err = fmt.Errorf("chunk ends at %d before it begins at %d", ch.MaxTime, ch.MinTime)
	}
	if err == nil && (p.decode || p.opts.Salvage != nil) {
		// A checksum says that the bytes are those that were written, not that they were right.
		err = decodable(ch, data)
	}
	if err == nil {
		return nil
	}
	seg, off := ch.Ref.Unpack()
	return &read.CorruptError{Block: c.src.ID(), Object: fmt.Sprintf("%s/%06d", block.ChunksDirname, seg+1), Offset: int64(off), Err: err}
}

// decodable reads all samples of a chunk.
func decodable(ch read.Chunk, data read.Data) error {
	pc := piece{mint: ch.MinTime, maxt: ch.MaxTime, enc: data.Encoding, data: data.Bytes}
	c, err := pc.aggregates()
	if err != nil {
		return err
	}
	for a := chunks.Raw; a <= chunks.Counter; a++ {
		if _, ok := c.Of(a); !ok {
			continue
		}
		it := downsample.NewIterator([]chunks.AggrChunk{c}, []chunks.Aggr{a})
		for it.Next() != chunkenc.ValNone {
		}
		if err := it.Err(); err != nil {
			return err
		}
	}
	return nil
}

// finish merges the pieces of one series and hands the results on.
func (p *pass) finish(lset []uint32) error {
	s := &p.series
	if len(s.pieces) == 0 {
		return nil
	}
	p.builder.Reset()
	for i := 0; i+1 < len(lset); i += 2 {
		p.builder.Add(p.syms.strings[lset[i]], p.syms.strings[lset[i+1]])
	}
	ls := p.builder.Labels()
	s.want(p.outs.own != nil, p.outs.fine != nil, p.outs.hour != nil)
	if err := s.merge(p.opts.Resolution, &p.stats); err != nil {
		// Nothing but the data can be at fault here: no bucket and no file is involved.
		return fmt.Errorf("%w: series %s: %w", block.ErrCorrupt, ls, err)
	}
	for _, o := range []struct {
		out    Output
		chunks []Chunk
	}{{p.outs.own, s.own}, {p.outs.fine, s.fine}, {p.outs.hour, s.hour}} {
		if o.out == nil || len(o.chunks) == 0 {
			continue
		}
		if err := o.out.Add(ls, o.chunks); err != nil {
			return err
		}
	}
	return nil
}

// Decode reads all inputs and decodes every chunk, for the sake of the errors.
func Decode(ctx context.Context, inputs []Input, opts Options) error {
	p := &pass{opts: opts, inputs: inputs, decode: true}
	p.series.init(opts.Dedup)
	return p.run(ctx, inputs, nil)
}
