// Package promerr gives failures of Prometheus' HTTP API the kinds that callers of the
// Store API know, so that a kind survives the way from HTTP status to gRPC code.
package promerr

import (
	"context"
	"errors"

	"github.com/promontory-io/promontory/libs/promapi/promclient"
	"github.com/promontory-io/promontory/libs/storeapi"
)

// OfStatus returns the kind of an HTTP status that is not 2xx.
func OfStatus(code int) error { return ofKind(promclient.KindOfStatus(code)) }

func ofKind(k promclient.Kind) error {
	switch k {
	case promclient.Invalid:
		return storeapi.ErrInvalid
	case promclient.NotFound:
		return storeapi.ErrNotFound
	case promclient.Unavailable:
		return storeapi.ErrUnavailable
	case promclient.Execution, promclient.Denied, promclient.Internal:
		// Refused credentials are the sidecar's fault, never its caller's.
		return storeapi.ErrInternal
	}
	return storeapi.ErrInternal
}

// Wrap gives an error of promclient its kind; the text stays. What has a kind already, and
// the end of a context, is returned as it is.
func Wrap(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	var failed *promclient.Error
	switch {
	case errors.As(err, &failed):
		return &kinded{kind: ofKind(failed.Kind), err: err}
	case errors.Is(err, promclient.ErrTooLarge):
		return &kinded{kind: storeapi.ErrLimit, err: err}
	}
	return err
}

// IsNotFound reports whether Prometheus has no such endpoint.
func IsNotFound(err error) bool {
	var failed *promclient.Error
	return errors.As(err, &failed) && failed.Kind == promclient.NotFound
}

// Internal gives err the kind of a peer that is at fault: an answer that makes no sense.
func Internal(err error) error { return &kinded{kind: storeapi.ErrInternal, err: err} }

type kinded struct{ kind, err error }

func (k *kinded) Error() string   { return k.err.Error() }
func (k *kinded) Unwrap() []error { return []error{k.kind, k.err} }
