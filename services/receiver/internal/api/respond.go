package api

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/tenancy"
	"github.com/promontory-io/promontory/services/receiver/internal/forward"
	"github.com/promontory-io/promontory/services/receiver/internal/limits"
	"github.com/promontory-io/promontory/services/receiver/internal/remotewrite"
	"github.com/promontory-io/promontory/services/receiver/internal/tenants"
	"github.com/promontory-io/promontory/services/receiver/internal/verdict"
)

var errNotReady = errors.New("not ready: the process is starting or stopping")

// Headers of 2.0 that say how much of a request was written.
const (
	headerSamples    = "X-Prometheus-Remote-Write-Samples-Written"
	headerHistograms = "X-Prometheus-Remote-Write-Histograms-Written"
	headerExemplars  = "X-Prometheus-Remote-Write-Exemplars-Written"
)

// written counts what a request holds, or what of it was kept.
type written struct{ floats, histograms, exemplars uint64 }

// less takes off what failed.
func (w written) less(fs []verdict.Failure) written {
	for i := range fs {
		w.floats -= min(w.floats, uint64(fs[i].Floats))
		w.histograms -= min(w.histograms, uint64(fs[i].Histograms))
		w.exemplars -= min(w.exemplars, uint64(fs[i].Exemplars))
	}
	return w
}

func (w written) header(h http.Header) {
	h.Set(headerSamples, strconv.FormatUint(w.floats, 10))
	h.Set(headerHistograms, strconv.FormatUint(w.histograms, 10))
	h.Set(headerExemplars, strconv.FormatUint(w.exemplars, 10))
}

// statusOfKind is the status that makes a sender do what a kind of failure asks for: to try again on
// 5xx and 429, to drop the data on any other.
func statusOfKind(k verdict.Kind) int {
	switch k {
	case verdict.OK:
		return http.StatusNoContent
	case verdict.Invalid:
		return http.StatusBadRequest
	case verdict.Conflict:
		return http.StatusConflict
	case verdict.Limit:
		return http.StatusTooManyRequests
	}
	return http.StatusServiceUnavailable
}

// statusOf is the status of an error about a whole request.
func statusOf(err error) int {
	switch {
	case errors.Is(err, remotewrite.ErrUnsupported):
		return http.StatusUnsupportedMediaType
	case errors.Is(err, remotewrite.ErrTooLarge), errors.Is(err, limits.ErrRequest):
		return http.StatusRequestEntityTooLarge
	case errors.Is(err, remotewrite.ErrMalformed), errors.Is(err, tenancy.ErrInvalid), errors.Is(err, forward.ErrBadReplica), errors.Is(err, errOTLP):
		return http.StatusBadRequest
	case errors.Is(err, limits.ErrHeadSeries):
		return http.StatusTooManyRequests
	case errors.Is(err, errNotReady), errors.Is(err, errBudget), errors.Is(err, forward.ErrNoHashring),
		errors.Is(err, tenants.ErrUnavailable), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// answer tells what became of the series.
func (a *API) answer(w http.ResponseWriter, req *request, total written, failures []verdict.Failure) int {
	e := verdict.Error{Failures: failures}
	code := statusOfKind(e.Worst())
	if req.version == remotewrite.V2 {
		total.less(failures).header(w.Header())
		if code == http.StatusConflict {
			// 2.0 has one status for all that was partly written and must not be sent again.
			code = http.StatusBadRequest
		}
	}
	if code == http.StatusNoContent {
		w.WriteHeader(code)
		return code
	}
	a.fail(w, code, e.Error())
	return code
}

// refuse answers a request of which nothing was written.
func (a *API) refuse(w http.ResponseWriter, r *http.Request, req *request, err error) int {
	code := statusOf(err)
	if req.version == remotewrite.V2 {
		written{}.header(w.Header())
	}
	if code >= http.StatusInternalServerError && !cancelled(r, err) {
		a.deps.Logger.Warn("write failed", zap.String("tenant", req.tenant), zap.Int("code", code), zap.Error(err))
	}
	a.fail(w, code, err.Error())
	return code
}

// fail writes an error. Where trying again at once cannot help, it says when.
func (*API) fail(w http.ResponseWriter, code int, text string) {
	if code == http.StatusServiceUnavailable || code == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "1")
	}
	http.Error(w, text, code)
}
