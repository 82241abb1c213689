// Package grpcsnappy is the gRPC compressor "snappy": the framed stream format of snappy, as
// peers send it, not its block format.
//
// Importing the package registers the compressor with gRPC, for servers and clients of the process.
package grpcsnappy

import (
	"errors"
	"io"
	"sync"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/snappy"
	"google.golang.org/grpc/encoding"
)

// Name is the value of the header grpc-encoding.
const Name = "snappy"

// gRPC looks compressors up in a registry of its own, to be filled at start only.
func init() { encoding.RegisterCompressor(&compressor{}) }

// compressor keeps its readers and writers, each with 64 KiB of buffers and more, for reuse.
type compressor struct {
	writers sync.Pool
	readers sync.Pool
}

func (*compressor) Name() string { return Name }

func (c *compressor) Compress(w io.Writer) (io.WriteCloser, error) {
	sw, ok := c.writers.Get().(*s2.Writer)
	if !ok {
		// The fast level, in this goroutine: the default of the snappy package costs three times as
		// much for a few percent of size, and starts goroutines for each message.
		sw = s2.NewWriter(w, s2.WriterSnappyCompat(), s2.WriterConcurrency(1))
	} else {
		sw.Reset(w)
	}
	return &writer{Writer: sw, pool: &c.writers}, nil
}

func (c *compressor) Decompress(r io.Reader) (io.Reader, error) {
	sr, ok := c.readers.Get().(*snappy.Reader)
	if !ok {
		sr = snappy.NewReader(r)
	} else {
		sr.Reset(r)
	}
	return &reader{Reader: sr, pool: &c.readers}, nil
}

// writer goes back to its pool when it is closed.
type writer struct {
	*s2.Writer
	pool *sync.Pool
}

func (w *writer) Close() error {
	if w.Writer == nil {
		return nil
	}
	err := w.Writer.Close()
	w.Reset(nil)
	w.pool.Put(w.Writer)
	w.Writer = nil
	return err
}

// reader goes back to its pool when it has been read to the end, the only sign gRPC gives.
type reader struct {
	*snappy.Reader
	pool *sync.Pool
}

func (r *reader) Read(p []byte) (int, error) {
	if r.Reader == nil {
		return 0, io.EOF
	}
	n, err := r.Reader.Read(p)
	if errors.Is(err, io.EOF) {
		r.Reset(nil)
		r.pool.Put(r.Reader)
		r.Reader = nil
	}
	return n, err
}
