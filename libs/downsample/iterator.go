package downsample

import (
	"fmt"
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/promontory-io/promontory/libs/chunks"
)

// NewIterator returns the samples of one replica of a series. chks are its chunks,
// sorted by minimum time, raw ones and downsampled ones in any mix; aggrs is what
// AggregatesFor returned, or {Raw}. A chunk is read from the aggregate asked for,
// where it has it, else from raw.
//
// The result keeps the promises of chunkenc.Iterator; timestamps are strictly
// ascending even where chunks overlap. Chunks that have neither are empty: the
// minimum of a histogram, for one, does not exist. A chunk that cannot be decoded
// ends the series with an error that names its time range.
//
// Chunks stay encoded until they are reached, and Seek passes over chunks without
// decoding them, except for counters, which need every sample. chks is kept until
// the iterator is no longer used. Not safe for concurrent use.
func NewIterator(chks []chunks.AggrChunk, aggrs []chunks.Aggr) chunkenc.Iterator {
	return new(Reader).Iterator(chks, aggrs)
}

// Reader is NewIterator with memory that is used again, for going through many series
// one after the other. The zero value is ready. Not safe for concurrent use.
type Reader struct {
	seq     sequence
	counter CounterSeries
}

// Iterator is like NewIterator. The result is valid until the next call.
func (r *Reader) Iterator(chks []chunks.AggrChunk, aggrs []chunks.Aggr) chunkenc.Iterator {
	switch {
	case slices.Equal(aggrs, []chunks.Aggr{chunks.Counter}):
		r.counter.Reset(chks)
		return &r.counter
	case len(aggrs) == 1 && aggrs[0] <= chunks.Counter:
		r.seq.reset(chks, aggrs[0], false)
		return &r.seq
	case len(aggrs) == 2 && slices.Contains(aggrs, chunks.Count) && slices.Contains(aggrs, chunks.Sum):
		r.seq.reset(chks, chunks.Raw, true)
		return &r.seq
	}
	return failed{fmt.Errorf("read chunks: no way to combine the aggregates %v", aggrs)}
}

// sequence reads chunk after chunk.
type sequence struct {
	chks []chunks.AggrChunk
	aggr chunks.Aggr
	mean bool // read count and sum instead of aggr

	dec decoder
	avg average

	next int // index of the chunk to open next
	cur  chunkenc.Iterator
	typ  chunkenc.ValueType
	// seam: the current sample is the first one taken from its chunk.
	seam  bool
	lastT int64 // last timestamp of the chunks before cur
	err   error
}

func (s *sequence) reset(chks []chunks.AggrChunk, aggr chunks.Aggr, mean bool) {
	s.chks, s.aggr, s.mean = chks, aggr, mean
	s.next, s.cur, s.typ = 0, nil, chunkenc.ValNone
	s.seam, s.lastT, s.err = false, math.MinInt64, nil
}

func (s *sequence) Next() chunkenc.ValueType {
	if s.cur != nil {
		if s.typ = s.cur.Next(); s.typ != chunkenc.ValNone {
			s.seam = false
			return s.typ
		}
		if !s.close() {
			return chunkenc.ValNone
		}
	}
	return s.advance(math.MinInt64)
}

func (s *sequence) Seek(t int64) chunkenc.ValueType {
	if s.cur != nil {
		if s.typ != chunkenc.ValNone && s.cur.AtT() >= t {
			return s.typ
		}
		if s.typ = s.cur.Seek(t); s.typ != chunkenc.ValNone {
			s.seam = false
			return s.typ
		}
		if !s.close() {
			return chunkenc.ValNone
		}
	}
	return s.advance(t)
}

// close leaves an exhausted chunk. False: it ended with an error.
func (s *sequence) close() bool {
	if err := s.cur.Err(); err != nil {
		s.fail(&s.chks[s.next-1], err)
		return false
	}
	// Exhausted iterators, ours and the TSDB's, stay on their last timestamp.
	s.lastT = max(s.lastT, s.cur.AtT())
	s.cur = nil
	return true
}

func (s *sequence) fail(c *chunks.AggrChunk, err error) {
	s.err = fmt.Errorf("read chunk from %d to %d: %w", c.MinTime, c.MaxTime, err)
	s.cur, s.typ, s.next = nil, chunkenc.ValNone, len(s.chks)
}

// advance opens chunks until one has a sample at or after t that is also newer than
// all samples before it.
func (s *sequence) advance(t int64) chunkenc.ValueType {
	s.typ = chunkenc.ValNone
	if s.lastT == math.MaxInt64 {
		s.next = len(s.chks) // nothing can be newer, and lastT+1 is no time
	}
	for s.next < len(s.chks) {
		c := &s.chks[s.next]
		s.next++
		if c.MaxTime < t {
			continue
		}
		cur, err := s.open(c)
		if err != nil {
			s.fail(c, err)
			return chunkenc.ValNone
		}
		if cur == nil {
			continue
		}
		s.cur = cur
		if from := max(t, s.lastT); from == math.MinInt64 {
			s.typ = cur.Next()
		} else {
			// lastT itself has been returned; a time that was asked for has not.
			if s.lastT >= t {
				from++
			}
			s.typ = cur.Seek(from)
		}
		if s.typ != chunkenc.ValNone {
			s.seam = true
			return s.typ
		}
		// Nothing of this chunk was returned, so lastT stays.
		if err := cur.Err(); err != nil {
			s.fail(c, err)
			return chunkenc.ValNone
		}
		s.cur = nil
	}
	return chunkenc.ValNone
}

// open returns nil without an error for a chunk that has nothing to read.
func (s *sequence) open(c *chunks.AggrChunk) (chunkenc.Iterator, error) {
	if s.mean {
		count, okCount := c.Of(chunks.Count)
		sum, okSum := c.Of(chunks.Sum)
		switch {
		case okCount && okSum:
			if err := s.avg.open(count, sum); err != nil {
				return nil, err
			}
			return &s.avg, nil
		case c.Raw.Present():
			return s.dec.open(c.Raw)
		case okCount != okSum:
			return nil, fmt.Errorf("%w: only one of count and sum is there", ErrCorrupt)
		}
		return nil, nil
	}
	part, ok := c.Of(s.aggr)
	if !ok {
		part, ok = c.Of(chunks.Raw)
	}
	if !ok {
		return nil, nil
	}
	return s.dec.open(part)
}

func (s *sequence) At() (int64, float64) { return s.cur.At() }

func (s *sequence) AtT() int64 { return s.cur.AtT() }

func (s *sequence) AtHistogram(h *histogram.Histogram) (int64, *histogram.Histogram) {
	t, h := s.cur.AtHistogram(h)
	if s.seam && h != nil {
		h.CounterResetHint = atSeam(h.CounterResetHint)
	}
	return t, h
}

func (s *sequence) AtFloatHistogram(fh *histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
	t, fh := s.cur.AtFloatHistogram(fh)
	if s.seam && fh != nil {
		fh.CounterResetHint = atSeam(fh.CounterResetHint)
	}
	return t, fh
}

// atSeam returns what a hint is worth at the first sample taken from a chunk. Chunks
// never say "no reset" about their own first sample, but one that overlaps the chunk
// before it is entered further on: its sample's neighbour was left out, and the engine
// had better look for itself.
func atSeam(hint histogram.CounterResetHint) histogram.CounterResetHint {
	if hint == histogram.GaugeType {
		return hint
	}
	return histogram.UnknownCounterReset
}

func (s *sequence) Err() error { return s.err }
