package storeapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
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

// ErrLate is why a stream ended that was still being waited for at its deadline.
var ErrLate = errors.New("no answer within its share of the time that the query has")

// StreamOptions bound what a stream may hold and how long it may stall.
type StreamOptions struct {
	// FrameTimeout is how long the next frame may take; 0 is for ever.
	FrameTimeout time.Duration
	// Deadline, if set, is until when frames are waited for; one that was not waited for before, because others
	// were read first, may take Grace even later. The context's deadline holds besides.
	Deadline time.Time
	Grace    time.Duration
	// Ahead is how many frames are received and decoded before they are asked
	// for, so that several stores work at once; 0 receives on demand.
	Ahead int
	// OnFrame, if set, is told the size in bytes of each frame before it is decoded; an error ends the stream
	// with it. Calls come from one goroutine at a time.
	OnFrame func(bytes int) error
}

// Series opens a stream. It returns before the store has answered; every failure
// comes out of the stream's Err. The stream must be closed.
func (c *Client) Series(ctx context.Context, req *thanos.SeriesRequest, opts StreamOptions) *ClientStream {
	ctx, cancel := context.WithCancelCause(ctx)
	s := &ClientStream{
		ctx: ctx, cancel: cancel, conn: c.conn, req: req, opts: opts, started: time.Now(), answered: make(chan struct{}),
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
	// answered is closed with the first frame or the end, whichever comes first.
	answered chan struct{}
	once     sync.Once
	firstErr error

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
	// Samples is how many samples the chunks say they have; of a downsampled chunk its windows count.
	Samples int64
	// Resolutions counts the chunks by [Resolution].
	Resolutions [NumResolutions]int64
	// FirstFrame is how long the first frame took, 0 before it came.
	FirstFrame time.Duration
	// Elapsed is from the call to the end of the stream, or until now.
	Elapsed time.Duration
}

type streamCounters struct {
	frames, bytes, series, chunks, samples, firstFrame, elapsed atomic.Int64

	resolutions [NumResolutions]atomic.Int64
}

// Stats may be called at any time, from any goroutine.
func (s *ClientStream) Stats() StreamStats {
	st := StreamStats{
		Frames: s.stats.frames.Load(), Bytes: s.stats.bytes.Load(),
		Series: s.stats.series.Load(), Chunks: s.stats.chunks.Load(), Samples: s.stats.samples.Load(),
		FirstFrame: time.Duration(s.stats.firstFrame.Load()),
		Elapsed:    time.Duration(s.stats.elapsed.Load()),
	}
	for i := range st.Resolutions {
		st.Resolutions[i] = s.stats.resolutions[i].Load()
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
	data, err := s.receiveBytes()
	if err != nil {
		s.answer(err)
		return Frame{}, err
	}
	if s.stats.frames.Add(1) == 1 {
		s.stats.firstFrame.Store(int64(time.Since(s.started)))
		s.answer(nil)
	}
	s.stats.bytes.Add(int64(len(data)))
	if s.opts.OnFrame != nil {
		if err := s.opts.OnFrame(len(data)); err != nil {
			return Frame{}, err
		}
	}
	fr, err := s.decoder.Decode(data)
	if err != nil {
		return Frame{}, err
	}
	s.stats.add(fr.Series)
	return fr, nil
}

// receiveBytes waits for the next message, as long as the options say.
func (s *ClientStream) receiveBytes() ([]byte, error) {
	if d, why := s.patience(); d > 0 {
		timer := time.AfterFunc(d, func() { s.cancel(why) })
		defer timer.Stop()
	}
	if s.rpc == nil {
		if err := s.open(); err != nil {
			return nil, s.explain(err)
		}
	}
	var in inFrame
	if err := s.rpc.RecvMsg(&in); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, io.EOF
		}
		return nil, s.explain(err)
	}
	return in.data, nil
}

// patience is how long the next frame may take and what to say after that; 0 is for ever.
func (s *ClientStream) patience() (time.Duration, error) {
	d, why := s.opts.FrameTimeout, error(nil)
	if d > 0 {
		why = fmt.Errorf("%w of %s", ErrFrameTimeout, d)
	}
	if s.opts.Deadline.IsZero() {
		return d, why
	}
	// Also a stream that others kept from being read has a moment to go on.
	if left := max(time.Until(s.opts.Deadline), s.opts.Grace, time.Millisecond); d == 0 || left < d {
		return left, ErrLate
	}
	return d, why
}

// answer notes the outcome of the first receive.
func (s *ClientStream) answer(err error) {
	s.once.Do(func() {
		if !errors.Is(err, io.EOF) {
			s.firstErr = err
		}
		close(s.answered)
	})
}

// Answered is closed when the first frame has come, or the stream has ended without one. Without
// [StreamOptions].Ahead that is not before Next was called.
func (s *ClientStream) Answered() <-chan struct{} { return s.answered }

// FirstErr is why no frame came at all; nil if one did, or if the stream was empty. It may be called once
// [ClientStream.Answered] is closed.
func (s *ClientStream) FirstErr() error { return s.firstErr }

// add counts the series of a frame.
func (c *streamCounters) add(series []Series) {
	var nChunks, samples int64
	var resolutions [NumResolutions]int64
	for i := range series {
		nChunks += int64(len(series[i].Chunks))
		for j := range series[i].Chunks {
			n, r := Measure(&series[i].Chunks[j])
			samples += n
			resolutions[r]++
		}
	}
	c.series.Add(int64(len(series)))
	c.chunks.Add(nChunks)
	c.samples.Add(samples)
	for r, n := range resolutions {
		if n > 0 {
			c.resolutions[r].Add(n)
		}
	}
}

// explain prefers our own reason for cancelling over what gRPC makes of it.
func (s *ClientStream) explain(err error) error {
	if cause := context.Cause(s.ctx); errors.Is(cause, ErrFrameTimeout) || errors.Is(cause, ErrLate) {
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
