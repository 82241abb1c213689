// Package api is the HTTP surface of the compactor: the block viewer's calls, with marks to
// be set and taken off, and what the compactor is doing and will do.
//
//	GET  /api/v1/blocks?view=global|loaded   all blocks of the bucket, or those worked with
//	POST /api/v1/blocks/mark                 id, action, detail
//	GET  /api/v1/bucket/blocks/{id}          one block: meta.json as it lies there, marks, objects
//	GET  /api/v1/bucket/blocks/{id}/cardinality  its largest metrics and labels
//	GET  /api/v1/compactor/status            running, set aside, resting, events
//	GET  /api/v1/compactor/plan[?format=text] what will be done, in order
//	GET  /api/v1/compactor/retention         what is kept for how long
//	GET  /api/v1/status/{flags,buildinfo,runtimeinfo}
package api

import (
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/thanos-io/objstore"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/blockapi"
	"github.com/promontory-io/promontory/libs/promapi"
	"github.com/promontory-io/promontory/libs/promapi/procstatus"
	"github.com/promontory-io/promontory/services/compactor/internal/retention"
	"github.com/promontory-io/promontory/services/compactor/internal/run"
)

// Config is how the API behaves.
type Config struct {
	// Label is the external label that pages group blocks by.
	Label string
	// DisableAdmin refuses marks.
	DisableAdmin bool
	// Retention is what is kept for how long; DeleteDelay how long what is marked stays.
	Retention   retention.Rules
	DeleteDelay time.Duration
	// ReplicaLabels are left out of the labels of blocks before they are grouped.
	ReplicaLabels []string
	// Flags are shown under status/flags.
	Flags map[string]string
}

// API answers requests. Safe for concurrent use.
type API struct {
	cfg    Config
	logger *zap.Logger
	runner *run.Runner
	one    *blockapi.API

	mu     sync.Mutex // guards global
	global Blocks
}

// Blocks is the answer to /api/v1/blocks.
type Blocks struct {
	Label  string        `json:"label"`
	Blocks []*block.Meta `json:"blocks"`
	// Marked are the marks of blocks, by ULID; the loaded view has none.
	Marked      map[ulid.ULID]blockapi.Marks `json:"marked,omitempty"`
	RefreshedAt time.Time                    `json:"refreshedAt"`
	Err         *string                      `json:"err"`
}

// New returns an API over what r does in bkt.
func New(cfg Config, logger *zap.Logger, bkt objstore.Bucket, r *run.Runner) *API {
	one := blockapi.New(blockapi.Config{DisableAdmin: cfg.DisableAdmin, Bucket: bkt, Logger: logger})
	return &API{cfg: cfg, logger: logger.Named("api"), runner: r, one: one, global: Blocks{Blocks: []*block.Meta{}}}
}

// SetGlobal sets what the global view shows: all blocks of the bucket and their marks, or the error of the
// attempt to list them, in which case the former blocks stay.
func (a *API) SetGlobal(metas []*block.Meta, marks map[ulid.ULID]blockapi.Marks, now time.Time, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.global.RefreshedAt = now
	if err != nil {
		text := err.Error()
		a.global.Err = &text
		return
	}
	a.global.Blocks, a.global.Marked, a.global.Err = sorted(metas), marks, nil
}

func sorted(metas []*block.Meta) []*block.Meta {
	out := slices.Clone(metas)
	if out == nil {
		out = []*block.Meta{}
	}
	slices.SortFunc(out, func(x, y *block.Meta) int {
		if x.MinTime != y.MinTime {
			if x.MinTime < y.MinTime {
				return -1
			}
			return 1
		}
		return x.ULID.Compare(y.ULID)
	})
	return out
}

// Handler returns the routes. wrap gives each handler, by name, what all handlers get.
func (a *API) Handler(wrap func(name string, h http.Handler) http.Handler) http.Handler {
	mux := http.NewServeMux()
	answer := func(f func(r *http.Request) (promapi.Data, error)) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			data, err := f(r)
			if err != nil {
				err = promapi.RespondError(w, err)
			} else {
				err = promapi.Respond(w, data, promapi.Notes{})
			}
			if err != nil {
				a.logger.Debug("response not sent", zap.Error(err))
			}
		})
	}
	handle := func(pattern, name string, f func(r *http.Request) (promapi.Data, error)) {
		mux.Handle(pattern, wrap(name, answer(f)))
	}
	handle("GET /api/v1/blocks", "blocks", a.blocks)
	mux.Handle("POST /api/v1/blocks/mark", wrap("blocks_mark", blockapi.Guard(answer(a.one.Mark))))
	handle("GET /api/v1/bucket/blocks/{id}", "bucket_block", a.one.Block)
	handle("GET /api/v1/bucket/blocks/{id}/cardinality", "bucket_cardinality", a.one.Cardinality)
	handle("GET /api/v1/compactor/status", "compactor_status", a.status)
	procstatus.Handle(mux, a.cfg.Flags, wrap, a.logger)
	handle("GET /api/v1/compactor/retention", "compactor_retention", a.retention)
	mux.Handle("GET /api/v1/compactor/plan", wrap("compactor_plan", http.HandlerFunc(a.plan)))
	return mux
}

func (a *API) blocks(r *http.Request) (promapi.Data, error) {
	if r.FormValue("view") != "loaded" {
		a.mu.Lock()
		defer a.mu.Unlock()
		out := a.global
		out.Label = a.cfg.Label
		return promapi.JSON{Value: out}, nil
	}
	s := a.runner.Snapshot()
	out := Blocks{Label: a.cfg.Label, Blocks: sorted(s.Metas), RefreshedAt: s.Synced}
	if s.Err != nil {
		text := s.Err.Error()
		out.Err = &text
	}
	return promapi.JSON{Value: out}, nil
}

// Status is the answer to /api/v1/compactor/status.
type Status struct {
	Synced  time.Time     `json:"synced"`
	Err     string        `json:"err,omitempty"`
	Blocks  int           `json:"blocks"`
	Running []run.Running `json:"running"`
	// Quarantined are blocks that are left out of the work, and why.
	Quarantined []run.Aside   `json:"quarantined"`
	Resting     []run.Resting `json:"resting"`
	Events      []run.Event   `json:"events"`
}

func (a *API) status(*http.Request) (promapi.Data, error) {
	s := a.runner.Snapshot()
	out := Status{
		Synced: s.Synced, Blocks: len(s.Metas), Running: list(s.Running), Quarantined: list(s.Aside),
		Resting: list(s.Resting), Events: list(s.Events),
	}
	if s.Err != nil {
		out.Err = s.Err.Error()
	}
	return promapi.JSON{Value: out}, nil
}

// list makes an empty list of none, as readers of JSON want it.
func list[T any](in []T) []T {
	if in == nil {
		return []T{}
	}
	return in
}

func (a *API) plan(w http.ResponseWriter, r *http.Request) {
	o, err := a.runner.Outlook(r.Context())
	switch {
	case err != nil:
		err = promapi.RespondError(w, promapi.NewError(promapi.ErrorInternal, err))
	case r.FormValue("format") == "text":
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		err = o.Print(w)
	default:
		err = promapi.Respond(w, promapi.JSON{Value: NewPlan(o)}, promapi.Notes{})
	}
	if err != nil {
		a.logger.Debug("response not sent", zap.Error(err))
	}
}
