package storeapi

import (
	"sync"

	"google.golang.org/grpc/mem"
)

const (
	// frameHead is room in front of a frame for the tag and length that are known
	// only when the frame is full.
	frameHead = 1 + 5
	// frameTarget is when a batch is sent although it could take more series.
	frameTarget = 1 << 20
	// frameKeep is the largest buffer that goes back to the pool: one huge
	// series must not pin its size for ever.
	frameKeep = 4 << 20
)

// outFrame is the buffer of one SeriesResponse. It goes from the pool to a
// Writer, from there to gRPC, which returns it to the pool once it is sent.
type outFrame struct {
	full []byte // frameHead bytes of room, then the content
	view []byte // what is sent
}

var framePool = sync.Pool{New: func() any { return &outFrame{full: make([]byte, frameHead, 64<<10)} }}

func newFrame() *outFrame {
	f := framePool.Get().(*outFrame)
	f.full = f.full[:frameHead]
	return f
}

// seal puts the tag and the length of the content in front of it.
func (f *outFrame) seal(tag byte) {
	n := uint64(len(f.full) - frameHead)
	start := frameHead - 1 - sizeVarint(n)
	f.full[start] = tag
	appendVarint(f.full[start+1:start+1], n)
	f.view = f.full[start:]
}

// take hands the frame's memory over to gRPC.
func (f *outFrame) take() mem.BufferSlice {
	return mem.BufferSlice{mem.NewBuffer(&f.view, f)}
}

// Get is part of mem.BufferPool and never used.
func (f *outFrame) Get(n int) *[]byte {
	b := make([]byte, n)
	return &b
}

// Put is called by gRPC when nobody reads the frame any more.
func (f *outFrame) Put(*[]byte) {
	if cap(f.full) <= frameKeep {
		framePool.Put(f)
	}
}

var _ mem.BufferPool = (*outFrame)(nil)
