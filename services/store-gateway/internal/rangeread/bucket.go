package rangeread

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/thanos-io/objstore"
)

var (
	// ErrMissing says that the object is not there. Reading again does not help.
	ErrMissing = errors.New("object is missing")
	// ErrTruncated says that the object is shorter than what refers to it says.
	// Reading again does not help.
	ErrTruncated = errors.New("object is truncated")
)

// Config bounds the reads of a Bucket.
type Config struct {
	// Attempts is how often a read is tried in all; below 1 means 1.
	Attempts int
	// Backoff is the pause before the second attempt. It doubles with each one, up to
	// MaxBackoff, and a random half of it is left out.
	Backoff, MaxBackoff time.Duration
	// Concurrency is how many reads may be under way at once; below 1 means no bound.
	Concurrency int
}

// DefaultConfig survives a bucket that fails half of its reads: fourteen repetitions
// leave three failures in a hundred thousand reads, and take eight seconds at most.
func DefaultConfig() Config {
	return Config{Attempts: 15, Backoff: 10 * time.Millisecond, MaxBackoff: time.Second, Concurrency: 128}
}

// Bucket reads ranges. It is safe for concurrent use.
type Bucket struct {
	bkt   objstore.BucketReader
	cfg   Config
	slots chan struct{} // nil when unbounded
	// maxGap is how many unwanted bytes are read rather than asking anew.
	maxGap int64
}

const (
	// remoteGap is the gap between two ranges below which one request for both is
	// cheaper than two.
	remoteGap = 512 << 10
	// localGap is the same for a file system, where a request costs about as much as
	// copying some pages.
	localGap = 16 << 10
)

// New returns a Bucket over bkt.
func New(bkt objstore.BucketReader, cfg Config) *Bucket {
	b := &Bucket{bkt: bkt, cfg: cfg, maxGap: remoteGap}
	if cfg.Concurrency > 0 {
		b.slots = make(chan struct{}, cfg.Concurrency)
	}
	if p, ok := bkt.(interface{ Provider() objstore.ObjProvider }); ok && p.Provider() == objstore.FILESYSTEM {
		b.maxGap = localGap
	}
	return b
}

// Local reports whether the bucket is a file system, where reading costs about as much
// as looking into a cache.
func (b *Bucket) Local() bool { return b.maxGap == localGap }

// Size returns the size of an object.
func (b *Bucket) Size(ctx context.Context, name string) (size int64, err error) {
	err = b.retry(ctx, func(ctx context.Context) error {
		attrs, err := b.bkt.Attributes(ctx, name)
		size = attrs.Size
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("size of %s: %w", name, err)
	}
	return size, nil
}

// ReadAll returns a small object as a whole.
func (b *Bucket) ReadAll(ctx context.Context, name string, maxBytes int64) (content []byte, err error) {
	err = b.retry(ctx, func(ctx context.Context) error {
		r, err := b.bkt.Get(ctx, name)
		if err != nil {
			return err
		}
		content, err = io.ReadAll(io.LimitReader(r, maxBytes+1))
		return errors.Join(err, r.Close())
	})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if int64(len(content)) > maxBytes {
		return nil, fmt.Errorf("read %s: it has more than %d bytes", name, maxBytes)
	}
	return content, nil
}

// List returns the entries of a folder, in no particular order.
func (b *Bucket) List(ctx context.Context, dir string) (names []string, err error) {
	err = b.retry(ctx, func(ctx context.Context) error {
		names = names[:0]
		return b.bkt.Iter(ctx, dir, func(name string) error {
			names = append(names, name)
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", dir, err)
	}
	return names, nil
}

// Part is a piece of an object.
type Part struct {
	// Off is where the piece begins.
	Off int64
	// Buf takes it.
	Buf []byte
	// Min is how many bytes are needed. The rest may be missing where the object
	// ends; Read shortens Buf to what there is.
	Min int

	size int // what Buf is going to have, see Layout
}

func (p *Part) end() int64 { return p.Off + int64(p.size) }

// Read fills one part.
func (b *Bucket) Read(ctx context.Context, name string, p *Part) error {
	one := [1]Part{*p}
	err := b.ReadParts(ctx, name, one[:])
	p.Buf = one[0].Buf
	return err
}

// ReadParts fills parts, which are in ascending order and do not overlap, with one
// request. What lies between them is read and thrown away.
//
// The error names the object and wraps ErrMissing, ErrTruncated, the context's error,
// or what the bucket said last.
func (b *Bucket) ReadParts(ctx context.Context, name string, parts []Part) error {
	if len(parts) == 0 {
		return nil
	}
	start := parts[0].Off
	last := parts[len(parts)-1]
	end := last.Off + int64(len(last.Buf))
	need := last.Off + int64(last.Min)
	checked := false
	err := b.retry(ctx, func(ctx context.Context) error {
		err := b.readOnce(ctx, name, start, end, parts)
		if err == nil || checked || ctx.Err() != nil || b.bkt.IsObjNotFoundErr(err) {
			return err
		}
		// Either the bucket has trouble or the object is too short: some buckets send what
		// there is, others refuse ranges beyond the end in words of their own.
		attrs, attrsErr := b.bkt.Attributes(ctx, name)
		checked = attrsErr == nil
		if checked && attrs.Size < need {
			return fmt.Errorf("%w: it has %d bytes, %d are needed", ErrTruncated, attrs.Size, need)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("read %d bytes of %s at %d: %w", end-start, name, start, err)
	}
	return nil
}

// shortError is a body that ended too early: the object is too short, or the
// connection broke.
type shortError struct{ got, want int }

func (e *shortError) Error() string { return fmt.Sprintf("got %d of %d bytes", e.got, e.want) }

// skipBuf is what unwanted bytes are read into.
var skipBuf = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}

func (b *Bucket) readOnce(ctx context.Context, name string, start, end int64, parts []Part) (err error) {
	r, err := b.bkt.GetRange(ctx, name, start, end-start)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := r.Close(); err == nil {
			err = closeErr
		}
	}()
	pos := start
	for i := range parts {
		p := &parts[i]
		if err := skip(r, p.Off-pos); err != nil {
			return err
		}
		n, err := io.ReadFull(r, p.Buf)
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			if i < len(parts)-1 || n < p.Min {
				return &shortError{got: n, want: p.Min}
			}
			p.Buf = p.Buf[:n]
			return nil
		}
		if err != nil {
			return err
		}
		pos = p.Off + int64(n)
	}
	return nil
}

func skip(r io.Reader, n int64) error {
	if n <= 0 {
		return nil
	}
	buf := skipBuf.Get().(*[]byte)
	defer skipBuf.Put(buf)
	for n > 0 {
		k, err := r.Read((*buf)[:min(n, int64(len(*buf)))])
		n -= int64(k)
		if err == io.EOF && n > 0 {
			return &shortError{want: int(n)}
		}
		if err != nil && err != io.EOF {
			return err
		}
	}
	return nil
}

// retry calls f until it succeeds, fails for good, or the attempts are used up.
func (b *Bucket) retry(ctx context.Context, f func(context.Context) error) error {
	pause := b.cfg.Backoff
	for attempt := 1; ; attempt++ {
		err := b.guarded(ctx, f)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case b.bkt.IsObjNotFoundErr(err):
			return fmt.Errorf("%w: %w", ErrMissing, err)
		case errors.Is(err, ErrTruncated), b.bkt.IsAccessDeniedErr(err), attempt >= b.cfg.Attempts:
			return err
		}
		wait := pause/2 + rand.N(pause/2+1)
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < wait {
			return err // the deadline would only hide what is wrong
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
		pause = min(2*pause, b.cfg.MaxBackoff)
	}
}

// guarded waits for a slot.
func (b *Bucket) guarded(ctx context.Context, f func(context.Context) error) error {
	if b.slots == nil {
		return f(ctx)
	}
	select {
	case b.slots <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-b.slots }()
	return f(ctx)
}
