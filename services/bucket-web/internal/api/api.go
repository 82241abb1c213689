// Package api is the HTTP surface of bucket-web: the block viewer's calls that Thanos' pages know, and what our own
// pages need besides.
//
//	GET  /api/v1/blocks                          all blocks, each with its whole meta.json
//	POST /api/v1/blocks/mark                     id, action, detail
//	GET  /api/v1/bucket/overview                 all blocks as rows of figures, with marks
//	GET  /api/v1/bucket/blocks/{id}              one block: meta.json as it lies there, marks, objects
//	GET  /api/v1/bucket/blocks/{id}/cardinality  its largest metrics and labels
//	POST /api/v1/bucket/refresh                  look at the bucket now
//	GET  /api/v1/compactor/{status,plan,retention}  what the compactor says, where its address is known
//	GET  /api/v1/status/{flags,buildinfo,runtimeinfo}
package api

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/thanos-io/objstore"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/blockapi"
	"github.com/promontory-io/promontory/libs/promapi"
	"github.com/promontory-io/promontory/libs/promapi/procstatus"
	"github.com/promontory-io/promontory/services/bucket-web/internal/view"
)

// Config is how the API behaves.
type Config struct {
	// Label is the external label that pages group blocks by.
	Label string
	// DisableAdmin refuses marks.
	DisableAdmin bool
	// Compactor is where the compactor's API is; nil if that is not known.
	Compactor *url.URL
	// Timeout bounds what one request asks of the bucket.
	Timeout time.Duration
	// Flags are shown under status/flags.
	Flags map[string]string
	// CORS is put around calls that change nothing; nil puts nothing.
	CORS func(http.Handler) http.Handler
}

// API answers requests. Safe for concurrent use.
type API struct {
	cfg    Config
	logger *zap.Logger
	view   *view.View
	one    *blockapi.API
	client *http.Client
	start  time.Time
	kept   overviews
}

// New returns an API over what v knows of bkt.
func New(cfg Config, logger *zap.Logger, bkt objstore.Bucket, v *view.View) *API {
	if cfg.CORS == nil {
		cfg.CORS = func(h http.Handler) http.Handler { return h }
	}
	one := blockapi.New(blockapi.Config{DisableAdmin: cfg.DisableAdmin, Bucket: bkt, Logger: logger, ReadMarks: v.ReadMarks})
	return &API{cfg: cfg, logger: logger.Named("api"), view: v, one: one, client: &http.Client{Timeout: compactorTimeout}, start: time.Now()}
}

// Handler returns the routes. wrap gives each handler, by name, what all handlers get.
func (a *API) Handler(wrap func(name string, h http.Handler) http.Handler) http.Handler {
	mux := http.NewServeMux()
	get := func(path, name string, f func(r *http.Request) (promapi.Data, error)) {
		mux.Handle("GET /api/v1/"+path, wrap(name, a.cfg.CORS(a.handle(f))))
	}
	post := func(path, name string, f func(r *http.Request) (promapi.Data, error)) {
		mux.Handle("POST /api/v1/"+path, wrap(name, blockapi.Guard(a.handle(f))))
	}
	get("blocks", "blocks", a.blocks)
	post("blocks/mark", "blocks_mark", a.one.Mark)
	mux.Handle("GET /api/v1/bucket/overview", wrap("bucket_overview", a.cfg.CORS(http.HandlerFunc(a.overview))))
	get("bucket/blocks/{id}", "bucket_block", a.one.Block)
	get("bucket/blocks/{id}/cardinality", "bucket_cardinality", a.one.Cardinality)
	post("bucket/refresh", "bucket_refresh", func(*http.Request) (promapi.Data, error) {
		a.view.Wake()
		return nil, nil
	})
	get("compactor/status", "compactor_status", a.compactor("status"))
	get("compactor/plan", "compactor_plan", a.compactor("plan"))
	procstatus.Handle(mux, a.cfg.Flags, func(name string, h http.Handler) http.Handler { return wrap(name, a.cfg.CORS(h)) }, a.logger)
	get("compactor/retention", "compactor_retention", a.compactor("retention"))
	options := wrap("options", a.cfg.CORS(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNoContent)
	})))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Any path is fine for OPTIONS. Were it a route, unknown paths would be "method not allowed", not "not found".
		if r.Method == http.MethodOptions && strings.HasPrefix(r.URL.Path, "/api/v1/") {
			options.ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func (a *API) handle(f func(r *http.Request) (promapi.Data, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		if a.cfg.Timeout > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, a.cfg.Timeout)
			defer cancel()
		}
		data, err := f(r.WithContext(ctx))
		if err != nil {
			err = promapi.RespondError(w, err)
		} else {
			err = promapi.Respond(w, data, promapi.Notes{})
		}
		if err != nil {
			a.logger.Debug("write answer", zap.String("path", r.URL.Path), zap.Error(err))
		}
	})
}

// blocks is the answer to /api/v1/blocks.
type blocks struct {
	Label       string        `json:"label"`
	Blocks      []*block.Meta `json:"blocks"`
	RefreshedAt time.Time     `json:"refreshedAt"`
	Err         *string       `json:"err"`
}

func (a *API) blocks(*http.Request) (promapi.Data, error) {
	s := a.view.State()
	out := blocks{Label: a.cfg.Label, Blocks: s.Blocks, RefreshedAt: s.Refreshed}
	if out.Blocks == nil {
		out.Blocks = []*block.Meta{}
	}
	if s.Err != nil {
		text := s.Err.Error()
		out.Err = &text
	}
	return promapi.JSON{Value: out}, nil
}
