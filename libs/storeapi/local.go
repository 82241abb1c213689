package storeapi

import (
	"bytes"
	"context"
	"sync"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/promontory-io/promontory/proto/gen/thanos"
)

// localBatch is how many series a frame of a local stream carries.
const localBatch = 64

// Local asks a store of this process and returns its answer as a stream, so that it can be merged
// with others. The store runs at most a few frames ahead of the reader. The stream must be closed.
func Local(ctx context.Context, store Store, req *thanos.SeriesRequest, ms []*labels.Matcher) Stream {
	ctx, cancel := context.WithCancel(ctx)
	s := &localStream{cancel: cancel, frames: make(chan Frame, 2)}
	s.done.Go(func() {
		defer close(s.frames)
		s.result = s.ask(ctx, store, req, ms)
	})
	return s
}

type localStream struct {
	cancel context.CancelFunc
	frames chan Frame
	done   sync.WaitGroup
	result error // of the store; valid when frames is closed

	batch    []Series
	cur      int
	err      error
	ended    bool
	warnings []string
	hints    []*anypb.Any
}

var _ Stream = (*localStream)(nil)

// ask runs the store and hands its frames over.
func (s *localStream) ask(ctx context.Context, store Store, req *thanos.SeriesRequest, ms []*labels.Matcher) error {
	var decoder Decoder
	w := newWriter(func(f *outFrame) error {
		data := bytes.Clone(f.view)
		f.Put(nil)
		frame, err := decoder.Decode(data)
		if err != nil {
			return err
		}
		select {
		case s.frames <- frame:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}, WriterOptions{BatchSize: localBatch, Limit: req.GetLimit()})
	if err := store.Series(ctx, req, ms, w); err != nil {
		return err
	}
	return w.Flush()
}

func (s *localStream) Next() bool {
	if s.ended {
		return false
	}
	s.cur++
	for s.cur >= len(s.batch) {
		f, ok := <-s.frames
		switch {
		case !ok:
			s.ended, s.err = true, s.result
			return false
		case f.Warning != "":
			s.warnings = append(s.warnings, f.Warning)
		case f.Hints != nil:
			s.hints = append(s.hints, f.Hints)
		default:
			s.batch, s.cur = f.Series, 0
		}
	}
	return true
}

func (s *localStream) At() *Series         { return &s.batch[s.cur] }
func (s *localStream) Err() error          { return s.err }
func (s *localStream) Warnings() []string  { return s.warnings }
func (s *localStream) Hints() []*anypb.Any { return s.hints }

// Close ends the store's work and waits for it.
func (s *localStream) Close() {
	s.cancel()
	s.done.Wait()
	s.ended = true
}
