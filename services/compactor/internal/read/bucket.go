package read

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/thanos-io/objstore"
)

// Options bound what reading costs.
type Options struct {
	// IndexBuffer and ChunkBuffer are how many bytes of a block's index and chunks are
	// read at once. Twice as much is held, since the next part is fetched ahead.
	IndexBuffer, ChunkBuffer int
	// Attempts is how often a request is tried in all, Backoff the pause before the
	// second time; it doubles up to two seconds.
	Attempts int
	Backoff  time.Duration
}

// DefaultOptions suits a handful of blocks; see OptionsFor. A bucket that fails half of its
// reads makes three reads in a hundred thousand fail.
func DefaultOptions() Options {
	return Options{IndexBuffer: 256 << 10, ChunkBuffer: 1 << 20, Attempts: 15, Backoff: 10 * time.Millisecond}
}

// OptionsFor returns options with which n blocks together hold about budget bytes.
func OptionsFor(n int, budget int64) Options {
	o := DefaultOptions()
	each := budget / int64(max(1, n)) / 2
	o.ChunkBuffer = int(min(max(each*3/4, 32<<10), 4<<20))
	o.IndexBuffer = int(min(max(each/4, 16<<10), 1<<20))
	return o
}

const maxBackoff = 2 * time.Second

// requests makes ranged requests to one bucket.
type requests struct {
	bkt  objstore.BucketReader
	opts Options
}

// readRange fills p with the bytes of an object from off on. A result shorter than p
// is an error that wraps io.ErrUnexpectedEOF.
func (r *requests) readRange(ctx context.Context, name string, off int64, p []byte) error {
	return r.retry(ctx, func() error {
		rc, err := r.bkt.GetRange(ctx, name, off, int64(len(p)))
		if err != nil {
			return err
		}
		_, err = io.ReadFull(rc, p)
		if closeErr := rc.Close(); err == nil {
			err = closeErr
		}
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return err
	}, name)
}

func (r *requests) size(ctx context.Context, name string) (size int64, err error) {
	err = r.retry(ctx, func() error {
		attrs, err := r.bkt.Attributes(ctx, name)
		size = attrs.Size
		return err
	}, name)
	return size, err
}

// retry repeats f until it succeeds, the object turns out not to be there, or all
// attempts are used up.
func (r *requests) retry(ctx context.Context, f func() error, name string) error {
	pause := r.opts.Backoff
	for attempt := 1; ; attempt++ {
		err := f()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case r.bkt.IsObjNotFoundErr(err):
			return fmt.Errorf("%w: %s", ErrMissing, name)
		case attempt >= r.opts.Attempts:
			return fmt.Errorf("read %s: %w", name, err)
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
		pause = min(2*pause, maxBackoff)
	}
}
