package faults

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/thanos-io/objstore"
)

// ErrInjected is wrapped by every error that this package makes up.
var ErrInjected = errors.New("injected fault")

// injectedError is an error of a given kind.
type injectedError struct {
	op, name, kind string
	rule           int
}

func (e *injectedError) Error() string {
	return fmt.Sprintf("%s %q: injected fault of rule %d (%s)", e.op, e.name, e.rule, e.kind)
}

func (e *injectedError) Unwrap() error { return ErrInjected }

// Bucket is a bucket that does what its rules say. It is safe for concurrent use.
type Bucket struct {
	bkt   objstore.Bucket
	rules atomic.Pointer[rules]

	requests, injected counters
}

var _ objstore.Bucket = (*Bucket)(nil)

// Wrap puts the faults of cfg in front of bkt. Closing it closes bkt. The configuration must be valid; without rules the
// bucket only counts.
func Wrap(bkt objstore.Bucket, cfg Config) (*Bucket, error) {
	b := &Bucket{bkt: bkt}
	if err := b.SetConfig(cfg); err != nil {
		return nil, err
	}
	return b, nil
}

// SetConfig replaces the rules, forgetting what the former ones have counted. Operations that are under way keep the
// plan they have. A test that is done with failures sets the empty Config.
func (b *Bucket) SetConfig(cfg Config) error {
	rs, err := newRules(cfg)
	if err != nil {
		return err
	}
	b.rules.Store(rs)
	return nil
}

// Requests returns how many operations of each kind have arrived since the start or the last Reset, failed ones included.
func (b *Bucket) Requests() Counts { return b.requests.counts() }

// Injected returns how many of them a rule has changed in any way.
func (b *Bucket) Injected() Counts { return b.injected.counts() }

// Reset sets both counts to zero.
func (b *Bucket) Reset() {
	b.requests.reset()
	b.injected.reset()
}

// before counts an operation, waits as its rules demand, and returns either what to do with its body or the error to
// fail with.
func (b *Bucket) before(ctx context.Context, op, name string) (plan, error) {
	b.requests.add(op)
	p := b.rules.Load().decide(op, name)
	if p == (plan{}) {
		return p, nil
	}
	b.injected.add(op)
	if p.latency > 0 {
		timer := time.NewTimer(p.latency)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return p, fmt.Errorf("%s %q: %w", op, name, context.Cause(ctx))
		}
	}
	if p.hang {
		<-ctx.Done()
		return p, fmt.Errorf("%s %q: %w", op, name, context.Cause(ctx))
	}
	if p.kind != "" {
		return p, &injectedError{op: op, name: name, kind: p.kind, rule: p.rule}
	}
	return p, nil
}

// Provider returns the provider of the bucket behind.
func (b *Bucket) Provider() objstore.ObjProvider { return b.bkt.Provider() }

// Name returns the name of the bucket behind.
func (b *Bucket) Name() string { return b.bkt.Name() }

// Close closes the bucket behind.
func (b *Bucket) Close() error { return b.bkt.Close() }

// IsObjNotFoundErr also knows injected errors of that kind.
func (b *Bucket) IsObjNotFoundErr(err error) bool {
	if injected, ok := errors.AsType[*injectedError](err); ok {
		return injected.kind == ErrorNotFound
	}
	return b.bkt.IsObjNotFoundErr(err)
}

// IsAccessDeniedErr also knows injected errors of that kind.
func (b *Bucket) IsAccessDeniedErr(err error) bool {
	if injected, ok := errors.AsType[*injectedError](err); ok {
		return injected.kind == ErrorAccessDenied
	}
	return b.bkt.IsAccessDeniedErr(err)
}

// SupportedIterOptions returns those of the bucket behind.
func (b *Bucket) SupportedIterOptions() []objstore.IterOptionType {
	return b.bkt.SupportedIterOptions()
}

// Iter lists a folder, unless a rule has something against it.
func (b *Bucket) Iter(ctx context.Context, dir string, f func(string) error, options ...objstore.IterOption) error {
	if _, err := b.before(ctx, Iter, dir); err != nil {
		return err
	}
	return b.bkt.Iter(ctx, dir, f, options...)
}

// IterWithAttributes lists a folder, unless a rule has something against it.
func (b *Bucket) IterWithAttributes(ctx context.Context, dir string, f func(objstore.IterObjectAttributes) error, options ...objstore.IterOption) error {
	if _, err := b.before(ctx, Iter, dir); err != nil {
		return err
	}
	return b.bkt.IterWithAttributes(ctx, dir, f, options...)
}

// Get opens an object; its body obeys the rules.
func (b *Bucket) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	p, err := b.before(ctx, Get, name)
	if err != nil {
		return nil, err
	}
	rc, err := b.bkt.Get(ctx, name)
	if err != nil {
		return nil, err
	}
	return wrapBody(rc, p, Get, name), nil
}

// GetRange opens a range of an object; its body obeys the rules.
func (b *Bucket) GetRange(ctx context.Context, name string, off, length int64) (io.ReadCloser, error) {
	p, err := b.before(ctx, GetRange, name)
	if err != nil {
		return nil, err
	}
	rc, err := b.bkt.GetRange(ctx, name, off, length)
	if err != nil {
		return nil, err
	}
	return wrapBody(rc, p, GetRange, name), nil
}

// Exists looks for an object, unless a rule has something against it.
func (b *Bucket) Exists(ctx context.Context, name string) (bool, error) {
	if _, err := b.before(ctx, Exists, name); err != nil {
		return false, err
	}
	return b.bkt.Exists(ctx, name)
}

// Attributes looks at an object, unless a rule has something against it.
func (b *Bucket) Attributes(ctx context.Context, name string) (objstore.ObjectAttributes, error) {
	if _, err := b.before(ctx, Attributes, name); err != nil {
		return objstore.ObjectAttributes{}, err
	}
	return b.bkt.Attributes(ctx, name)
}

// Upload stores an object; what it reads from r obeys the rules, except that an upload is never truncated: no client
// takes the end of its own input for success.
func (b *Bucket) Upload(ctx context.Context, name string, r io.Reader, opts ...objstore.ObjectUploadOption) error {
	p, err := b.before(ctx, Upload, name)
	if err != nil {
		return err
	}
	if p.breakAfter != nil || p.shortReads > 0 {
		p.truncate = nil
		r = newBody(r, p, Upload, name)
	}
	return b.bkt.Upload(ctx, name, r, opts...)
}

// Delete removes an object, unless a rule has something against it.
func (b *Bucket) Delete(ctx context.Context, name string) error {
	if _, err := b.before(ctx, Delete, name); err != nil {
		return err
	}
	return b.bkt.Delete(ctx, name)
}
