// Package remoteread asks Prometheus for series over its remote read API and hands
// them on without decoding a sample: chunk data stay slices into the frame they
// came in.
//
// A frame is one allocation that nobody reuses; the series decoded from it keep it
// alive. Source of the protocol: Prometheus' remote read specification, streamed
// variant.
package remoteread

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/golang/snappy"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/prometheus_copy"
	"github.com/promontory-io/promontory/services/sidecar/internal/promerr"
)

const (
	// maxFrame is the largest frame we take. Prometheus makes them of 1 MiB unless
	// one chunk is larger.
	maxFrame = 64 << 20
	// usualFrame is the largest frame for which memory is taken at once.
	usualFrame = 2 << 20
	// maxErrorBody is how much of an error's body is shown.
	maxErrorBody = 4 << 10
	// maxSamplesBody bounds an unstreamed answer, which has to be held as a whole.
	maxSamplesBody = 1 << 30
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// StatusError is an answer other than 200.
type StatusError struct {
	URL  string
	Code int
	Body string
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("%s answered %d: %s", e.URL, e.Code, e.Body)
}

// Unwrap is the kind that callers of the Store API see.
func (e *StatusError) Unwrap() error { return promerr.OfStatus(e.Code) }

// Client asks one Prometheus. It is safe for concurrent use.
type Client struct {
	url string
	// shown is url as messages have it, without password.
	shown string
	http  *http.Client
	// userAgent goes with each request.
	userAgent string
}

// NewClient returns a client for the Prometheus at base, to whose path /api/v1/read
// is appended. httpClient stays the caller's.
func NewClient(base *url.URL, httpClient *http.Client, userAgent string) *Client {
	u := base.JoinPath("api/v1/read")
	return &Client{url: u.String(), shown: u.Redacted(), http: httpClient, userAgent: userAgent}
}

// Query is what to read: a time range in Unix milliseconds, both ends inclusive,
// and matchers on Prometheus' own labels.
type Query struct {
	MinTime, MaxTime int64
	Matchers         []*labels.Matcher
	Hints            *prometheuscopy.ReadHints
}

// Read starts a read. Errors are of the kinds of package storeapi and name the URL.
// The stream must be closed.
func (c *Client) Read(ctx context.Context, q Query) (*Stream, error) {
	body, err := encodeRequest(q)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("remote read request: %w", err)
	}
	req.Header.Set("Content-Encoding", "snappy")
	req.Header.Set("Content-Type", "application/x-stream-protobuf")
	req.Header.Set("X-Prometheus-Remote-Read-Version", "0.1.0")
	req.Header.Set("User-Agent", c.userAgent)
	resp, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("remote read from %s: %w", c.shown, context.Cause(ctx))
		}
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err // its URL would repeat ours, password and all
		}
		return nil, storeapi.Unavailablef("remote read from %s: %v", c.shown, err)
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
		return nil, &StatusError{URL: c.shown, Code: resp.StatusCode, Body: strings.TrimSpace(string(text))}
	}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "application/x-streamed-protobuf") {
		return newStream(c.shown, resp.Body), nil
	}
	s := &Stream{url: c.shown, body: resp.Body, cur: -1, whole: true}
	if err := s.readSamples(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func encodeRequest(q Query) ([]byte, error) {
	pq := &prometheuscopy.Query{StartTimestampMs: q.MinTime, EndTimestampMs: q.MaxTime, Hints: q.Hints}
	for _, m := range storeapi.WireMatchers(q.Matchers) {
		pq.Matchers = append(pq.Matchers, &prometheuscopy.LabelMatcher{
			// Both enums have the same numbers.
			Type: prometheuscopy.LabelMatcher_Type(m.GetType()), Name: m.GetName(), Value: m.GetValue(),
		})
	}
	data, err := (&prometheuscopy.ReadRequest{
		Queries: []*prometheuscopy.Query{pq},
		AcceptedResponseTypes: []prometheuscopy.ReadRequest_ResponseType{
			prometheuscopy.ReadRequest_STREAMED_XOR_CHUNKS, prometheuscopy.ReadRequest_SAMPLES,
		},
	}).MarshalVT()
	if err != nil {
		return nil, fmt.Errorf("encode remote read request: %w", err)
	}
	return snappy.Encode(nil, data), nil
}

// readSamples reads the whole of an answer that is not streamed.
func (s *Stream) readSamples() error {
	compressed, err := io.ReadAll(io.LimitReader(s.body, maxSamplesBody+1))
	if err != nil {
		return s.broken(err)
	}
	size, err := snappy.DecodedLen(compressed)
	if err != nil {
		return promerr.Internal(fmt.Errorf("decompress answer of %s: %w", s.url, err))
	}
	if len(compressed) > maxSamplesBody || size > maxSamplesBody {
		return storeapi.Limitf("answer of %s is larger than %d bytes; a Prometheus that streams remote read has no such bound", s.url, maxSamplesBody)
	}
	data, err := snappy.Decode(nil, compressed)
	if err != nil {
		return promerr.Internal(fmt.Errorf("decompress answer of %s: %w", s.url, err))
	}
	var resp prometheuscopy.ReadResponse
	if err := resp.UnmarshalVT(data); err != nil {
		return promerr.Internal(fmt.Errorf("decode answer of %s: %w", s.url, err))
	}
	for _, r := range resp.GetResults() {
		for _, ts := range r.GetTimeseries() {
			series, err := encodeSamples(ts)
			if err != nil {
				return promerr.Internal(fmt.Errorf("encode samples of %s: %w", s.url, err))
			}
			s.batch = append(s.batch, series)
		}
	}
	return nil
}

// nextFrame reads one frame into memory of its own. io.EOF is the regular end.
func (s *Stream) nextFrame() ([]byte, error) {
	size, err := binary.ReadUvarint(s.in)
	if err != nil {
		if err == io.EOF { //nolint:errorlint // ReadUvarint tells an end between frames from one within by the bare value
			return nil, io.EOF
		}
		return nil, fmt.Errorf("read length of frame %d: %w", s.frames, err)
	}
	if size > maxFrame {
		return nil, fmt.Errorf("frame %d has %d bytes, more than %d%s", s.frames, size, maxFrame, s.quote(size, nil))
	}
	sum := s.sum[:]
	if n, err := io.ReadFull(s.in, sum); err != nil {
		return nil, fmt.Errorf("read checksum of frame %d: %w%s", s.frames, noEOF(err), s.quote(size, sum[:n]))
	}
	data, err := readFull(s.in, int(size))
	if err != nil {
		return nil, fmt.Errorf("read frame %d: %w%s", s.frames, noEOF(err), s.quote(size, append(sum, data...)))
	}
	if got, want := crc32.Checksum(data, castagnoli), binary.BigEndian.Uint32(sum); got != want {
		return nil, fmt.Errorf("checksum of frame %d is %08x, not %08x%s", s.frames, got, want, s.quote(size, append(sum, data...)))
	}
	s.frames++
	return data, nil
}

// readFull reads size bytes, or returns those that came before an error. Memory for more than the
// usual is taken as the bytes arrive: a length alone costs nothing.
func readFull(r io.Reader, size int) ([]byte, error) {
	data := make([]byte, min(size, usualFrame))
	n, err := io.ReadFull(r, data)
	for err == nil && n < size {
		more := min(size-n, n)
		data = slices.Grow(data, more)[:n+more]
		more, err = io.ReadFull(r, data[n:])
		n += more
	}
	return data[:n], err
}

// quote returns what a broken frame says where it is text: a Prometheus that fails in the
// middle of an answer appends its error message to the frames, as the status is sent long since.
func (s *Stream) quote(size uint64, rest []byte) string {
	text := append(binary.AppendUvarint(nil, size), rest...)
	// Only what is here already: a server that is alive may have no more to say for long.
	more, _ := s.in.Peek(min(s.in.Buffered(), maxErrorBody))
	text = bytes.TrimSpace(append(text, more...))
	if len(text) < 8 || len(text) > maxErrorBody || !utf8.Valid(text) || bytes.ContainsFunc(text, unicode.IsControl) {
		return ""
	}
	return fmt.Sprintf("; Prometheus says %q", text)
}

// noEOF makes an end in the middle of a frame tell from an end between frames.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
