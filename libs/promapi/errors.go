package promapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/prometheus/prometheus/promql"
)

// ErrorType is the kind of a failed request, as the envelope's "errorType" names it.
type ErrorType string

// The error types of the API. [ErrorType.StatusCode] tells the HTTP status of each.
const (
	ErrorBadData   ErrorType = "bad_data"
	ErrorExecution ErrorType = "execution"
	ErrorCanceled  ErrorType = "canceled"
	ErrorTimeout   ErrorType = "timeout"
	ErrorInternal  ErrorType = "internal"
	ErrorNotFound  ErrorType = "not_found"
)

// StatusCode returns the HTTP status of an answer with this error type; unknown types are 500.
func (t ErrorType) StatusCode() int {
	switch t {
	case ErrorBadData:
		return http.StatusBadRequest
	case ErrorNotFound:
		return http.StatusNotFound
	case ErrorExecution:
		return http.StatusUnprocessableEntity
	case ErrorCanceled, ErrorTimeout:
		return http.StatusServiceUnavailable
	default:
		return http.StatusInternalServerError
	}
}

// Error is an error with the type under which the client sees it.
type Error struct {
	Type ErrorType
	Err  error
}

// Error returns the text that goes into the envelope's "error", without the type.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// NewError gives err a type.
func NewError(t ErrorType, err error) *Error { return &Error{Type: t, Err: err} }

// BadData returns a bad_data error with a formatted text.
func BadData(format string, args ...any) *Error {
	return &Error{Type: ErrorBadData, Err: fmt.Errorf(format, args...)}
}

// AsError returns err with its type: that of the [Error] in its chain where there is one, else by
// what the query engine and the context package call their errors. Anything else is an execution
// error, because by then the request has been understood. AsError(nil) is nil.
func AsError(err error) *Error {
	if err == nil {
		return nil
	}
	var typed *Error
	if errors.As(err, &typed) {
		// Keep what callers wrapped around the typed error: it is part of the text.
		return &Error{Type: typed.Type, Err: err}
	}
	var (
		engineCanceled promql.ErrQueryCanceled
		engineTimeout  promql.ErrQueryTimeout
		engineStorage  promql.ErrStorage
	)
	switch {
	case errors.As(err, &engineCanceled):
		return &Error{Type: ErrorCanceled, Err: err}
	case errors.As(err, &engineTimeout):
		return &Error{Type: ErrorTimeout, Err: err}
	case errors.As(err, &engineStorage):
		return &Error{Type: ErrorInternal, Err: err}
	case errors.Is(err, context.Canceled):
		return &Error{Type: ErrorCanceled, Err: err}
	case errors.Is(err, context.DeadlineExceeded):
		return &Error{Type: ErrorTimeout, Err: err}
	default:
		return &Error{Type: ErrorExecution, Err: err}
	}
}
