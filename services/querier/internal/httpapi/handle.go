package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/promapi"
	"github.com/promontory-io/promontory/libs/promapi/promtypes"
	"github.com/promontory-io/promontory/libs/service/requestctx"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/libs/tenancy"
	"github.com/promontory-io/promontory/services/querier/internal/active"
	"github.com/promontory-io/promontory/services/querier/internal/receipt"
	"github.com/promontory-io/promontory/services/querier/internal/slowlog"
)

// request is what endpoints know of a call.
type request struct {
	promapi.Form
	http   *http.Request
	now    time.Time
	tenant string
	// enforce restricts the request to its tenant; nil where everybody sees everything.
	enforce *tenancy.Enforcer
	// active is the query among those that run, nil for calls that are not listed.
	active *active.Query
	// calls are those to stores and other peers that the answer was made of.
	calls *receipt.Stats
	// wantsReceipt asks for their account in the answer.
	wantsReceipt bool
	// gatewayStats asks stores to tell what their part cost them.
	gatewayStats bool
	// arrived is when the request came, queued how long its query waited for its turn.
	arrived time.Time
	queued  time.Duration
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
		data, notes, err := e(receipt.With(ctx, r.calls), r)
		bill := a.bill(hr, r, err)
		if err != nil {
			a.failWith(w, hr, err, bill)
			return
		}
		notes.Receipt = bill
		if err := promapi.Respond(w, data, notes); err != nil {
			a.logger.Warn("write answer", zap.String("path", hr.URL.Path), zap.Error(err))
		}
	})
}

// bill makes the receipt of a request, for the log if it was slow, and returns it if the answer shall carry it.
func (a *API) bill(hr *http.Request, r *request, err error) *promtypes.Receipt {
	if !r.wantsReceipt && !a.cfg.Slow.Enabled() {
		return nil
	}
	took := time.Since(r.arrived)
	out := receipt.JSON(r.calls.All(), r.queued, took-r.queued)
	query := r.Get("query")
	if query == "" {
		query = strings.Join(r.Values["match[]"], ", ")
	}
	start := r.Get("start")
	if start == "" {
		start = r.Get("time")
	}
	id, _ := requestctx.RequestID(hr.Context())
	a.cfg.Slow.Observe(slowlog.Entry{
		Path: hr.URL.Path, Tenant: r.tenant, Query: query, Start: start, End: r.Get("end"), Step: r.Get("step"),
		RequestID: id, Took: took, Err: err, Receipt: &out,
	})
	if !r.wantsReceipt {
		return nil
	}
	return &out
}

// read finds out whose request it is and what its parameters are.
func (a *API) read(hr *http.Request) (*request, error) {
	tenant, err := a.cfg.Tenancy.Source.Tenant(hr)
	if err != nil {
		return nil, promapi.NewError(promapi.ErrorBadData, err)
	}
	r := &request{http: hr, now: a.deps.Now(), tenant: tenant, arrived: time.Now(), calls: &receipt.Stats{}}
	if a.cfg.Tenancy.Enforce {
		if r.enforce, err = tenancy.NewEnforcer(a.cfg.Tenancy.Label, tenant); err != nil {
			return nil, promapi.NewError(promapi.ErrorBadData, err)
		}
	}
	if r.Form, err = promapi.ParseForm(hr); err != nil {
		return nil, err
	}
	if r.wantsReceipt, err = r.Bool("receipt", false); err != nil {
		return nil, err
	}
	r.gatewayStats = r.wantsReceipt || a.cfg.Slow.Enabled()
	return r, nil
}

func (a *API) fail(w http.ResponseWriter, hr *http.Request, err error) { a.failWith(w, hr, err, nil) }

func (a *API) failWith(w http.ResponseWriter, hr *http.Request, err error, bill *promtypes.Receipt) {
	if errors.Is(err, storeapi.ErrInvalid) && promapi.AsError(err).Type == promapi.ErrorExecution {
		// Only what the request says can be invalid.
		err = promapi.NewError(promapi.ErrorBadData, err)
	}
	if werr := promapi.RespondFailure(w, err, bill); werr != nil {
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
