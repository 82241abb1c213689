package downstream

import (
	"context"
	"fmt"
	"net/http"
)

// Local is the API in this process.
type Local struct{ handler http.Handler }

// NewLocal returns a caller of h.
func NewLocal(h http.Handler) *Local { return &Local{handler: h} }

var _ Caller = (*Local)(nil)

// Call runs the handler as if the request had come over the network.
func (l *Local) Call(ctx context.Context, r *Request) (*Reply, error) {
	hr := r.Of.Clone(ctx)
	hr.Method, hr.Body, hr.ContentLength, hr.Form, hr.PostForm = http.MethodGet, http.NoBody, 0, nil, nil
	hr.URL.Path, hr.URL.RawPath, hr.URL.RawQuery = r.Path, "", r.Form.Encode()
	hr.RequestURI, hr.Pattern = hr.URL.RequestURI(), ""
	for _, name := range []string{"Content-Type", "Content-Length", "Accept-Encoding"} {
		hr.Header.Del(name)
	}
	for name, values := range r.Header {
		hr.Header[name] = values
	}
	w := &recorder{header: http.Header{}, body: buffer{room: r.Room}}
	l.handler.ServeHTTP(w, hr)
	if w.err != nil {
		return nil, fmt.Errorf("call %s: %w", r.Path, w.err)
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return &Reply{Code: max(w.code, http.StatusOK), Header: w.header, Body: w.body.b.Bytes()}, nil
}

// recorder takes an answer in.
type recorder struct {
	header http.Header
	code   int
	body   buffer
	err    error
}

func (w *recorder) Header() http.Header { return w.header }

func (w *recorder) WriteHeader(code int) {
	if w.code == 0 && code >= http.StatusOK {
		w.code = code
	}
}

func (w *recorder) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	n, err := w.body.Write(p)
	if err != nil && w.err == nil {
		w.err = err
	}
	return n, err
}
