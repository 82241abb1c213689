package objstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
)

// UnreachableError says that a bucket cannot be used.
type UnreachableError struct {
	// Type and Bucket name it as its configuration does.
	Type   Provider
	Bucket string
	// Reason is what went wrong in a few words, as far as it can be told.
	Reason string
	// Err is what the client said.
	Err error
}

// Error names type, bucket, reason and cause on one line.
func (e *UnreachableError) Error() string {
	return fmt.Sprintf("bucket %q of type %s cannot be reached: %s: %s", e.Bucket, e.Type, e.Reason,
		strings.ReplaceAll(e.Err.Error(), "\n", "; "))
}

// Unwrap returns the cause.
func (e *UnreachableError) Unwrap() error { return e.Err }

// CheckReachable asks the bucket for the first entry of its listing and returns an *UnreachableError if that fails. An
// empty bucket is fine, and so is a FILESYSTEM folder that does not exist yet. The context should have a deadline: some
// clients try again for minutes.
func CheckReachable(ctx context.Context, bkt Bucket) error {
	errEnough := errors.New("enough")
	err := bkt.Iter(ctx, "", func(string) error { return errEnough })
	if err == nil || errors.Is(err, errEnough) {
		return nil
	}
	return &UnreachableError{Type: bkt.Provider(), Bucket: bkt.Name(), Reason: reason(ctx, bkt, err), Err: err}
}

// missingBucket are parts of what providers say when the bucket itself does not exist: their "not found" tests know
// objects only.
var missingBucket = []string{
	"NoSuchBucket", "specified bucket does not exist", "bucket doesn't exist", "bucket does not exist",
	"ContainerNotFound", "specified container does not exist", "BucketNotFound", "Container Not Found",
}

func reason(ctx context.Context, bkt Bucket, err error) string {
	text := err.Error()
	for _, part := range missingBucket {
		if strings.Contains(text, part) {
			return "it does not exist"
		}
	}
	var (
		dnsErr *net.DNSError
		opErr  *net.OpError
	)
	switch {
	case bkt.IsAccessDeniedErr(err):
		return "access denied"
	case bkt.IsObjNotFoundErr(err):
		return "it does not exist"
	case ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	case errors.As(err, &dnsErr) || strings.Contains(text, "no such host"):
		return "its host is unknown"
	case errors.As(err, &opErr) || strings.Contains(text, "connection refused"):
		return "no connection"
	}
	return "it answers with an error"
}
