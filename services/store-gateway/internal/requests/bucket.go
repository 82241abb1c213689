package requests

import (
	"context"
	"io"

	"github.com/thanos-io/objstore"
)

// Bucket returns bkt with its reads counted. It is to be the layer next to the bucket.
func (c *Counter) Bucket(bkt objstore.InstrumentedBucket) objstore.InstrumentedBucket {
	if c == nil {
		return bkt
	}
	return &bucket{Bucket: bkt, instrumented: bkt, c: c}
}

// bucket is one view of the bucket, with its own expectations of errors.
type bucket struct {
	objstore.Bucket
	instrumented objstore.InstrumentedBucket
	c            *Counter
}

var _ objstore.InstrumentedBucket = (*bucket)(nil)

func (b *bucket) WithExpectedErrs(expected objstore.IsOpFailureExpectedFunc) objstore.Bucket {
	return &bucket{Bucket: b.instrumented.WithExpectedErrs(expected), instrumented: b.instrumented, c: b.c}
}

func (b *bucket) ReaderWithExpectedErrs(expected objstore.IsOpFailureExpectedFunc) objstore.BucketReader {
	return b.WithExpectedErrs(expected)
}

func (b *bucket) Iter(ctx context.Context, dir string, f func(string) error, options ...objstore.IterOption) error {
	b.c.count(ctx, objstore.OpIter)
	return b.Bucket.Iter(ctx, dir, f, options...)
}

func (b *bucket) IterWithAttributes(ctx context.Context, dir string, f func(objstore.IterObjectAttributes) error, options ...objstore.IterOption) error {
	b.c.count(ctx, objstore.OpIter)
	return b.Bucket.IterWithAttributes(ctx, dir, f, options...)
}

func (b *bucket) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	b.c.count(ctx, objstore.OpGet)
	return b.Bucket.Get(ctx, name)
}

func (b *bucket) GetRange(ctx context.Context, name string, off, length int64) (io.ReadCloser, error) {
	b.c.count(ctx, objstore.OpGetRange)
	return b.Bucket.GetRange(ctx, name, off, length)
}

func (b *bucket) Exists(ctx context.Context, name string) (bool, error) {
	b.c.count(ctx, objstore.OpExists)
	return b.Bucket.Exists(ctx, name)
}

func (b *bucket) Attributes(ctx context.Context, name string) (objstore.ObjectAttributes, error) {
	b.c.count(ctx, objstore.OpAttributes)
	return b.Bucket.Attributes(ctx, name)
}
