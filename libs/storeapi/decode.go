package storeapi

import (
	"fmt"
	"unsafe"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/promontory-io/promontory/libs/chunks"
	"github.com/promontory-io/promontory/libs/pbwire"
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

// Decode decodes the SeriesResponse in data. Chunk data alias data, which must
// not change afterwards; labels are copied, one allocation a series. Unknown
// fields are ignored.
func (d *Decoder) Decode(data []byte) (Frame, error) {
	fr, err := d.frame(data)
	if err != nil {
		return Frame{}, fmt.Errorf("decode series frame of %d bytes: %w", len(data), err)
	}
	return fr, nil
}

func (d *Decoder) frame(data []byte) (fr Frame, err error) {
	var f pbwire.Field
	for len(data) > 0 {
		if data, err = f.Next(data); err != nil {
			return fr, err
		}
		switch f.Tag {
		case tagResponseSeries:
			out := make([]Series, 1)
			if out[0], err = d.DecodeSeries(f.Val); err != nil {
				return fr, fmt.Errorf("series: %w", err)
			}
			fr.Series = out
		case tagResponseBatch:
			if fr.Series, err = d.batch(f.Val); err != nil {
				return fr, fmt.Errorf("batch: %w", err)
			}
		case tagResponseWarning:
			fr.Warning = string(f.Val)
		case tagResponseHints:
			fr.Hints = &anypb.Any{}
			if err := proto.Unmarshal(f.Val, fr.Hints); err != nil {
				return fr, fmt.Errorf("hints: %w", err)
			}
		}
	}
	return fr, nil
}

// batch decodes all series of a batch into two slices: one of series, one that
// all their chunks share.
func (d *Decoder) batch(data []byte) ([]Series, error) {
	var f pbwire.Field
	numSeries, numChunks := 0, 0
	for rest := data; len(rest) > 0; {
		var err error
		if rest, err = f.Next(rest); err != nil {
			return nil, err
		}
		if f.Tag == tagBatchSeries {
			numSeries++
			numChunks += countFields(f.Val, tagSeriesChunk)
		}
	}
	out := make([]Series, 0, numSeries)
	arena := make([]chunks.AggrChunk, 0, numChunks)
	for len(data) > 0 {
		var err error
		if data, err = f.Next(data); err != nil {
			return nil, err
		}
		if f.Tag != tagBatchSeries {
			continue
		}
		out = append(out, Series{})
		if arena, err = d.series(f.Val, &out[len(out)-1], arena); err != nil {
			return nil, fmt.Errorf("series %d of %d: %w", len(out)-1, numSeries, err)
		}
	}
	return out, nil
}

// series decodes one Series message. Its chunks are appended to arena, which is
// returned.
func (d *Decoder) series(data []byte, s *Series, arena []chunks.AggrChunk) ([]chunks.AggrChunk, error) {
	d.builder.Reset()
	start := len(arena)
	sorted, prev := true, ""
	var f pbwire.Field
	for len(data) > 0 {
		var err error
		if data, err = f.Next(data); err != nil {
			return arena, err
		}
		switch f.Tag {
		case tagSeriesLabel:
			name, value, err := decodeLabel(f.Val)
			if err != nil {
				return arena, fmt.Errorf("label: %w", err)
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
			if err := decodeAggrChunk(f.Val, &arena[len(arena)-1]); err != nil {
				return arena, fmt.Errorf("chunk %d: %w", len(arena)-1-start, err)
			}
		}
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
	var f pbwire.Field
	for len(data) > 0 {
		if data, err = f.Next(data); err != nil {
			return "", "", err
		}
		switch f.Tag {
		case tagLabelName:
			name = aliasString(f.Val)
		case tagLabelValue:
			value = aliasString(f.Val)
		}
	}
	return name, value, nil
}

func aliasString(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

func decodeAggrChunk(data []byte, c *chunks.AggrChunk) (err error) {
	var f pbwire.Field
	for len(data) > 0 {
		if data, err = f.Next(data); err != nil {
			return err
		}
		switch f.Tag {
		case tagAggrMinTime:
			c.MinTime = int64(f.V)
		case tagAggrMaxTime:
			c.MaxTime = int64(f.V)
		case tagAggrRaw:
			if err := decodeChunk(f.Val, &c.Raw); err != nil {
				return err
			}
		case tagAggrRaw + 1<<3, tagAggrRaw + 2<<3, tagAggrRaw + 3<<3, tagAggrRaw + 4<<3, tagAggrRaw + 5<<3:
			var ch chunks.Chunk
			if err := decodeChunk(f.Val, &ch); err != nil {
				return err
			}
			c.Set(chunks.Aggr(f.Tag>>3-3), ch)
		}
	}
	return nil
}

func decodeChunk(data []byte, c *chunks.Chunk) (err error) {
	c.Encoding = chunkenc.EncXOR // a zero is not sent
	var f pbwire.Field
	for len(data) > 0 {
		if data, err = f.Next(data); err != nil {
			return err
		}
		switch f.Tag {
		case tagChunkType:
			if f.V > uint64(chunkenc.EncFloatHistogram)-1 {
				return fmt.Errorf("unknown chunk encoding %d", f.V)
			}
			c.Encoding = chunkenc.Encoding(f.V + 1)
		case tagChunkData:
			c.Data = f.Val
		case tagChunkHash:
			c.Hash = f.V
		}
	}
	return nil
}

// countFields counts the fields with a tag; a malformed rest is left for the
// decoder to find.
func countFields(data []byte, want uint64) (n int) {
	var (
		f   pbwire.Field
		err error
	)
	for len(data) > 0 {
		if data, err = f.Next(data); err != nil {
			return n
		}
		if f.Tag == want {
			n++
		}
	}
	return n
}
