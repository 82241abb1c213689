package read

import (
	"context"
	"fmt"
	"io"
)

// headroom is how many bytes are kept free before a piece that is fetched ahead: what is left
// of the piece before it, a part of an entry or a chunk, moves there and both are one.
const headroom = 8 << 10

// window is a piece of an object in memory that moves forward through it. The piece
// after it is fetched while it is being used.
type window struct {
	req  *requests
	name string
	size int64
	step int

	off int64 // of buf in the object
	buf []byte

	// back is the memory of buf, spare memory that nobody uses.
	back, spare []byte
	ahead       chan fetched // one fetch under way, nil if none
}

// fetched is a piece: n bytes of memory behind the headroom.
type fetched struct {
	off  int64
	back []byte
	n    int
	err  error
}

func (f *fetched) bytes() []byte { return f.back[headroom : headroom+f.n] }

func newWindow(req *requests, name string, size int64, step int) *window {
	return &window{req: req, name: name, size: size, step: max(step, 1)}
}

// bytes returns n bytes at off, valid until the next call. Bytes behind the end of the
// object are io.ErrUnexpectedEOF.
func (w *window) bytes(ctx context.Context, off int64, n int) ([]byte, error) {
	if off < 0 || n < 0 || off > w.size || int64(n) > w.size-off {
		return nil, fmt.Errorf("%w: bytes %d to %d of %d", io.ErrUnexpectedEOF, off, off+int64(n), w.size)
	}
	if off >= w.off && off+int64(n) <= w.off+int64(len(w.buf)) {
		i := off - w.off
		return w.buf[i : i+int64(n)], nil
	}
	if err := w.move(ctx, off, n); err != nil {
		return nil, err
	}
	return w.buf[:n], nil
}

// upTo returns at least 1 and at most n bytes at off: fewer at the end of the object.
func (w *window) upTo(ctx context.Context, off int64, n int) ([]byte, error) {
	if off >= w.size {
		return nil, fmt.Errorf("%w: byte %d of %d", io.ErrUnexpectedEOF, off, w.size)
	}
	return w.bytes(ctx, off, int(min(int64(n), w.size-off)))
}

// move makes the window begin at off and hold n bytes or more.
func (w *window) move(ctx context.Context, off int64, n int) error {
	next, hit, err := w.takeAhead(ctx, off)
	if err != nil {
		return err
	}
	if hit && w.join(&next, off, n) {
		w.fetchAhead(ctx)
		return nil
	}
	if hit {
		w.spare = next.back
	}
	want := int(min(int64(max(n, w.step)), w.size-off))
	if cap(w.back) < headroom+want {
		w.back = make([]byte, headroom+want)
	}
	w.back = w.back[:headroom+want]
	w.buf = nil // stays empty if the read fails
	if err := w.req.readRange(ctx, w.name, off, w.back[headroom:]); err != nil {
		return err
	}
	w.buf, w.off = w.back[headroom:], off
	w.fetchAhead(ctx)
	return nil
}

// join makes the window of the fetched piece and what is left of the current one from off
// on. False: that is not enough for n bytes, or what is left is too long to be moved.
func (w *window) join(next *fetched, off int64, n int) bool {
	if off >= next.off {
		skip := int(off - next.off)
		if next.n-skip < n {
			return false
		}
		w.spare, w.back = w.back, next.back
		w.buf, w.off = next.bytes()[skip:], off
		return true
	}
	left := w.buf[off-w.off:]
	if len(left) > headroom || len(left)+next.n < n {
		return false
	}
	begin := headroom - len(left)
	copy(next.back[begin:], left)
	w.spare, w.back = w.back, next.back
	w.buf, w.off = w.back[begin:headroom+next.n], off
	return true
}

// takeAhead waits for the fetch under way, and returns it if it continues the current
// piece and off lies in one of both. A failed fetch counts as none: the read that
// follows says what is wrong.
func (w *window) takeAhead(ctx context.Context, off int64) (next fetched, hit bool, err error) {
	if w.ahead == nil {
		return fetched{}, false, nil
	}
	f := <-w.ahead
	w.ahead = nil
	if ctx.Err() != nil {
		return fetched{}, false, ctx.Err()
	}
	if f.err != nil || f.off != w.off+int64(len(w.buf)) || off < w.off || off >= f.off+int64(f.n) {
		w.spare = f.back
		return fetched{}, false, nil //nolint:nilerr // the reader asks again, and then says why
	}
	return f, true, nil
}

func (w *window) fetchAhead(ctx context.Context) {
	off := w.off + int64(len(w.buf))
	n := int(min(int64(w.step), w.size-off))
	if n <= 0 {
		return
	}
	back := w.spare
	w.spare = nil
	if cap(back) < headroom+n {
		back = make([]byte, headroom+n)
	}
	back = back[:headroom+n]
	ch := make(chan fetched, 1)
	w.ahead = ch
	go func() {
		err := w.req.readRange(ctx, w.name, off, back[headroom:])
		ch <- fetched{off: off, back: back, n: n, err: err}
	}()
}

// again reads n bytes at off from the bucket into a slice of their own, past all buffers.
func (w *window) again(ctx context.Context, off int64, n int) ([]byte, error) {
	if off < 0 || off > w.size || int64(n) > w.size-off {
		return nil, io.ErrUnexpectedEOF
	}
	p := make([]byte, n)
	return p, w.req.readRange(ctx, w.name, off, p)
}

// close waits for the fetch under way.
func (w *window) close() {
	if w.ahead != nil {
		<-w.ahead
		w.ahead = nil
	}
	w.buf, w.back, w.spare = nil, nil, nil
}
