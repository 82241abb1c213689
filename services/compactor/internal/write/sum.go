package write

import (
	"encoding/binary"
	"fmt"

	"github.com/cespare/xxhash/v2"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// Sum is what a block's content comes to. Two blocks with equal sums hold the same
// series with the same chunks.
type Sum struct {
	Series, Chunks, Samples uint64
	// HistogramSamples is how many of the samples are native histograms.
	HistogramSamples uint64
	// MinTime and MaxTime are those of the chunks, both inclusive.
	MinTime, MaxTime int64
	// Hash covers labels, and time range and checksum of each chunk, in order.
	Hash uint64
}

// summer adds up a Sum.
type summer struct {
	Sum
	digest *xxhash.Digest
	buf    []byte
}

func newSummer() *summer { return &summer{digest: xxhash.New()} }

// series begins a series. Strings are names and values in turn.
func (s *summer) series(labels func(yield func(string))) {
	s.Series++
	s.buf = append(s.buf[:0], 0xfe)
	labels(func(str string) {
		s.buf = append(s.buf, str...)
		s.buf = append(s.buf, 0xff)
	})
	_, _ = s.digest.Write(s.buf) // cannot fail
}

func (s *summer) chunk(mint, maxt int64, enc chunkenc.Encoding, samples int, crc uint32) {
	if s.Chunks == 0 {
		s.MinTime, s.MaxTime = mint, maxt
	}
	s.MinTime, s.MaxTime = min(s.MinTime, mint), max(s.MaxTime, maxt)
	s.Chunks++
	s.Samples += uint64(samples)
	if enc == chunkenc.EncHistogram || enc == chunkenc.EncFloatHistogram {
		s.HistogramSamples += uint64(samples)
	}
	s.buf = binary.BigEndian.AppendUint64(s.buf[:0], uint64(mint))
	s.buf = binary.BigEndian.AppendUint64(s.buf, uint64(maxt))
	s.buf = binary.BigEndian.AppendUint32(s.buf, crc)
	_, _ = s.digest.Write(s.buf)
}

func (s *summer) sum() Sum {
	out := s.Sum
	out.Hash = s.digest.Sum64()
	return out
}

// String shows the numbers.
func (s Sum) String() string {
	return fmt.Sprintf("%d series, %d chunks, %d samples from %d to %d, hash %016x", s.Series, s.Chunks, s.Samples, s.MinTime, s.MaxTime, s.Hash)
}
