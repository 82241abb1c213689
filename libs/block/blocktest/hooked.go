package blocktest

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"github.com/thanos-io/objstore"
)

// Call is one call of a bucket's method, by the names of package objstore.
type Call struct {
	// Op is one of objstore.OpIter, OpGet, OpGetRange, OpExists, OpUpload, OpDelete, OpAttributes.
	Op   string
	Name string
}

// Hooked is a bucket that records its calls and asks a hook before each. Safe for
// concurrent use, if the hook is.
type Hooked struct {
	objstore.Bucket

	// Hook is called before each call is passed on; an error is returned instead. Nil
	// lets all pass.
	Hook func(Call) error
	// Cut says how many bytes of an upload arrive before Hook's error for it takes
	// effect, as in buckets without atomic writes. 0 lets nothing arrive.
	Cut int64

	mu    sync.Mutex // guards calls
	calls []Call
}

// Calls returns the calls so far, in order.
func (h *Hooked) Calls() []Call {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]Call(nil), h.calls...)
}

// Reset forgets the calls so far.
func (h *Hooked) Reset() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls = nil
}

// ErrKilled is what calls return after KillAt.
var ErrKilled = errors.New("killed")

// KillAt returns a hook that fails the n-th call, counted from 1, and all after it:
// for the bucket, the same as the end of the process.
func KillAt(n int64) func(Call) error {
	var calls atomic.Int64
	return func(Call) error {
		if calls.Add(1) >= n {
			return ErrKilled
		}
		return nil
	}
}

func (h *Hooked) before(op, name string) error {
	h.mu.Lock()
	h.calls = append(h.calls, Call{op, name})
	h.mu.Unlock()
	if h.Hook == nil {
		return nil
	}
	return h.Hook(Call{op, name})
}

// Iter implements objstore.BucketReader.
func (h *Hooked) Iter(ctx context.Context, dir string, f func(string) error, opts ...objstore.IterOption) error {
	if err := h.before(objstore.OpIter, dir); err != nil {
		return err
	}
	return h.Bucket.Iter(ctx, dir, f, opts...)
}

// IterWithAttributes implements objstore.BucketReader.
func (h *Hooked) IterWithAttributes(ctx context.Context, dir string, f func(objstore.IterObjectAttributes) error, opts ...objstore.IterOption) error {
	if err := h.before(objstore.OpIter, dir); err != nil {
		return err
	}
	return h.Bucket.IterWithAttributes(ctx, dir, f, opts...)
}

// Get implements objstore.BucketReader.
func (h *Hooked) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	if err := h.before(objstore.OpGet, name); err != nil {
		return nil, err
	}
	return h.Bucket.Get(ctx, name)
}

// GetRange implements objstore.BucketReader.
func (h *Hooked) GetRange(ctx context.Context, name string, off, length int64) (io.ReadCloser, error) {
	if err := h.before(objstore.OpGetRange, name); err != nil {
		return nil, err
	}
	return h.Bucket.GetRange(ctx, name, off, length)
}

// Exists implements objstore.BucketReader.
func (h *Hooked) Exists(ctx context.Context, name string) (bool, error) {
	if err := h.before(objstore.OpExists, name); err != nil {
		return false, err
	}
	return h.Bucket.Exists(ctx, name)
}

// Attributes implements objstore.BucketReader.
func (h *Hooked) Attributes(ctx context.Context, name string) (objstore.ObjectAttributes, error) {
	if err := h.before(objstore.OpAttributes, name); err != nil {
		return objstore.ObjectAttributes{}, err
	}
	return h.Bucket.Attributes(ctx, name)
}

// Upload implements objstore.Bucket.
func (h *Hooked) Upload(ctx context.Context, name string, r io.Reader, opts ...objstore.ObjectUploadOption) error {
	if err := h.before(objstore.OpUpload, name); err != nil {
		if h.Cut > 0 {
			return errors.Join(err, h.Bucket.Upload(ctx, name, io.LimitReader(r, h.Cut), opts...))
		}
		return err
	}
	return h.Bucket.Upload(ctx, name, r, opts...)
}

// Delete implements objstore.Bucket.
func (h *Hooked) Delete(ctx context.Context, name string) error {
	if err := h.before(objstore.OpDelete, name); err != nil {
		return err
	}
	return h.Bucket.Delete(ctx, name)
}
