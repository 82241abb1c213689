package api

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"sync"

	"github.com/promontory-io/promontory/services/receiver/internal/remotewrite"
)

// Receive answers POST /api/v1/receive: remote write 1.0 and 2.0.
func (a *API) Receive() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.metrics.pending.Inc()
		defer a.metrics.pending.Dec()
		req, release, err := a.admit(r)
		if err != nil {
			a.refuse(w, r, req, err)
			return
		}
		if err := a.decode(r, req); err != nil {
			release()
			a.refuse(w, r, req, err)
			return
		}
		a.write(w, r, req, release)
	})
}

// admit finds out whose request it is and takes its share of what all requests may use. release
// gives all back; it may be called more than once, and after everything that uses the request.
func (a *API) admit(r *http.Request) (req *request, release func(), err error) {
	req = &request{version: remotewrite.V1}
	if !a.deps.Ready() {
		return req, nil, errNotReady
	}
	if req.tenant, err = a.cfg.Tenant.Tenant(r); err != nil {
		return req, nil, err
	}
	if req.replica, err = a.replicaOf(r.Header); err != nil {
		return req, nil, err
	}
	if err := a.deps.Limits.HeadSeries(req.tenant); err != nil {
		return req, nil, err
	}
	if r.ContentLength > 0 {
		if err := a.deps.Limits.Size(req.tenant, r.ContentLength); err != nil {
			return req, nil, err
		}
	}
	leave, err := a.deps.Limits.Enter(r.Context())
	if err != nil {
		return req, nil, err
	}
	// What is sent compressed takes a few times as much, and once more on its way to others.
	size := r.ContentLength
	if size < 0 {
		size = a.cfg.MaxBody / 4
	}
	if req.held, err = a.hold(r.Context(), size*8); err != nil {
		leave()
		return req, nil, err
	}
	req.scratch = a.scratch.Get().(*scratch)
	return req, sync.OnceFunc(func() {
		a.free(req.scratch)
		a.bytes.Release(req.held)
		leave()
	}), nil
}

// decode reads the body into the request's series.
func (a *API) decode(r *http.Request, req *request) (err error) {
	if req.version, err = remotewrite.Negotiate(r.Header); err != nil {
		req.version = remotewrite.V1
		return err
	}
	s := req.scratch
	if s.compressed, s.decoded, err = remotewrite.Body(r.Body, r.ContentLength, a.cfg.MaxBody, s.compressed, s.decoded[:cap(s.decoded)]); err != nil {
		return err
	}
	if err := a.deps.Limits.Size(req.tenant, int64(len(s.compressed))); err != nil {
		return err
	}
	if req.version == remotewrite.V2 {
		return s.req.DecodeV2(s.decoded)
	}
	return s.req.DecodeV1(s.decoded)
}

// write brings the series to their owners and answers. release is called when nobody needs them any more.
func (a *API) write(w http.ResponseWriter, r *http.Request, req *request, release func()) {
	dec := &req.scratch.req
	floats, histograms, exemplars := dec.Totals()
	total := written{floats, histograms, exemplars}
	// The series are counted before they are given away.
	series := len(dec.Series) + len(dec.Bad)
	observe := func(code int) {
		label := strconv.Itoa(code)
		a.metrics.series.WithLabelValues(label, req.tenant).Observe(float64(series))
		a.metrics.samples.WithLabelValues(label, req.tenant).Observe(float64(floats + histograms))
	}
	if err := a.deps.Limits.Content(req.tenant, int64(series), int64(floats+histograms)); err != nil {
		release()
		observe(a.refuse(w, r, req, err))
		return
	}
	parts, failures := a.prepare(req)
	if len(parts) == 0 {
		release()
		observe(a.answer(w, req, total, failures))
		return
	}
	more, err := a.deps.Writer.Write(r.Context(), parts, req.replica, release)
	if err != nil {
		observe(a.refuse(w, r, req, err))
		return
	}
	observe(a.answer(w, req, total, append(failures, more...)))
}

// cancelled reports whether nobody waits for the answer any more.
func cancelled(r *http.Request, err error) bool {
	return r.Context().Err() != nil && errors.Is(err, context.Canceled)
}
