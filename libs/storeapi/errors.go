package storeapi

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Kinds of errors that survive the hop: a server maps them to gRPC codes and a
// client maps them back, so errors.Is works on both ends. Wrap one with %w.
var (
	// ErrInvalid: the request is malformed; asking again will not help.
	ErrInvalid = errors.New("invalid request")
	// ErrLimit: a limit was reached; the message has the numbers.
	ErrLimit = errors.New("limit reached")
	// ErrUnavailable: not ready or not reachable; asking later may help.
	ErrUnavailable = errors.New("unavailable")
	// ErrAborted: a source failed and the caller wanted all or nothing.
	ErrAborted = errors.New("aborted")
	// ErrNotFound: what was asked for is not there.
	ErrNotFound = errors.New("not found")
	// ErrUnimplemented: the peer does not serve this call.
	ErrUnimplemented = errors.New("unimplemented")
	// ErrInternal: the peer is at fault.
	ErrInternal = errors.New("internal error")
)

// kinds pairs each kind with its code, both ways.
var kinds = []struct {
	err  error
	code codes.Code
}{
	{ErrInvalid, codes.InvalidArgument},
	{ErrLimit, codes.ResourceExhausted},
	{ErrUnavailable, codes.Unavailable},
	{ErrAborted, codes.Aborted},
	{ErrNotFound, codes.NotFound},
	{ErrUnimplemented, codes.Unimplemented},
	{ErrInternal, codes.Internal},
	{context.Canceled, codes.Canceled},
	{context.DeadlineExceeded, codes.DeadlineExceeded},
}

// ToStatus turns an error of a store into a gRPC status error. An error without
// a kind becomes Unknown unless it carries a status already.
func ToStatus(err error) error {
	if err == nil {
		return nil
	}
	var k *kindError
	if _, ok := status.FromError(err); ok && !errors.As(err, &k) {
		return err
	}
	return status.Error(Code(err), err.Error())
}

// Code is the gRPC code for err's kind.
func Code(err error) codes.Code {
	for _, k := range kinds {
		if errors.Is(err, k.err) {
			return k.code
		}
	}
	return status.Code(err)
}

// kindError carries a kind beside the text that came over the wire.
type kindError struct {
	kind error
	err  error
}

func (e *kindError) Error() string   { return e.err.Error() }
func (e *kindError) Unwrap() []error { return []error{e.kind, e.err} }

// GRPCStatus keeps the status visible to gRPC's own helpers.
func (e *kindError) GRPCStatus() *status.Status { return status.Convert(e.err) }

// FromStatus gives an error of a gRPC call its kind back. The text stays as the
// peer wrote it, "rpc error: code = …" included: limit breaches inside warnings
// are recognised by it.
func FromStatus(err error) error {
	if err == nil {
		return nil
	}
	code := status.Code(err)
	for _, k := range kinds {
		if k.code == code {
			return &kindError{kind: k.err, err: err}
		}
	}
	return err
}

// Invalidf is an ErrInvalid with a text.
func Invalidf(format string, args ...any) error {
	return &textError{kind: ErrInvalid, text: fmt.Sprintf(format, args...)}
}

// Limitf is an ErrLimit with a text.
func Limitf(format string, args ...any) error {
	return &textError{kind: ErrLimit, text: fmt.Sprintf(format, args...)}
}

// Unavailablef is an ErrUnavailable with a text.
func Unavailablef(format string, args ...any) error {
	return &textError{kind: ErrUnavailable, text: fmt.Sprintf(format, args...)}
}

// Abortedf is an ErrAborted with a text.
func Abortedf(format string, args ...any) error {
	return &textError{kind: ErrAborted, text: fmt.Sprintf(format, args...)}
}

// textError says what is wrong without repeating the kind's name.
type textError struct {
	kind error
	text string
}

func (e *textError) Error() string { return e.text }
func (e *textError) Unwrap() error { return e.kind }
