package storeapi

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unsafe"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/promontory-io/promontory/libs/chunks"
)

// Frame is one decoded SeriesResponse. Exactly one of its parts is set.
type Frame struct {
	Series  []Series
	Warning string
	Hints   *anypb.Any
}

// Decoder decodes frames. It keeps scratch space between frames and serves one
// goroutine.
type Decoder struct {
	builder labels.ScratchBuilder
}

var errTruncated = errors.New("message ends early")

// Decode decodes the SeriesResponse in data. Chunk data alias data, which must
// not change afterwards; labels are copied, one allocation a series. Unknown
// fields are ignored.
func (d *Decoder) Decode(data []byte) (Frame, error) {
	var fr Frame
	err := eachField(data, func(tag uint64, val []byte, _ uint64) error {
		switch tag {
		case tagResponseSeries:
			out := make([]Series, 1)
			arena := make([]chunks.AggrChunk, 0, countFields(val, tagSeriesChunk))
			if _, err := d.series(val, &out[0], arena); err != nil {
				return fmt.Errorf("series: %w", err)
			}
			fr.Series = out
		case tagResponseBatch:
			batch, err := d.batch(val)
			if err != nil {
				return err
			}
			fr.Series = batch
		case tagResponseWarning:
			fr.Warning = string(val)
		case tagResponseHints:
			fr.Hints = &anypb.Any{}
			if err := proto.Unmarshal(val, fr.Hints); err != nil {
				return fmt.Errorf("hints: %w", err)
			}
		}
		return nil
	})
	if err != nil {
		return Frame{}, fmt.Errorf("decode series frame of %d bytes: %w", len(data), err)
	}
	return fr, nil
}

// batch decodes all series of a batch into two slices: one of series, one that
// all their chunks share.
func (d *Decoder) batch(data []byte) ([]Series, error) {
	numSeries, numChunks := 0, 0
	err := eachField(data, func(tag uint64, val []byte, _ uint64) error {
		if tag == tagBatchSeries {
			numSeries++
			numChunks += countFields(val, tagSeriesChunk)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("batch: %w", err)
	}
	out := make([]Series, numSeries)
	arena := make([]chunks.AggrChunk, 0, numChunks)
	i := 0
	err = eachField(data, func(tag uint64, val []byte, _ uint64) (err error) {
		if tag == tagBatchSeries {
			if arena, err = d.series(val, &out[i], arena); err != nil {
				return fmt.Errorf("series %d of %d: %w", i, numSeries, err)
			}
			i++
		}
		return nil
	})
	return out, err
}

// series decodes one Series message. Its chunks are appended to arena, which is
// returned.
func (d *Decoder) series(data []byte, s *Series, arena []chunks.AggrChunk) ([]chunks.AggrChunk, error) {
	d.builder.Reset()
	start := len(arena)
	sorted, prev := true, ""
	err := eachField(data, func(tag uint64, val []byte, _ uint64) error {
		switch tag {
		case tagSeriesLabel:
			name, value, err := decodeLabel(val)
			if err != nil {
				return fmt.Errorf("label: %w", err)
			}
			if name <= prev {
				sorted = false
			}
			prev = name
			if value != "" { // an empty value is the absence of the label
				d.builder.Add(name, value)
			}
		case tagSeriesChunk:
			arena = append(arena, chunks.AggrChunk{})
			if err := decodeAggrChunk(val, &arena[len(arena)-1]); err != nil {
				return fmt.Errorf("chunk %d: %w", len(arena)-1-start, err)
			}
		}
		return nil
	})
	if err != nil {
		return arena, err
	}
	if !sorted {
		d.builder.Sort()
	}
	s.Labels = d.builder.Labels()
	if !sorted {
		if name, dup := s.Labels.HasDuplicateLabelNames(); dup {
			return arena, fmt.Errorf("label %q occurs twice in %s", name, s.Labels)
		}
	}
	s.Chunks = arena[start:len(arena):len(arena)]
	return arena, nil
}

// DecodeSeries decodes one Series message, see [Decoder.Decode].
func (d *Decoder) DecodeSeries(data []byte) (Series, error) {
	var s Series
	_, err := d.series(data, &s, make([]chunks.AggrChunk, 0, countFields(data, tagSeriesChunk)))
	return s, err
}

// decodeLabel returns strings that alias data.
func decodeLabel(data []byte) (name, value string, err error) {
	err = eachField(data, func(tag uint64, val []byte, _ uint64) error {
		switch tag {
		case tagLabelName:
			name = aliasString(val)
		case tagLabelValue:
			value = aliasString(val)
		}
		return nil
	})
	return name, value, err
}

func aliasString(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

func decodeAggrChunk(data []byte, c *chunks.AggrChunk) error {
	return eachField(data, func(tag uint64, val []byte, v uint64) error {
		switch tag {
		case tagAggrMinTime:
			c.MinTime = int64(v)
		case tagAggrMaxTime:
			c.MaxTime = int64(v)
		default:
			field := tag >> 3
			if tag&7 != 2 || field < 3 || field > 8 {
				return nil
			}
			ch, err := decodeChunk(val)
			if err != nil {
				return err
			}
			c.Set(chunks.Aggr(field-3), ch)
		}
		return nil
	})
}

func decodeChunk(data []byte) (chunks.Chunk, error) {
	c := chunks.Chunk{Encoding: chunkenc.EncXOR}
	err := eachField(data, func(tag uint64, val []byte, v uint64) error {
		switch tag {
		case tagChunkType:
			if v > uint64(chunkenc.EncFloatHistogram)-1 {
				return fmt.Errorf("unknown chunk encoding %d", v)
			}
			c.Encoding = chunkenc.Encoding(v + 1)
		case tagChunkData:
			c.Data = val
		case tagChunkHash:
			c.Hash = v
		}
		return nil
	})
	return c, err
}

// countFields counts the fields with a tag; a malformed rest is left for the
// decoder to find.
func countFields(data []byte, want uint64) (n int) {
	_ = eachField(data, func(tag uint64, _ []byte, _ uint64) error {
		if tag == want {
			n++
		}
		return nil
	})
	return n
}

// eachField calls f for each field of a protobuf message: with the content of
// length-delimited fields (capacity clipped, aliasing data), with the value of
// others.
func eachField(data []byte, f func(tag uint64, val []byte, v uint64) error) error {
	for len(data) > 0 {
		tag, n := uvarint(data)
		if n <= 0 || tag>>3 == 0 {
			return errTruncated
		}
		data = data[n:]
		var (
			val []byte
			v   uint64
		)
		switch tag & 7 {
		case 0:
			if v, n = uvarint(data); n <= 0 {
				return errTruncated
			}
			data = data[n:]
		case 1:
			if len(data) < 8 {
				return errTruncated
			}
			v, data = binary.LittleEndian.Uint64(data), data[8:]
		case 2:
			size, n := uvarint(data)
			if n <= 0 || size > uint64(len(data)-n) {
				return errTruncated
			}
			end := n + int(size)
			val, data = data[n:end:end], data[end:]
		case 5:
			if len(data) < 4 {
				return errTruncated
			}
			v, data = uint64(binary.LittleEndian.Uint32(data)), data[4:]
		default:
			return fmt.Errorf("wire type %d of field %d is unknown", tag&7, tag>>3)
		}
		if err := f(tag, val, v); err != nil {
			return err
		}
	}
	return nil
}

// uvarint is binary.Uvarint with a short cut for one byte.
func uvarint(b []byte) (uint64, int) {
	if len(b) > 0 && b[0] < 0x80 {
		return uint64(b[0]), 1
	}
	return binary.Uvarint(b)
}
