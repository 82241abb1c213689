package promapi

import (
	"encoding/json"
	"fmt"
	"io"
	"sync"

	"github.com/prometheus/prometheus/model/labels"
)

const (
	// flushBytes is when the buffer is handed to the writer: large enough that a compressor and the
	// network see few writes, small enough to be nothing against the answer.
	flushBytes = 32 << 10
	// keepBytes is the largest buffer that goes back to the pool, so that one giant label set does not stay.
	keepBytes = 4 * flushBytes
)

// buffers recycles encoder buffers between answers; it holds no answer's content.
var buffers = sync.Pool{New: func() any {
	b := make([]byte, 0, flushBytes+4<<10)
	return &b
}}

// Encoder appends JSON to a buffer and hands it to the writer piece by piece.
// The first error of the writer or of a value is kept; after it nothing more is written.
// It is not for concurrent use.
type Encoder struct {
	w       io.Writer
	pooled  *[]byte
	buf     []byte
	flushed bool
	err     error
}

// NewEncoder returns an encoder over w. [Encoder.Close] must be called.
func NewEncoder(w io.Writer) *Encoder {
	p := buffers.Get().(*[]byte)
	return &Encoder{w: w, pooled: p, buf: (*p)[:0]}
}

// Err returns the first error.
func (e *Encoder) Err() error { return e.err }

// Fail records err as the encoder's error if it is the first.
func (e *Encoder) Fail(err error) {
	if e.err == nil {
		e.err = err
	}
}

// Raw appends JSON text as it is.
func (e *Encoder) Raw(s string) { e.done(append(e.buf, s...)) }

// String appends s as by [AppendString].
func (e *Encoder) String(s string) { e.done(AppendString(e.buf, s)) }

// Labels appends ls as by [AppendLabels].
func (e *Encoder) Labels(ls labels.Labels) { e.done(AppendLabels(e.buf, ls)) }

// Value appends v as encoding/json writes it, with HTML escapes. A value that cannot be written fails the encoder.
func (e *Encoder) Value(v any) {
	if e.err != nil {
		return
	}
	b, err := json.Marshal(v)
	if err != nil {
		e.Fail(fmt.Errorf("encode %T: %w", v, err))
		return
	}
	e.done(append(e.buf, b...))
}

// Append lets f append JSON text to the buffer; f must return the slice it was given, extended.
func (e *Encoder) Append(f func(b []byte) []byte) { e.done(f(e.buf)) }

// done takes back the grown buffer and flushes it if it is full.
func (e *Encoder) done(b []byte) {
	e.buf = b
	if len(b) >= flushBytes {
		e.flush()
	}
}

func (e *Encoder) flush() {
	if e.err == nil && len(e.buf) > 0 {
		e.flushed = true
		_, e.err = e.w.Write(e.buf)
	}
	e.buf = e.buf[:0]
}

// Close writes what is left, gives the buffer back and returns the first error. The encoder must not be used after it.
func (e *Encoder) Close() error {
	e.flush()
	e.release()
	return e.err
}

// release gives the buffer back without writing it.
func (e *Encoder) release() {
	if e.pooled == nil {
		return
	}
	if cap(e.buf) <= keepBytes {
		*e.pooled = e.buf[:0]
		buffers.Put(e.pooled)
	}
	e.pooled, e.buf = nil, nil
}
