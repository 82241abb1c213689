package remotewrite

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/klauspost/compress/snappy"
)

// Version is that of the remote write protocol.
type Version int

// The versions there are.
const (
	V1 Version = 1
	V2 Version = 2
)

// Kinds of errors of [Negotiate] and [Body].
var (
	// ErrUnsupported says that content type or encoding are not spoken here.
	ErrUnsupported = errors.New("unsupported content")
	// ErrTooLarge says that the body exceeds the limit.
	ErrTooLarge = errors.New("request is too large")
)

const (
	mediaType = "application/x-protobuf"
	protoV1   = "prometheus.WriteRequest"
	protoV2   = "io.prometheus.write.v2.Request"
)

// Negotiate tells from the headers what the body is. Requests without a content type or encoding
// are taken for what senders of 1.0 send. The error is [ErrUnsupported].
func Negotiate(h http.Header) (Version, error) {
	if enc := h.Get("Content-Encoding"); enc != "" && !strings.EqualFold(enc, "snappy") {
		return 0, fmt.Errorf("%w: content encoding %q, snappy is expected", ErrUnsupported, enc)
	}
	ct := h.Get("Content-Type")
	if ct == "" {
		return V1, nil
	}
	typ, params, err := mime.ParseMediaType(ct)
	if err != nil || typ != mediaType {
		return 0, fmt.Errorf("%w: content type %q, %s is expected", ErrUnsupported, ct, mediaType)
	}
	switch p := params["proto"]; p {
	case "", protoV1:
		return V1, nil
	case protoV2:
		return V2, nil
	default:
		return 0, fmt.Errorf("%w: message %q is neither %s nor %s", ErrUnsupported, p, protoV1, protoV2)
	}
}

// MaxDecodedFactor bounds how much larger than its limit on the wire a body may be when decoded.
const MaxDecodedFactor = 8

// Body reads a body and decompresses it: snappy's block format. compressed and decoded are
// memory to use, as far as it suffices; both are returned, perhaps grown. At most limit bytes are read,
// at most [MaxDecodedFactor] times as many come out, and no memory is taken for more. Errors are
// [ErrTooLarge], [ErrMalformed], or those of r.
func Body(r io.Reader, size, limit int64, compressed, decoded []byte) (_, _ []byte, err error) {
	if size > limit {
		return compressed, decoded, fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrTooLarge, size, limit)
	}
	if compressed, err = readAll(io.LimitReader(r, limit+1), max(size, 0), compressed); err != nil {
		return compressed, decoded, fmt.Errorf("read body: %w", err)
	}
	if int64(len(compressed)) > limit {
		return compressed, decoded, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, limit)
	}
	n, err := snappy.DecodedLen(compressed)
	if err != nil {
		return compressed, decoded, fmt.Errorf("%w: snappy: %w", ErrMalformed, err)
	}
	if int64(n) > limit*MaxDecodedFactor {
		return compressed, decoded, fmt.Errorf("%w: %d bytes when decompressed, at most %d are allowed", ErrTooLarge, n, limit*MaxDecodedFactor)
	}
	// A length that the bytes at hand cannot stand for is not worth its memory: a copy of at most 64 bytes takes two.
	if n > 64*(len(compressed)+1) {
		return compressed, decoded, fmt.Errorf("%w: snappy: %d bytes cannot hold the %d they announce", ErrMalformed, len(compressed), n)
	}
	if cap(decoded) < n {
		decoded = make([]byte, n)
	}
	out, err := snappy.Decode(decoded[:n], compressed)
	if err != nil {
		return compressed, decoded, fmt.Errorf("%w: snappy: %w", ErrMalformed, err)
	}
	return compressed, out, nil
}

func readAll(r io.Reader, size int64, buf []byte) ([]byte, error) {
	buf = buf[:0]
	if int64(cap(buf)) <= size {
		buf = make([]byte, 0, size+1)
	}
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if errors.Is(err, io.EOF) {
			return buf, nil
		}
		if err != nil {
			return buf, err
		}
	}
}
