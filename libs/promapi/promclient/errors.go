package promclient

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Kind is what a failed request means for the caller.
type Kind int

// The kinds of failure. Only Unavailable is worth a retry of the same request.
const (
	// Internal is a fault of the server, or an answer that cannot be read.
	Internal Kind = iota
	// Invalid means the request is wrong (400).
	Invalid
	// NotFound means the server does not have this (404).
	NotFound
	// Execution means a query that was understood could not be answered (422).
	Execution
	// Unavailable means the server cannot answer now (429, 502, 503, 504), or could not be reached.
	Unavailable
	// Denied means the credentials do not suffice (401, 403).
	Denied
)

// String returns the kind in words.
func (k Kind) String() string {
	switch k {
	case Invalid:
		return "invalid request"
	case NotFound:
		return "not found"
	case Execution:
		return "execution"
	case Unavailable:
		return "unavailable"
	case Denied:
		return "denied"
	default:
		return "internal"
	}
}

// Error is a request that was answered with a failure, or not at all.
type Error struct {
	// URL is what was asked, without parameters and password.
	URL string
	// StatusCode is the HTTP status; 0 if there was no answer.
	StatusCode int
	Kind       Kind
	// Type is the answer's errorType, such as bad_data; empty if it has none.
	Type string
	// Message is the answer's error text, or the beginning of a body of another form.
	Message string
	// Err is the cause if there was no answer or it could not be read.
	Err error
}

// Error names the server and what it said.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.URL)
	b.WriteString(": ")
	if e.StatusCode != 0 && e.StatusCode != http.StatusOK {
		fmt.Fprintf(&b, "%d %s: ", e.StatusCode, http.StatusText(e.StatusCode))
	}
	if e.Type != "" {
		b.WriteString(e.Type + ": ")
	}
	b.WriteString(e.Message)
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// KindOfStatus maps an HTTP status that is not 2xx to a kind. It is also for callers with requests of their own.
func KindOfStatus(code int) Kind {
	switch code {
	case http.StatusNotFound:
		return NotFound
	case http.StatusUnprocessableEntity:
		return Execution
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return Unavailable
	case http.StatusUnauthorized, http.StatusForbidden:
		return Denied
	}
	if code >= 400 && code < 500 {
		return Invalid
	}
	return Internal
}

func kindOfType(t string) Kind {
	switch t {
	case "bad_data":
		return Invalid
	case "execution":
		return Execution
	case "not_found":
		return NotFound
	case "timeout", "canceled", "unavailable":
		return Unavailable
	default:
		return Internal
	}
}

// errorFrom reads as much of a failed answer as an error message needs.
func errorFrom(resp *http.Response, where string) *Error {
	const most = 64 << 10
	e := &Error{URL: where, StatusCode: resp.StatusCode, Kind: KindOfStatus(resp.StatusCode)}
	body, err := io.ReadAll(io.LimitReader(resp.Body, most))
	if err != nil && len(body) == 0 {
		e.Message, e.Err = "unreadable answer: "+err.Error(), err
		return e
	}
	var envelope struct {
		ErrorType string `json:"errorType"`
		Error     string `json:"error"`
	}
	if json.Unmarshal(body, &envelope) == nil && envelope.Error != "" {
		e.Type, e.Message = envelope.ErrorType, envelope.Error
		return e
	}
	e.Message = firstLine(string(body))
	if e.Message == "" {
		e.Message = "empty answer"
	}
	return e
}

func firstLine(s string) string {
	const most = 300
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
