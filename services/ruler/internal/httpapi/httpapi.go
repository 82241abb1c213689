// Package httpapi is a ruler's HTTP API: rules, alerts, what was left out, and reload.
package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/prometheus/prometheus/model/labels"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/promapi"
	"github.com/promontory-io/promontory/libs/promapi/procstatus"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/libs/storeapi/rulefilter"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/services/ruler/internal/evaluate"
	"github.com/promontory-io/promontory/services/ruler/internal/gaps"
	"github.com/promontory-io/promontory/services/ruler/internal/view"
)

// Rules knows the rules; *evaluate.Evaluator is one.
type Rules interface {
	Groups() []evaluate.Group
	Gaps() []gaps.Gap
	GapsFilled(filled []gaps.Gap) int
}

// Deps is what the API works with.
type Deps struct {
	Rules    Rules
	External labels.Labels
	// Status returns what is shown of the ruler as a whole.
	Status func() any
	// Reload reads the rules again.
	Reload func(ctx context.Context) error
	// Wrap and CORS are put around handlers.
	Wrap   func(name string, h http.Handler) http.Handler
	CORS   func(h http.Handler) http.Handler
	Flags  map[string]string
	Logger *zap.Logger
}

// New returns the handler of the API.
func New(deps Deps) http.Handler {
	a := &api{deps}
	mux := http.NewServeMux()
	get := func(path, name string, e endpoint) {
		h := deps.Wrap(name, deps.CORS(a.handle(e)))
		mux.Handle("GET /api/v1/"+path, h)
		mux.Handle("OPTIONS /api/v1/"+path, deps.Wrap("options", deps.CORS(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNoContent)
		}))))
	}
	get("rules", "rules", a.rules)
	get("alerts", "alerts", a.alerts)
	get("rules/gaps", "rules_gaps", a.gaps)
	procstatus.Handle(mux, deps.Flags, func(name string, h http.Handler) http.Handler { return deps.Wrap(name, deps.CORS(h)) }, deps.Logger)
	get("status/ruler", "status_ruler", func(*http.Request) (any, error) { return deps.Status(), nil })
	mux.Handle("POST /api/v1/rules/gaps/filled", deps.Wrap("rules_gaps", a.handle(a.filled)))
	mux.Handle("POST /-/reload", deps.Wrap("reload", http.HandlerFunc(a.reload)))
	return mux
}

type api struct{ Deps }

type endpoint func(r *http.Request) (any, error)

func (a *api) handle(e endpoint) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, err := e(r)
		if err != nil {
			if errors.Is(err, storeapi.ErrInvalid) {
				err = promapi.NewError(promapi.ErrorBadData, err)
			}
			err = promapi.RespondError(w, err)
		} else {
			err = promapi.Respond(w, promapi.JSON{Value: data}, promapi.Notes{})
		}
		if err != nil {
			a.Logger.Debug("write answer", zap.String("path", r.URL.Path), zap.Error(err))
		}
	})
}

func (a *api) groups(req *thanos.RulesRequest) ([]*thanos.RuleGroup, error) {
	filter, err := rulefilter.New(req)
	if err != nil {
		return nil, err
	}
	return view.Groups(a.Rules.Groups(), a.External, filter), nil
}

func (a *api) rules(r *http.Request) (any, error) {
	form, err := promapi.ParseForm(r)
	if err != nil {
		return nil, err
	}
	q, err := form.RulesQuery(true)
	if err != nil {
		return nil, err
	}
	req := &thanos.RulesRequest{MatcherString: q.Match, RuleName: q.Names, RuleGroup: q.Groups, File: q.Files}
	switch q.Type {
	case promapi.RulesAlerting:
		req.Type = thanos.RulesRequest_ALERT
	case promapi.RulesRecording:
		req.Type = thanos.RulesRequest_RECORD
	case promapi.RulesAll:
	}
	groups, err := a.groups(req)
	if err != nil {
		return nil, err
	}
	return view.JSON(groups), nil
}

func (a *api) alerts(*http.Request) (any, error) {
	groups, err := a.groups(&thanos.RulesRequest{Type: thanos.RulesRequest_ALERT})
	if err != nil {
		return nil, err
	}
	return view.Alerts(groups), nil
}

func (a *api) gaps(*http.Request) (any, error) {
	return map[string]any{"externalLabels": a.External, "gaps": a.Rules.Gaps()}, nil
}

// maxFilledBytes bounds a list of filled gaps: as many as there can be of some thousand rules.
const maxFilledBytes = 64 << 20

// filled takes gaps that have been filled, in the form in which they are listed, and forgets them.
func (a *api) filled(r *http.Request) (any, error) {
	var body struct {
		Gaps []gaps.Gap `json:"gaps"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(nil, r.Body, maxFilledBytes)).Decode(&body); err != nil {
		return nil, storeapi.Invalidf("list of filled gaps: %v", err)
	}
	return map[string]any{"forgotten": a.Rules.GapsFilled(body.Gaps)}, nil
}

func (a *api) reload(w http.ResponseWriter, r *http.Request) {
	if err := a.Reload(r.Context()); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}
