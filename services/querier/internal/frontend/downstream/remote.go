package downstream

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// maxQuery is how long parameters may be to go into the address; longer ones go into the body.
const maxQuery = 4 << 10

// Remote is a querier at an address.
type Remote struct {
	base    *url.URL
	client  *http.Client
	forward []string
}

// NewRemote returns a caller of the API below base, which gets the named headers of clients.
func NewRemote(base *url.URL, transport http.RoundTripper, forward []string) *Remote {
	return &Remote{
		base: base, forward: forward,
		client: &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}
}

var _ Caller = (*Remote)(nil)

// Call implements [Caller].
func (d *Remote) Call(ctx context.Context, r *Request) (*Reply, error) {
	hr, err := d.request(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("call %s: %w", r.Path, err)
	}
	resp, err := d.client.Do(hr)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, err // it names the address
	}
	defer resp.Body.Close()
	body := &buffer{room: r.Room}
	if n := resp.ContentLength; n > 0 && n < maxHint {
		body.b.Grow(int(n))
	}
	if _, err := io.Copy(body, resp.Body); err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("read answer of %s: %w", hr.URL.Redacted(), err)
	}
	return &Reply{Code: resp.StatusCode, Header: resp.Header, Body: body.b.Bytes()}, nil
}

// maxHint is up to where memory is taken on the word of a header.
const maxHint = 16 << 20

func (d *Remote) request(ctx context.Context, r *Request) (*http.Request, error) {
	target := d.base.JoinPath(r.Path)
	text := r.Form.Encode()
	var hr *http.Request
	var err error
	if len(text) > maxQuery && !strings.HasSuffix(r.Path, "/values") {
		if hr, err = http.NewRequestWithContext(ctx, http.MethodPost, target.String(), strings.NewReader(text)); err == nil {
			hr.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
	} else {
		target.RawQuery = text
		hr, err = http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	}
	if err != nil {
		return nil, err
	}
	for _, name := range d.forward {
		if values := r.Of.Header.Values(name); len(values) > 0 {
			hr.Header[http.CanonicalHeaderKey(name)] = values
		}
	}
	for name, values := range r.Header {
		hr.Header[name] = values
	}
	return hr, nil
}
