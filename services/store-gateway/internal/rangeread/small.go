package rangeread

import (
	"bytes"
	"context"
	"errors"
	"io"

	"github.com/thanos-io/objstore"
)

// SmallObjects returns bkt with the same patience that b has for ranges: what fails
// for no lasting reason is tried again. Objects are read as a whole before they are
// handed out, so it is for small ones, such as metadata.
func (b *Bucket) SmallObjects(bkt objstore.BucketReader) objstore.BucketReader {
	return &smallObjects{BucketReader: bkt, b: b}
}

type smallObjects struct {
	objstore.BucketReader
	b *Bucket
}

// Get reads the object and returns it from memory.
func (s *smallObjects) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	var content []byte
	err := s.retry(ctx, func(ctx context.Context) error {
		r, err := s.BucketReader.Get(ctx, name)
		if err != nil {
			return err
		}
		content, err = io.ReadAll(r)
		if closeErr := r.Close(); err == nil {
			err = closeErr
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(content)), nil
}

// Exists looks for an object.
func (s *smallObjects) Exists(ctx context.Context, name string) (ok bool, err error) {
	err = s.retry(ctx, func(ctx context.Context) error {
		ok, err = s.BucketReader.Exists(ctx, name)
		return err
	})
	return ok, err
}

// Attributes looks at an object.
func (s *smallObjects) Attributes(ctx context.Context, name string) (attrs objstore.ObjectAttributes, err error) {
	err = s.retry(ctx, func(ctx context.Context) error {
		attrs, err = s.BucketReader.Attributes(ctx, name)
		return err
	})
	return attrs, err
}

// Iter calls f once the listing is complete.
func (s *smallObjects) Iter(ctx context.Context, dir string, f func(string) error, options ...objstore.IterOption) error {
	return s.IterWithAttributes(ctx, dir, func(a objstore.IterObjectAttributes) error { return f(a.Name) }, options...)
}

// IterWithAttributes calls f once the listing is complete.
func (s *smallObjects) IterWithAttributes(ctx context.Context, dir string, f func(objstore.IterObjectAttributes) error, options ...objstore.IterOption) error {
	var all []objstore.IterObjectAttributes
	err := s.retry(ctx, func(ctx context.Context) error {
		all = all[:0]
		return s.BucketReader.IterWithAttributes(ctx, dir, func(a objstore.IterObjectAttributes) error {
			all = append(all, a)
			return nil
		}, options...)
	})
	if err != nil {
		return err
	}
	for _, a := range all {
		if err := f(a); err != nil {
			return err
		}
	}
	return nil
}

// retry leaves a "not found" as the bucket made it: the callers look for it.
func (s *smallObjects) retry(ctx context.Context, f func(context.Context) error) error {
	var notFound error
	err := s.b.retry(ctx, func(ctx context.Context) error {
		err := f(ctx)
		if err != nil && s.BucketReader.IsObjNotFoundErr(err) {
			notFound = err
		}
		return err
	})
	if errors.Is(err, ErrMissing) && notFound != nil {
		return notFound
	}
	return err
}
