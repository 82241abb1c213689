package objstore

import (
	"context"
	"errors"
	"io"
	"strings"
)

// errorBucket makes the errors of a client fit to be used and shown: classified through any wrapping, without secrets.
//
// Upstream clients only look through wrappers that have a Cause method, so an error that went through fmt.Errorf would be
// taken for a failure where it says "not found".
type errorBucket struct {
	Bucket
	secrets []string
}

var _ Bucket = (*errorBucket)(nil)

// IsObjNotFoundErr looks at err and all that it wraps.
func (b *errorBucket) IsObjNotFoundErr(err error) bool {
	return anyInTree(err, b.Bucket.IsObjNotFoundErr)
}

// IsAccessDeniedErr looks at err and all that it wraps.
func (b *errorBucket) IsAccessDeniedErr(err error) bool {
	return anyInTree(err, b.Bucket.IsAccessDeniedErr)
}

func anyInTree(err error, is func(error) bool) bool {
	if err == nil {
		return false
	}
	if is(err) {
		return true
	}
	switch wrapper := err.(type) { //nolint:errorlint // this is the walk through what is wrapped
	case *scrubbedError:
		return anyInTree(wrapper.err, is)
	case interface{ Unwrap() error }:
		return anyInTree(wrapper.Unwrap(), is)
	case interface{ Unwrap() []error }:
		for _, inner := range wrapper.Unwrap() {
			if anyInTree(inner, is) {
				return true
			}
		}
	}
	return false
}

func (b *errorBucket) Iter(ctx context.Context, dir string, f func(string) error, options ...IterOption) error {
	return scrub(b.Bucket.Iter(ctx, dir, f, options...), b.secrets)
}

func (b *errorBucket) IterWithAttributes(ctx context.Context, dir string, f func(IterObjectAttributes) error, options ...IterOption) error {
	return scrub(b.Bucket.IterWithAttributes(ctx, dir, f, options...), b.secrets)
}

func (b *errorBucket) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	rc, err := b.Bucket.Get(ctx, name)
	return rc, scrub(err, b.secrets)
}

func (b *errorBucket) GetRange(ctx context.Context, name string, off, length int64) (io.ReadCloser, error) {
	rc, err := b.Bucket.GetRange(ctx, name, off, length)
	return rc, scrub(err, b.secrets)
}

func (b *errorBucket) Exists(ctx context.Context, name string) (bool, error) {
	ok, err := b.Bucket.Exists(ctx, name)
	return ok, scrub(err, b.secrets)
}

func (b *errorBucket) Attributes(ctx context.Context, name string) (ObjectAttributes, error) {
	attrs, err := b.Bucket.Attributes(ctx, name)
	return attrs, scrub(err, b.secrets)
}

func (b *errorBucket) Upload(ctx context.Context, name string, r io.Reader, opts ...ObjectUploadOption) error {
	return scrub(b.Bucket.Upload(ctx, name, r, opts...), b.secrets)
}

func (b *errorBucket) Delete(ctx context.Context, name string) error {
	return scrub(b.Bucket.Delete(ctx, name), b.secrets)
}

// scrub returns err with every secret in its text blotted out. The errors that it wraps stay reachable.
func scrub(err error, secrets []string) error {
	if err == nil || len(secrets) == 0 {
		return err
	}
	text := err.Error()
	clean := text
	for _, secret := range secrets {
		clean = strings.ReplaceAll(clean, secret, redactedValue)
	}
	if clean == text {
		return err
	}
	return &scrubbedError{text: clean, err: err}
}

// scrubbedError shows its own text only; formatting with %+v must not bring the secret back either.
type scrubbedError struct {
	text string
	err  error
}

func (e *scrubbedError) Error() string { return e.text }

// Is and As pass questions on to the hidden error; there is no Unwrap, since who unwraps may print.
func (e *scrubbedError) Is(target error) bool { return errors.Is(e.err, target) }

func (e *scrubbedError) As(target any) bool { return errors.As(e.err, target) }
