package storeapi

import (
	"bytes"
	"fmt"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/promontory-io/promontory/libs/chunks"
)

const (
	// maxSeriesBytes is how much chunk data one Series message carries at most;
	// what goes beyond continues in the next one under the same labels.
	maxSeriesBytes = 1 << 20
	// samplesPerChunk is how many samples a chunk counts for in limits.
	samplesPerChunk = 120
)

// Limits bound one answer; zero is no limit.
type Limits struct {
	// Series is how many series may be sent.
	Series uint64
	// Samples is how many samples may be sent, each chunk counted as 120.
	Samples uint64
}

// WriterOptions are what a request and the server's configuration say about an
// answer.
type WriterOptions struct {
	// BatchSize is how many series a frame may carry; 0 and 1 mean series
	// messages instead of batches.
	BatchSize int64
	// Limit ends the answer after so many series; 0 is no limit.
	Limit int64
	// Limits refuse the answer when exceeded.
	Limits Limits
}

// Writer encodes series into frames and sends them. It holds one frame, never an
// answer. A Writer serves one goroutine.
type Writer struct {
	send func(*outFrame) error
	opts WriterOptions

	frame  *outFrame
	count  int64 // series in the frame
	stats  WriterStats
	last   []byte // labels of the series before, in their own encoding
	next   []byte
	capped bool
}

// WriterStats counts what went into a Writer.
type WriterStats struct {
	Series, Chunks, ChunkBytes int64
	Frames                     int64
}

func newWriter(send func(*outFrame) error, opts WriterOptions) *Writer {
	return &Writer{send: send, opts: opts}
}

// Stats is what was written so far.
func (w *Writer) Stats() WriterStats { return w.stats }

// Full reports that the request's limit is reached: whatever comes now is
// dropped, so the store can stop.
func (w *Writer) Full() bool { return w.capped }

// Series appends one series. Label sets must come in order; a label set equal to
// the one before continues that series. Missing hashes are filled into chks; else
// neither lset nor chks are changed or kept: their memory may be reused when Series
// returns. It returns an ErrLimit when the server's
// limits are exceeded, else errors of the transport.
func (w *Writer) Series(lset labels.Labels, chks []chunks.AggrChunk) error {
	if err := w.admit(lset, len(chks)); err != nil || w.capped {
		return err
	}
	hashChunks(chks)
	labelBytes := labelsSize(lset)
	for {
		n, size := headBySize(chks)
		if err := w.message(lset, labelBytes, chks[:n]); err != nil {
			return err
		}
		w.stats.Chunks += int64(n)
		w.stats.ChunkBytes += int64(size)
		if chks = chks[n:]; len(chks) == 0 {
			return nil
		}
	}
}

// admit counts a series against the limits.
func (w *Writer) admit(lset labels.Labels, numChunks int) error {
	w.next = lset.Bytes(w.next[:0])
	if w.stats.Series == 0 || !bytes.Equal(w.last, w.next) {
		if w.opts.Limit > 0 && w.stats.Series >= w.opts.Limit {
			w.capped = true
			return nil
		}
		w.stats.Series++
		w.last, w.next = w.next, w.last
	}
	if l := w.opts.Limits.Series; l > 0 && uint64(w.stats.Series) > l {
		return Limitf("the answer has more than the %d series that one request may fetch", l)
	}
	samples := uint64(w.stats.Chunks+int64(numChunks)) * samplesPerChunk
	if l := w.opts.Limits.Samples; l > 0 && samples > l {
		return Limitf("the answer has at least %d samples, one request may fetch %d", samples, l)
	}
	return nil
}

// headBySize is how many leading chunks fit a message, at least one if there is one.
func headBySize(chks []chunks.AggrChunk) (n, size int) {
	for i := range chks {
		s := dataSize(&chks[i])
		if i > 0 && size+s > maxSeriesBytes {
			return i, size
		}
		size += s
	}
	return len(chks), size
}

// message puts one Series message into the frame and sends the frame if it is full.
func (w *Writer) message(lset labels.Labels, labelBytes int, chks []chunks.AggrChunk) error {
	size := labelBytes + chunksSize(chks)
	if w.frame != nil && len(w.frame.full)+size > frameTarget {
		if err := w.Flush(); err != nil {
			return err
		}
	}
	if w.frame == nil {
		w.frame = newFrame()
	}
	f := w.frame
	if need := frameHead + 1 + sizeVarint(uint64(size)) + size; cap(f.full)-len(f.full) < need {
		f.grow(need)
	}
	b := f.full
	if w.opts.BatchSize > 1 {
		b = append(b, tagBatchSeries)
		b = appendVarint(b, uint64(size))
	}
	b = AppendLabels(b, lset)
	for i := range chks {
		b = appendAggrChunk(b, aggrChunkSize(&chks[i]), &chks[i])
	}
	f.full = b
	w.count++
	if w.count >= max(w.opts.BatchSize, 1) {
		return w.Flush()
	}
	return nil
}

// grow makes room for need more bytes.
func (f *outFrame) grow(need int) {
	grown := make([]byte, len(f.full), max(2*cap(f.full), len(f.full)+need))
	copy(grown, f.full)
	f.full = grown
}

// Flush sends the pending frame, if any.
func (w *Writer) Flush() error {
	if w.frame == nil {
		return nil
	}
	f := w.frame
	w.frame, w.count = nil, 0
	if w.opts.BatchSize > 1 {
		f.seal(tagResponseBatch)
	} else {
		f.seal(tagResponseSeries)
	}
	return w.sendFrame(f)
}

func (w *Writer) sendFrame(f *outFrame) error {
	w.stats.Frames++
	if err := w.send(f); err != nil {
		return fmt.Errorf("send frame: %w", err)
	}
	return nil
}

// Warning sends text, which says what is missing from the answer.
func (w *Writer) Warning(text string) error {
	return w.extra(tagResponseWarning, []byte(text))
}

// Hints sends hints for the caller.
func (w *Writer) Hints(hints *anypb.Any) error {
	var b []byte
	b = appendString(b, 1<<3|2, hints.GetTypeUrl())
	b = appendString(b, 2<<3|2, string(hints.GetValue()))
	return w.extra(tagResponseHints, b)
}

// extra sends a frame that is not series, after those that were written before.
func (w *Writer) extra(tag byte, content []byte) error {
	if err := w.Flush(); err != nil {
		return err
	}
	f := newFrame()
	f.full = append(f.full, content...)
	f.seal(tag)
	return w.sendFrame(f)
}
