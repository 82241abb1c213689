package merge

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/tombstones"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/chunks"
	"github.com/promontory-io/promontory/libs/dedup"
	"github.com/promontory-io/promontory/libs/downsample"
	"github.com/promontory-io/promontory/libs/xorchunk"
)

// piece is one chunk of one source.
type piece struct {
	mint, maxt int64
	enc        chunkenc.Encoding
	data       []byte
	crc        uint32
	deleted    tombstones.Intervals
}

// series merges the chunks of one series after the other.
type series struct {
	fn     dedup.Func
	pieces []piece

	wantOwn, wantFine, wantHour bool
	own, fine, hour             []Chunk

	pack    packer
	stretch stretches
	down    downsample.Downsampler
	agg     []chunks.AggrChunk

	points  []xorchunk.Point   // of the whole series, where it is downsampled, else of a stretch
	decoded [][]xorchunk.Point // by replica of a stretch
}

func (s *series) init(fn dedup.Func) {
	s.fn = fn
	s.pack.emit = func(c Chunk) { s.own = append(s.own, c) }
	s.stretch.owner = s
}

func (s *series) reset() {
	clear(s.pieces)
	s.pieces = s.pieces[:0]
	s.own, s.fine, s.hour, s.agg = s.own[:0], s.fine[:0], s.hour[:0], s.agg[:0]
}

func (s *series) want(own, fine, hour bool) { s.wantOwn, s.wantFine, s.wantHour = own, fine, hour }

// merge fills own, fine and hour, as wanted, from pieces.
func (s *series) merge(resolution int64, stats *Stats) error {
	s.tidy(stats)
	if resolution != block.ResolutionRaw {
		return s.mergeAggregates(resolution, stats)
	}
	if s.plainFloats() {
		return s.mergeFloats(stats)
	}
	return s.mergeSamples(stats)
}

// mergeSamples merges whatever kinds of samples there are, one by one.
func (s *series) mergeSamples(stats *Stats) error {
	s.stretch.reset(s.pieces, stats)
	if !s.wantFine && !s.wantHour {
		return s.stretch.drain()
	}
	fine, err := s.down.Raw(&s.stretch, block.Resolution5m)
	if err != nil {
		return err
	}
	return s.further(fine)
}

// further hands on the 5m chunks and makes the 1h chunks of them.
func (s *series) further(fine []chunks.AggrChunk) error {
	var err error
	if s.wantFine {
		if s.fine, err = s.encode(s.fine, fine); err != nil {
			return err
		}
	}
	if !s.wantHour {
		return nil
	}
	hour, err := s.down.Aggregated(fine, block.Resolution5m, block.Resolution1h)
	if err != nil {
		return err
	}
	s.hour, err = s.encode(s.hour, hour)
	return err
}

// encode turns chunks of aggregates into chunks of a block.
func (s *series) encode(dst []Chunk, aggr []chunks.AggrChunk) ([]Chunk, error) {
	for i := range aggr {
		a := &aggr[i]
		data, err := downsample.AppendAggr(nil, a.Aggr)
		if err != nil {
			return nil, err
		}
		dst = append(dst, Chunk{MinTime: a.MinTime, MaxTime: a.MaxTime, Encoding: downsample.Encoding, Bytes: data, Samples: samplesOf(downsample.Encoding, data)})
	}
	return dst, nil
}

// tidy sorts the pieces and drops the identical ones.
func (s *series) tidy(stats *Stats) {
	byTime := func(a, b piece) int { return cmp.Or(cmp.Compare(a.mint, b.mint), cmp.Compare(a.maxt, b.maxt)) }
	if !slices.IsSortedFunc(s.pieces, byTime) {
		slices.SortStableFunc(s.pieces, byTime)
	}
	out := s.pieces[:0]
	for _, p := range s.pieces {
		twin := func(o piece) bool {
			return o.mint == p.mint && o.maxt == p.maxt && o.crc == p.crc && o.enc == p.enc && bytes.Equal(o.data, p.data) && slices.Equal(o.deleted, p.deleted)
		}
		// Only those just before can have the same range.
		known := false
		for i := len(out) - 1; i >= 0 && !known && out[i].mint == p.mint && out[i].maxt == p.maxt; i-- {
			known = twin(out[i])
		}
		if known {
			stats.Dropped++
			continue
		}
		out = append(out, p)
	}
	s.pieces = out
}

// samplesOf reads the number of samples that all encodings begin with; of aggregates
// it is the number of windows.
func samplesOf(enc chunkenc.Encoding, data []byte) int {
	if enc == downsample.Encoding {
		var c downsample.Chunk
		c.Reset(data)
		return c.NumSamples()
	}
	if len(data) < 2 {
		return 0
	}
	return int(binary.BigEndian.Uint16(data))
}

func (p *piece) chunk() Chunk {
	return Chunk{MinTime: p.mint, MaxTime: p.maxt, Encoding: p.enc, Bytes: p.data, Samples: samplesOf(p.enc, p.data)}
}

func (p *piece) aggregates() (chunks.AggrChunk, error) {
	c := chunks.AggrChunk{MinTime: p.mint, MaxTime: p.maxt}
	if p.enc != downsample.Encoding {
		c.Raw = chunks.Chunk{Encoding: p.enc, Data: p.data}
		return c, nil
	}
	parts, err := downsample.DecodeAggr(p.data)
	if err != nil {
		return c, err
	}
	c.Aggr = &parts
	return c, nil
}

// mergeAggregates merges chunks of a downsampled block.
func (s *series) mergeAggregates(resolution int64, stats *Stats) error {
	for i := 0; i < len(s.pieces); {
		j, end := i+1, s.pieces[i].maxt
		for ; j < len(s.pieces) && s.pieces[j].mint <= end; j++ {
			end = max(end, s.pieces[j].maxt)
		}
		if j == i+1 {
			stats.Copied++
			a, err := s.pieces[i].aggregates()
			if err != nil {
				return err
			}
			s.own = append(s.own, s.pieces[i].chunk())
			s.agg = append(s.agg, a)
		} else {
			stats.Merged += j - i
			a, err := s.overlappingAggregates(s.pieces[i:j], resolution)
			if err != nil {
				return err
			}
			if s.own, err = s.encode(s.own, a); err != nil {
				return err
			}
			s.agg = append(s.agg, a...)
		}
		i = j
	}
	if !s.wantHour {
		return nil
	}
	hour, err := s.down.Aggregated(s.agg, resolution, block.Resolution1h)
	if err != nil {
		return err
	}
	s.hour, err = s.encode(s.hour, hour)
	return err
}

// overlappingAggregates merges chunks of aggregates, each aggregate on its own.
//
// Exact looks at the scrapes of replicas, of which aggregates have nothing left. Their windows end at
// the same times, so taking each time once, as chain does, leaves no gap and nothing twice.
func (s *series) overlappingAggregates(pieces []piece, resolution int64) ([]chunks.AggrChunk, error) {
	fn := s.fn
	if fn == dedup.Exact {
		fn = dedup.Chain
	}
	in := make([]chunks.AggrChunk, len(pieces))
	histograms := 0
	for i := range pieces {
		var err error
		if in[i], err = pieces[i].aggregates(); err != nil {
			return nil, err
		}
		if in[i].Raw.Present() {
			return nil, fmt.Errorf("%w: raw chunks overlap in a downsampled block", block.ErrCorrupt)
		}
		if part, ok := in[i].Of(chunks.Sum); ok && part.Encoding != chunkenc.EncXOR {
			histograms++
		}
	}
	replicas := dedup.SplitOverlaps(in, func(c *chunks.AggrChunk) (int64, int64) { return c.MinTime, c.MaxTime })
	if histograms > 0 {
		return s.down.MergedHistograms(replicas, resolution, func(its []chunkenc.Iterator) chunkenc.Iterator {
			return dedup.Merge(fn, its, dedup.Options{})
		})
	}
	a, err := overlappingFloats(replicas, fn)
	return []chunks.AggrChunk{a}, err
}

// overlappingFloats merges chunks of float aggregates. The result ends its counter, as all such
// chunks do, with the last raw value once more: that of the replica that reaches furthest.
func overlappingFloats(replicas [][]chunks.AggrChunk, fn dedup.Func) (chunks.AggrChunk, error) {
	none := chunks.AggrChunk{}
	out := chunks.AggrChunk{MinTime: math.MaxInt64, MaxTime: math.MinInt64}
	for a := chunks.Count; a <= chunks.Counter; a++ {
		its := make([]chunkenc.Iterator, len(replicas))
		for i, r := range replicas {
			its[i] = downsample.NewIterator(r, []chunks.Aggr{a})
		}
		c := chunkenc.NewXORChunk()
		app, err := c.Appender()
		if err != nil {
			return none, err
		}
		it := dedup.Merge(fn, its, dedup.Options{})
		lastT := int64(math.MinInt64)
		for it.Next() == chunkenc.ValFloat {
			t, v := it.At()
			app.Append(t, v)
			lastT = t
			if a != chunks.Counter {
				out.MinTime, out.MaxTime = min(out.MinTime, t), max(out.MaxTime, t)
			}
		}
		if err := it.Err(); err != nil {
			return none, err
		}
		if a == chunks.Counter && lastT != math.MinInt64 {
			app.Append(lastT, lastRaw(replicas, lastT))
		}
		if c.NumSamples() > 0 {
			out.Set(a, chunks.Chunk{Encoding: chunkenc.EncXOR, Data: c.Bytes()})
		}
	}
	return out, nil
}

// lastRaw returns the raw value with which the replica that has a sample at t ends.
func lastRaw(replicas [][]chunks.AggrChunk, t int64) float64 {
	var v float64
	for _, r := range replicas {
		c := downsample.NewCounterSeries(r)
		last := int64(math.MinInt64)
		for c.Next() != chunkenc.ValNone {
			last = c.AtT()
		}
		if raw, ok := c.Last(); ok && last == t {
			v = raw
		}
	}
	return v
}
