package remoteread

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"unsafe"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/promontory-io/promontory/libs/chunks"
	"github.com/promontory-io/promontory/libs/pbwire"
	"github.com/promontory-io/promontory/libs/storeapi"
)

// Tags of the fields of ChunkedReadResponse and below.
const (
	tagResponseSeries = 1<<3 | pbwire.Bytes

	tagSeriesLabel = 1<<3 | pbwire.Bytes
	tagSeriesChunk = 2<<3 | pbwire.Bytes

	tagLabelName  = 1<<3 | pbwire.Bytes
	tagLabelValue = 2<<3 | pbwire.Bytes

	tagChunkMinTime = 1<<3 | pbwire.Varint
	tagChunkMaxTime = 2<<3 | pbwire.Varint
	tagChunkType    = 3<<3 | pbwire.Varint
	tagChunkData    = 4<<3 | pbwire.Bytes
)

// arenaChunks is how many chunks are allocated at a time; series take theirs from there.
const arenaChunks = 128

// Stream yields series with the labels that Prometheus shows: its external labels are added
// to those that lack them. Where the answer is streamed, series are sorted by the labels they
// had before that, and a series may come in several parts in direct succession; else see
// [Stream.Ordered]. It serves one goroutine.
type Stream struct {
	url    string
	body   io.ReadCloser
	in     *bufio.Reader // nil when the whole answer is in batch
	whole  bool          // the answer was not streamed
	frames int
	sum    [4]byte // scratch space for a frame's checksum

	batch   []storeapi.Series
	cur     int
	builder labels.ScratchBuilder
	arena   []chunks.AggrChunk
	err     error
}

// newStream returns the stream of an answer in frames.
func newStream(url string, body io.ReadCloser) *Stream {
	return &Stream{url: url, body: body, in: bufio.NewReaderSize(body, 64<<10), cur: -1}
}

// Ordered reports whether the series are sorted. Those of a server that does not stream
// are not, and are all in memory already.
func (s *Stream) Ordered() bool { return !s.whole }

// Frames is how many frames came so far.
func (s *Stream) Frames() int { return s.frames }

// Next moves to the next series; false means the end or an error, see Err.
func (s *Stream) Next() bool {
	for {
		if s.cur+1 < len(s.batch) {
			s.cur++
			return true
		}
		if s.in == nil || s.err != nil {
			return false
		}
		data, err := s.nextFrame()
		if err == io.EOF { //nolint:errorlint // an end between frames is this very value, see nextFrame
			s.in = nil
			return false
		}
		if err == nil {
			err = s.decode(data)
		}
		if err != nil {
			s.err, s.batch, s.cur = s.broken(err), nil, -1
			return false
		}
	}
}

// broken says why an answer ended early. The end of the caller's context keeps its kind.
func (s *Stream) broken(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("remote read from %s: %w", s.url, err)
	}
	return storeapi.Unavailablef("remote read from %s broke off: %v", s.url, err)
}

// At is the current series, with Prometheus' own labels. The value is overwritten
// by Next, what it points to is not.
func (s *Stream) At() *storeapi.Series { return &s.batch[s.cur] }

// Err is why the stream ended early.
func (s *Stream) Err() error { return s.err }

// Close ends the read. It may be called more than once.
func (s *Stream) Close() { _ = s.body.Close() }

// decode makes the series of a frame the current batch.
func (s *Stream) decode(data []byte) error {
	s.batch, s.cur = s.batch[:0], -1
	var f pbwire.Field
	for len(data) > 0 {
		var err error
		if data, err = f.Next(data); err != nil {
			return fmt.Errorf("decode frame %d: %w", s.frames-1, err)
		}
		if f.Tag != tagResponseSeries {
			continue
		}
		series, err := s.series(f.Val)
		if err != nil {
			return fmt.Errorf("decode frame %d, series %d: %w", s.frames-1, len(s.batch), err)
		}
		s.batch = append(s.batch, series)
	}
	return nil
}

func (s *Stream) series(data []byte) (out storeapi.Series, err error) {
	s.builder.Reset()
	var f pbwire.Field
	n := 0
	for rest := data; len(rest) > 0; {
		if rest, err = f.Next(rest); err != nil {
			return out, err
		}
		if f.Tag == tagSeriesChunk {
			n++
		}
	}
	out.Chunks = s.room(n)
	for len(data) > 0 {
		if data, err = f.Next(data); err != nil {
			return out, err
		}
		switch f.Tag {
		case tagSeriesLabel:
			name, value, err := label(f.Val)
			if err != nil {
				return out, fmt.Errorf("label: %w", err)
			}
			s.builder.Add(name, value)
		case tagSeriesChunk:
			c, err := chunk(f.Val)
			if err != nil {
				return out, fmt.Errorf("chunk %d: %w", len(out.Chunks), err)
			}
			out.Chunks = append(out.Chunks, c)
		}
	}
	s.builder.Sort()
	out.Labels = s.builder.Labels()
	return out, nil
}

// room returns an empty slice for n chunks. Nobody else gets the same memory.
func (s *Stream) room(n int) []chunks.AggrChunk {
	if cap(s.arena)-len(s.arena) < n {
		s.arena = make([]chunks.AggrChunk, 0, max(n, arenaChunks))
	}
	from := len(s.arena)
	s.arena = s.arena[:from+n]
	return s.arena[from : from : from+n]
}

// label returns strings that alias data; the builder copies them.
func label(data []byte) (name, value string, err error) {
	var f pbwire.Field
	for len(data) > 0 {
		if data, err = f.Next(data); err != nil {
			return "", "", err
		}
		switch f.Tag {
		case tagLabelName:
			name = unsafe.String(unsafe.SliceData(f.Val), len(f.Val))
		case tagLabelValue:
			value = unsafe.String(unsafe.SliceData(f.Val), len(f.Val))
		}
	}
	return name, value, nil
}

func chunk(data []byte) (c chunks.AggrChunk, err error) {
	var f pbwire.Field
	for len(data) > 0 {
		if data, err = f.Next(data); err != nil {
			return c, err
		}
		switch f.Tag {
		case tagChunkMinTime:
			c.MinTime = int64(f.V)
		case tagChunkMaxTime:
			c.MaxTime = int64(f.V)
		case tagChunkType:
			c.Raw.Encoding = chunkenc.Encoding(min(f.V, 255))
		case tagChunkData:
			c.Raw.Data = f.Val
		}
	}
	switch c.Raw.Encoding {
	case chunkenc.EncXOR, chunkenc.EncHistogram, chunkenc.EncFloatHistogram:
		return c, nil
	}
	return c, fmt.Errorf("unknown chunk encoding %d", c.Raw.Encoding)
}
