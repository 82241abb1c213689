package storeapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/promontory-io/promontory/proto/gen/thanos"
)

// Client asks one store. It is safe for concurrent use.
type Client struct {
	// conn must have been dialled with [DialOption].
	conn grpc.ClientConnInterface
	rpc  thanos.StoreClient
}

// NewClient returns a client over conn, which stays the caller's and must have
// been dialled with [DialOption].
func NewClient(conn grpc.ClientConnInterface) *Client {
	return &Client{conn: conn, rpc: thanos.NewStoreClient(conn)}
}

// ErrFrameTimeout is why a stream ended whose next frame did not come in time.
var ErrFrameTimeout = errors.New("no frame within the response timeout")

// StreamOptions bound what a stream may hold and how long it may stall.
type StreamOptions struct {
	// FrameTimeout is how long the next frame may take; 0 is for ever.
	FrameTimeout time.Duration
	// Ahead is how many frames are received and decoded before they are asked
	// for, so that several stores work at once; 0 receives on demand.
	Ahead int
}

// Series opens a stream. It returns before the store has answered; every failure
// comes out of the stream's Err. The stream must be closed.
func (c *Client) Series(ctx context.Context, req *thanos.SeriesRequest, opts StreamOptions) *ClientStream {
	ctx, cancel := context.WithCancelCause(ctx)
	s := &ClientStream{
		ctx: ctx, cancel: cancel, conn: c.conn, req: req, opts: opts, started: time.Now(),
	}
	if opts.Ahead > 0 {
		s.frames = make(chan frameOrErr, opts.Ahead)
		s.done = make(chan struct{})
		go s.receiveAhead()
	}
	return s
}

// LabelNames asks for label names.
func (c *Client) LabelNames(ctx context.Context, req *thanos.LabelNamesRequest) (*thanos.LabelNamesResponse, error) {
	resp, err := c.rpc.LabelNames(ctx, req)
	return resp, FromStatus(err)
}

// LabelValues asks for the values of a label.
func (c *Client) LabelValues(ctx context.Context, req *thanos.LabelValuesRequest) (*thanos.LabelValuesResponse, error) {
	resp, err := c.rpc.LabelValues(ctx, req)
	return resp, FromStatus(err)
}

// ClientStream is the answer of one store, in the order in which it came.
type ClientStream struct {
	ctx     context.Context
	cancel  context.CancelCauseFunc
	conn    grpc.ClientConnInterface
	req     *thanos.SeriesRequest
	opts    StreamOptions
	started time.Time

	rpc     grpc.ClientStream
	decoder Decoder

	// Frames received ahead; nil when Next receives.
	frames chan frameOrErr
	done   chan struct{}

	batch    []Series
	cur      int
	err      error
	ended    bool
	warnings []string
	hints    []*anypb.Any
	stats    streamCounters
}

var _ Stream = (*ClientStream)(nil)

type frameOrErr struct {
	frame Frame
	err   error
}

// StreamStats is what a stream cost so far.
type StreamStats struct {
	Frames, Bytes, Series, Chunks int64
	// FirstFrame is how long the first frame took, 0 before it came.
	FirstFrame time.Duration
	// Elapsed is from the call to the end of the stream, or until now.
	Elapsed time.Duration
}

type streamCounters struct {
	frames, bytes, series, chunks, firstFrame, elapsed atomic.Int64
}

// Stats may be called at any time, from any goroutine.
func (s *ClientStream) Stats() StreamStats {
	st := StreamStats{
		Frames: s.stats.frames.Load(), Bytes: s.stats.bytes.Load(),
		Series: s.stats.series.Load(), Chunks: s.stats.chunks.Load(),
		FirstFrame: time.Duration(s.stats.firstFrame.Load()),
		Elapsed:    time.Duration(s.stats.elapsed.Load()),
	}
	if st.Elapsed == 0 {
		st.Elapsed = time.Since(s.started)
	}
	return st
}

var seriesStreamDesc = grpc.StreamDesc{StreamName: "Series", ServerStreams: true}

// open starts the call.
func (s *ClientStream) open() error {
	rpc, err := s.conn.NewStream(s.ctx, &seriesStreamDesc, thanos.Store_Series_FullMethodName)
	if err != nil {
		return err
	}
	if err := rpc.SendMsg(s.req); err != nil && !errors.Is(err, io.EOF) {
		return err // EOF: the server answered already, RecvMsg has its error
	}
	if err := rpc.CloseSend(); err != nil {
		return err
	}
	s.rpc = rpc
	return nil
}

// receive reads and decodes one frame. io.EOF is the regular end.
func (s *ClientStream) receive() (Frame, error) {
	if s.opts.FrameTimeout > 0 {
		timer := time.AfterFunc(s.opts.FrameTimeout, func() {
			s.cancel(fmt.Errorf("%w of %s", ErrFrameTimeout, s.opts.FrameTimeout))
		})
		defer timer.Stop()
	}
	if s.rpc == nil {
		if err := s.open(); err != nil {
			return Frame{}, s.explain(err)
		}
	}
	var in inFrame
	if err := s.rpc.RecvMsg(&in); err != nil {
		if errors.Is(err, io.EOF) {
			return Frame{}, io.EOF
		}
		return Frame{}, s.explain(err)
	}
	fr, err := s.decoder.Decode(in.data)
	if err != nil {
		return Frame{}, err
	}
	if s.stats.frames.Add(1) == 1 {
		s.stats.firstFrame.Store(int64(time.Since(s.started)))
	}
	s.stats.bytes.Add(int64(len(in.data)))
	s.stats.series.Add(int64(len(fr.Series)))
	for i := range fr.Series {
		s.stats.chunks.Add(int64(len(fr.Series[i].Chunks)))
	}
	return fr, nil
}

// explain prefers our own reason for cancelling over what gRPC makes of it.
func (s *ClientStream) explain(err error) error {
	if cause := context.Cause(s.ctx); errors.Is(cause, ErrFrameTimeout) {
		return cause
	}
	return FromStatus(err)
}

func (s *ClientStream) receiveAhead() {
	defer close(s.done)
	defer close(s.frames)
	for {
		fr, err := s.receive()
		select {
		case s.frames <- frameOrErr{fr, err}:
		case <-s.ctx.Done():
			// Whoever reads sees the closed channel and takes the context's word.
			return
		}
		if err != nil {
			return
		}
	}
}

func (s *ClientStream) nextFrame() (Frame, error) {
	if s.frames == nil {
		return s.receive()
	}
	f, ok := <-s.frames
	if !ok {
		return Frame{}, context.Cause(s.ctx)
	}
	return f.frame, f.err
}

// Next moves to the next series.
func (s *ClientStream) Next() bool {
	if s.cur+1 < len(s.batch) {
		s.cur++
		return true
	}
	for !s.ended {
		fr, err := s.nextFrame()
		if err != nil {
			s.end(err)
			return false
		}
		if fr.Warning != "" {
			s.warnings = append(s.warnings, fr.Warning)
		}
		if fr.Hints != nil {
			s.hints = append(s.hints, fr.Hints)
		}
		if len(fr.Series) > 0 {
			s.batch, s.cur = fr.Series, 0
			return true
		}
	}
	return false
}

func (s *ClientStream) end(err error) {
	s.ended, s.batch, s.cur = true, nil, 0
	if !errors.Is(err, io.EOF) {
		s.err = err
	}
	s.stats.elapsed.Store(int64(time.Since(s.started)))
	s.cancel(nil)
}

// At is the current series.
func (s *ClientStream) At() *Series { return &s.batch[s.cur] }

// Err is why the stream ended early. Kinds are those of this package.
func (s *ClientStream) Err() error { return s.err }

// Warnings are what the store said is missing.
func (s *ClientStream) Warnings() []string { return s.warnings }

// Hints are the store's hints.
func (s *ClientStream) Hints() []*anypb.Any { return s.hints }

// Close ends the call and waits for its goroutine.
func (s *ClientStream) Close() {
	if !s.ended {
		s.end(io.EOF)
	}
	if s.done != nil {
		<-s.done
	}
}
