package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/promapi"
	"github.com/promontory-io/promontory/libs/service/requestctx"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/libs/tenancy"
)

// request is what endpoints know of a call.
type request struct {
	promapi.Form
	http   *http.Request
	now    time.Time
	tenant string
	// enforce restricts the request to its tenant; nil where everybody sees everything.
	enforce *tenancy.Enforcer
	// cleanup is run after the answer was written.
	cleanup []func()
}

// after has f run when the answer has been written, for what data are made of.
func (r *request) after(f func()) { r.cleanup = append(r.cleanup, f) }

// endpoint answers one kind of call. Nil data is an answer without content.
type endpoint func(ctx context.Context, r *request) (promapi.Data, promapi.Notes, error)

// handle does for an endpoint what all have in common.
func (a *API) handle(e endpoint) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, hr *http.Request) {
		r, err := a.read(hr)
		if err != nil {
			a.fail(w, hr, err)
			return
		}
		defer func() {
			for _, f := range r.cleanup {
				f()
			}
		}()
		ctx := requestctx.WithTenant(hr.Context(), r.tenant)
		if a.cfg.Timeout > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, a.cfg.Timeout)
			defer cancel()
		}
		data, notes, err := e(ctx, r)
		if err != nil {
			a.fail(w, hr, err)
			return
		}
		if err := promapi.Respond(w, data, notes); err != nil {
			a.logger.Warn("write answer", zap.String("path", hr.URL.Path), zap.Error(err))
		}
	})
}

// read finds out whose request it is and what its parameters are.
func (a *API) read(hr *http.Request) (*request, error) {
	tenant, err := a.cfg.Tenancy.Source.Tenant(hr)
	if err != nil {
		return nil, promapi.NewError(promapi.ErrorBadData, err)
	}
	r := &request{http: hr, now: a.deps.Now(), tenant: tenant}
	if a.cfg.Tenancy.Enforce {
		if r.enforce, err = tenancy.NewEnforcer(a.cfg.Tenancy.Label, tenant); err != nil {
			return nil, promapi.NewError(promapi.ErrorBadData, err)
		}
	}
	r.Form, err = promapi.ParseForm(hr)
	return r, err
}

func (a *API) fail(w http.ResponseWriter, hr *http.Request, err error) {
	if errors.Is(err, storeapi.ErrInvalid) && promapi.AsError(err).Type == promapi.ErrorExecution {
		// Only what the request says can be invalid.
		err = promapi.NewError(promapi.ErrorBadData, err)
	}
	if werr := promapi.RespondError(w, err); werr != nil {
		a.logger.Debug("write error", zap.String("path", hr.URL.Path), zap.NamedError("answer", err), zap.Error(werr))
	}
}

// asInternal is for failures of calls that are no queries: unless err is the caller's own doing or a deadline, a
// peer, and not the request, is at fault.
func asInternal(what string, err error) error {
	if err == nil {
		return nil
	}
	err = fmt.Errorf("%s: %w", what, err)
	if !errors.Is(err, storeapi.ErrInvalid) && promapi.AsError(err).Type == promapi.ErrorExecution {
		return promapi.NewError(promapi.ErrorInternal, err)
	}
	return err
}
