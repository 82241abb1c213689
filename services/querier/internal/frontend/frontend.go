// Package frontend stands before a querier and speaks its API: it splits queries by time and by series, keeps answers, tries
// again, and lets tenants have their turns.
//
// It decides by package plan, joins by package answer, and keeps by package results; none of them decodes a sample. What it
// cannot take apart, because it does not understand it or because of what is asked for, goes to the querier as it came.
package frontend

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/promql/parser"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/promapi"
	"github.com/promontory-io/promontory/libs/service/requestctx"
	"github.com/promontory-io/promontory/libs/tenancy"
	"github.com/promontory-io/promontory/services/querier/internal/frontend/downstream"
	"github.com/promontory-io/promontory/services/querier/internal/frontend/fair"
	"github.com/promontory-io/promontory/services/querier/internal/frontend/plan"
	"github.com/promontory-io/promontory/services/querier/internal/frontend/results"
)

// Config is what flags say about the frontend.
type Config struct {
	Range   RangeConfig
	Labels  LabelsConfig
	Instant InstantConfig
	// VerticalShards is into how many requests a query is divided by series; below 2 it is not.
	VerticalShards int
	// SlowerThan is how long a request takes at least to be logged as slow; 0 logs none, a negative one all.
	SlowerThan time.Duration
	// ForceStats asks the querier for statistics of each query, for the log and the header Server-Timing.
	ForceStats bool
	// OrgHeaders name the organisation of a request, whose cached answers are its own; the first that is set counts.
	OrgHeaders []string
	// KeyHeaders are further headers whose values belong to the key of cached answers: those that go to the querier.
	KeyHeaders []string
	// UserHeader names who asks, for the log; empty is the user of basic authentication.
	UserHeader string
	// MaxBytes bounds the answers of the querier to one request together; 0 is without bound.
	MaxBytes int64
	// Defaults hold where requests do not say otherwise. Of them only those count that decide how a request is taken apart.
	Defaults promapi.Defaults
	// SetPartial has partial_response of each request set, to the request's or to the default of its kind.
	SetPartial bool
	// Tenancy tells whose request it is.
	Tenancy tenancy.Source
}

// RangeConfig is about range queries.
type RangeConfig struct {
	// Align rounds start and end down to multiples of the step.
	Align bool
	// Downsampled asks again, for coarser data, for the beginning of an answer that is missing.
	Downsampled bool
	Intervals   plan.Intervals
	// Tries is how often a request is tried, Parallelism how many of one query run at once.
	Tries, Parallelism int
	// MaxLength bounds the range of a query; 0 does not.
	MaxLength time.Duration
	// MaxFreshness is how old samples have to be to be kept.
	MaxFreshness time.Duration
}

// InstantConfig is about instant queries.
type InstantConfig struct{ Tries int }

// LabelsConfig is about calls for label names, label values and series.
type LabelsConfig struct {
	Interval           time.Duration
	Tries, Parallelism int
	MaxFreshness       time.Duration
	// DefaultRange is how far back calls look that do not say their start; 0 leaves it to the querier.
	DefaultRange    time.Duration
	PartialResponse bool
}

// Deps is what the frontend works with.
type Deps struct {
	// Caller answers requests of the API that the frontend takes part in, Pass all others.
	Caller downstream.Caller
	Pass   http.Handler
	// Parse reads PromQL.
	Parse func(string) (parser.Expr, error)
	// Queue gives each request of Caller its turn.
	Queue *fair.Queue
	// RangeCache and LabelsCache keep answers; nil keeps none.
	RangeCache, LabelsCache *results.Cache
	Logger                  *zap.Logger
	Registerer              prometheus.Registerer
	// Now is the clock; nil is that of the system.
	Now func() time.Time
}

// Frontend is the handler of the API. It knows no route prefix.
type Frontend struct {
	cfg     Config
	deps    Deps
	logger  *zap.Logger
	metrics *metrics
	ranged  downstream.Caller
	instant downstream.Caller
	labels  downstream.Caller
}

var _ http.Handler = (*Frontend)(nil)

// New returns the frontend.
func New(cfg Config, deps Deps) *Frontend {
	if deps.Now == nil {
		deps.Now = time.Now
	}
	f := &Frontend{cfg: cfg, deps: deps, logger: deps.Logger.Named("frontend"), metrics: newMetrics(deps.Registerer)}
	queued := downstream.Queued(deps.Caller, deps.Queue, func(r *downstream.Request) string { return r.Header.Get(tenancy.DefaultHeader) })
	retried := func(tries int) downstream.Caller {
		return downstream.Retrying(queued, tries, func(n int) { f.metrics.retries.Observe(float64(n)) })
	}
	f.ranged, f.instant, f.labels = retried(cfg.Range.Tries), retried(cfg.Instant.Tries), retried(cfg.Labels.Tries)
	return f
}

// Serves tells whether the frontend takes part in the answer to r.
func (f *Frontend) Serves(r *http.Request) bool {
	_, serve := f.route(r)
	return serve != nil
}

// The kinds of calls that the frontend takes part in, as its metrics name them.
const (
	opRange       = "query_range"
	opInstant     = "query"
	opLabelNames  = "label_names"
	opLabelValues = "label_values"
	opSeries      = "series"
)

func ops() []string { return []string{opRange, opInstant, opLabelNames, opLabelValues, opSeries} }

// ServeHTTP implements http.Handler.
func (f *Frontend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	op, serve := f.route(r)
	if serve == nil {
		f.deps.Pass.ServeHTTP(w, r)
		return
	}
	f.metrics.queries.WithLabelValues(op).Inc()
	begin := f.deps.Now()
	c := &call{op: op, http: r, begin: begin, room: downstream.NewRoom(f.cfg.MaxBytes)}
	out, err := f.serve(r.Context(), c, serve)
	code := f.respond(w, c, out, err)
	took := f.deps.Now().Sub(begin)
	f.metrics.observe(op, code, took)
	f.logSlow(c, out, err, code, took)
}

type serveFunc func(ctx context.Context, c *call) (*outcome, error)

// route tells what kind of call it is. Paths may have a prefix.
func (f *Frontend) route(r *http.Request) (op string, serve serveFunc) {
	if r.Method != http.MethodGet && r.Method != http.MethodPost {
		return "", nil
	}
	_, path, ok := strings.Cut(r.URL.Path, "/api/v1/")
	if !ok {
		return "", nil
	}
	switch path {
	case "query":
		return opInstant, f.query
	case "query_range":
		return opRange, f.queryRange
	case "labels":
		return opLabelNames, f.labelCall
	case "series":
		return opSeries, f.labelCall
	}
	name, ok := strings.CutPrefix(path, "label/")
	if name, ok2 := strings.CutSuffix(name, "/values"); ok && ok2 && name != "" && r.Method == http.MethodGet {
		return opLabelValues, f.labelCall
	}
	return "", nil
}

// call is one request of a client.
type call struct {
	op     string
	http   *http.Request
	begin  time.Time
	form   promapi.Form
	tenant string
	org    string
	room   *downstream.Room
	// start and end are of the range that the query asks for, once it is known.
	start, end time.Time
	// statsAsked tells that the client wants statistics itself.
	statsAsked bool
	// bills are kept where slow requests are logged.
	bills bills
}

func (f *Frontend) serve(ctx context.Context, c *call, serve serveFunc) (*outcome, error) {
	var err error
	if c.tenant, err = f.cfg.Tenancy.Tenant(c.http); err != nil {
		return nil, promapi.NewError(promapi.ErrorBadData, err)
	}
	if c.form, err = promapi.ParseForm(c.http); err != nil {
		return nil, err
	}
	c.org = "anonymous"
	for _, name := range f.cfg.OrgHeaders {
		if v := c.http.Header.Get(name); v != "" {
			c.org = v
			break
		}
	}
	return serve(ctx, c)
}

// request returns the call to the querier with these parameters.
func (c *call) request(form url.Values) *downstream.Request {
	header := http.Header{http.CanonicalHeaderKey(tenancy.DefaultHeader): {c.tenant}}
	if id, ok := requestctx.RequestID(c.http.Context()); ok {
		header.Set(requestctx.RequestIDHeader, id)
	}
	return &downstream.Request{Of: c.http, Path: c.http.URL.Path, Form: form, Room: c.room, Header: header}
}

// with returns the parameters of the client with others in their place.
func (c *call) with(pairs ...string) url.Values {
	form := make(url.Values, len(c.form.Values)+len(pairs)/2)
	for name, values := range c.form.Values {
		form[name] = values
	}
	for i := 0; i < len(pairs); i += 2 {
		form[pairs[i]] = []string{pairs[i+1]}
	}
	return form
}

// noStore tells whether a header forbids to keep what it comes with.
func noStore(h http.Header) bool {
	for _, v := range h.Values("Cache-Control") {
		if strings.Contains(strings.ToLower(v), "no-store") {
			return true
		}
	}
	return false
}
