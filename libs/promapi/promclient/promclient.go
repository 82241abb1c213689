// Package promclient is a client for the HTTP API of one Prometheus server, or of anything that answers like one.
//
// Each method is one request. Answers are read as they arrive and never beyond a bound ([ErrTooLarge]).
// An answer that says no is an [*Error], whose Kind tells the caller what to do; a request that got no answer is
// an Error of kind [Unavailable]; the end of the context is returned as it is.
package promclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// DefaultMaxBodyBytes bounds an answer where the options do not say otherwise.
const DefaultMaxBodyBytes = 256 << 20

// Options changes how a client asks.
type Options struct {
	// HTTP sends the requests; nil means a plain client.
	HTTP *http.Client
	// MaxBodyBytes bounds each answer after decompression; 0 means [DefaultMaxBodyBytes].
	MaxBodyBytes int64
	// QueryByGET asks queries, series and labels by GET, which caches understand. By default they are
	// asked by POST, whose parameters may be of any length.
	QueryByGET bool
	// Header is added to each request.
	Header http.Header
}

// Client asks one server. It is safe for concurrent use.
type Client struct {
	base    url.URL
	http    *http.Client
	maxBody int64
	byGET   bool
	header  http.Header
}

// New returns a client for the server at base, whose path may have a prefix.
func New(base *url.URL, opts Options) *Client {
	c := &Client{base: *base, http: opts.HTTP, maxBody: opts.MaxBodyBytes, byGET: opts.QueryByGET, header: opts.Header.Clone()}
	c.base.RawQuery, c.base.Fragment = "", ""
	if c.http == nil {
		c.http = &http.Client{}
	}
	if c.maxBody <= 0 {
		c.maxBody = DefaultMaxBodyBytes
	}
	return c
}

// BaseURL returns the address of the server.
func (c *Client) BaseURL() *url.URL {
	u := c.base
	return &u
}

// response is the envelope of every answer.
type response[T any] struct {
	Status    string   `json:"status"`
	Data      T        `json:"data"`
	ErrorType string   `json:"errorType"`
	Error     string   `json:"error"`
	Warnings  []string `json:"warnings"`
	Infos     []string `json:"infos"`
	// Receipt is what servers of ours add when they are asked to.
	Receipt json.RawMessage `json:"receipt"`
}

// notes returns warnings and infos in one list.
func (r *response[T]) notes() []string { return append(r.Warnings, r.Infos...) }

// apiGet asks path, below /api/v1, by GET.
func apiGet[T any](ctx context.Context, c *Client, path string, params url.Values) (response[T], error) {
	return call[T](ctx, c, http.MethodGet, path, params)
}

// apiPost asks path, below /api/v1, by POST unless the client was told to use GET. Servers that do not know
// POST there are asked again by GET.
func apiPost[T any](ctx context.Context, c *Client, path string, params url.Values) (response[T], error) {
	if c.byGET {
		return call[T](ctx, c, http.MethodGet, path, params)
	}
	resp, err := call[T](ctx, c, http.MethodPost, path, params)
	var refused *Error
	if errors.As(err, &refused) && (refused.StatusCode == http.StatusMethodNotAllowed || refused.StatusCode == http.StatusNotImplemented) {
		return call[T](ctx, c, http.MethodGet, path, params)
	}
	return resp, err
}

func call[T any](ctx context.Context, c *Client, method, path string, params url.Values) (out response[T], err error) {
	body, err := c.send(ctx, method, "/api/v1"+path, params, "application/json")
	if err != nil {
		return out, err
	}
	defer body.Close()
	if err := json.NewDecoder(body).Decode(&out); err != nil {
		return out, c.readError(ctx, path, err)
	}
	if out.Status != "success" {
		return out, &Error{
			URL: c.endpoint("/api/v1" + path).Redacted(), StatusCode: http.StatusOK, Kind: kindOfType(out.ErrorType),
			Type: out.ErrorType, Message: out.Error,
		}
	}
	return out, nil
}

func (c *Client) endpoint(path string) *url.URL {
	u := c.base
	// path is already escaped where it holds a label name.
	raw := strings.TrimRight(u.EscapedPath(), "/") + path
	if p, err := url.PathUnescape(raw); err == nil {
		u.Path, u.RawPath = p, raw
	}
	return &u
}

// send asks and returns the body of a 2xx answer, bounded; any other answer is an *Error.
func (c *Client) send(ctx context.Context, method, path string, params url.Values, accept string) (io.ReadCloser, error) {
	u := c.endpoint(path)
	var form io.Reader
	if method == http.MethodPost {
		form = strings.NewReader(params.Encode())
	} else {
		u.RawQuery = params.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), form)
	if err != nil {
		return nil, fmt.Errorf("make request to %s: %w", u.Redacted(), err)
	}
	for k, vs := range c.header {
		req.Header[k] = vs
	}
	req.Header.Set("Accept", accept)
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}

	resp, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%s %s: %w", method, c.endpoint(path).Redacted(), context.Cause(ctx))
		}
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err // its URL would repeat ours, with all parameters
		}
		return nil, &Error{URL: c.endpoint(path).Redacted(), Kind: Unavailable, Message: err.Error(), Err: err}
	}
	if resp.StatusCode/100 != 2 {
		defer resp.Body.Close()
		return nil, errorFrom(resp, c.endpoint(path).Redacted())
	}
	return &boundedBody{ReadCloser: resp.Body, left: c.maxBody, limit: c.maxBody}, nil
}

// readError names what broke while an answer was read.
func (c *Client) readError(ctx context.Context, path string, err error) error {
	where := c.endpoint("/api/v1" + path).Redacted()
	if ctx.Err() != nil {
		return fmt.Errorf("read answer of %s: %w", where, context.Cause(ctx))
	}
	if errors.Is(err, ErrTooLarge) {
		return fmt.Errorf("read answer of %s: %w", where, err)
	}
	return &Error{URL: where, Kind: Internal, Message: "unreadable answer: " + err.Error(), Err: err}
}

// ErrTooLarge tells that an answer is larger than the client reads.
var ErrTooLarge = errors.New("answer is too large")

// boundedBody fails, rather than ends, when more than the limit is there to read.
type boundedBody struct {
	io.ReadCloser
	left, limit int64
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, b.limit)
	}
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	if b.left < 0 {
		return n - 1, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, b.limit)
	}
	return n, err
}
