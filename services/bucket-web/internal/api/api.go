// Package api is the HTTP surface of bucket-web: the block viewer's calls that Thanos' pages know, and what our own
// pages need besides.
//
//	GET  /api/v1/blocks                          all blocks, each with its whole meta.json
//	POST /api/v1/blocks/mark                     id, action, detail
//	GET  /api/v1/bucket/overview                 all blocks as rows of figures, with marks
//	GET  /api/v1/bucket/blocks/{id}              one block: meta.json as it lies there, marks, objects
//	GET  /api/v1/bucket/blocks/{id}/cardinality  its largest metrics and labels
//	POST /api/v1/bucket/refresh                  look at the bucket now
//	GET  /api/v1/compactor/{status,plan}         what the compactor says, where its address is known
//	GET  /api/v1/status/{flags,buildinfo,runtimeinfo}
package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/thanos-io/objstore"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/block"
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
	bkt    objstore.Bucket
	view   *view.View
	client *http.Client
	start  time.Time
	kept   overviews
}

// New returns an API over what v knows of bkt.
func New(cfg Config, logger *zap.Logger, bkt objstore.Bucket, v *view.View) *API {
	if cfg.CORS == nil {
		cfg.CORS = func(h http.Handler) http.Handler { return h }
	}
	return &API{cfg: cfg, logger: logger.Named("api"), bkt: bkt, view: v, client: &http.Client{Timeout: compactorTimeout}, start: time.Now()}
}

// Handler returns the routes. wrap gives each handler, by name, what all handlers get.
func (a *API) Handler(wrap func(name string, h http.Handler) http.Handler) http.Handler {
	mux := http.NewServeMux()
	get := func(path, name string, f func(r *http.Request) (promapi.Data, error)) {
		mux.Handle("GET /api/v1/"+path, wrap(name, a.cfg.CORS(a.handle(f))))
	}
	// A page of another site must not be able to send what changes the bucket with the user's own rights. Programs send none of
	// the headers that this looks at.
	guard := http.NewCrossOriginProtection()
	post := func(path, name string, f func(r *http.Request) (promapi.Data, error)) {
		mux.Handle("POST /api/v1/"+path, wrap(name, guard.Handler(a.handle(f))))
	}
	get("blocks", "blocks", a.blocks)
	post("blocks/mark", "blocks_mark", a.mark)
	mux.Handle("GET /api/v1/bucket/overview", wrap("bucket_overview", a.cfg.CORS(http.HandlerFunc(a.overview))))
	get("bucket/blocks/{id}", "bucket_block", a.block)
	get("bucket/blocks/{id}/cardinality", "bucket_cardinality", a.cardinality)
	post("bucket/refresh", "bucket_refresh", func(*http.Request) (promapi.Data, error) {
		a.view.Wake()
		return nil, nil
	})
	get("compactor/status", "compactor_status", a.compactor("status"))
	get("compactor/plan", "compactor_plan", a.compactor("plan"))
	procstatus.Handle(mux, a.cfg.Flags, func(name string, h http.Handler) http.Handler { return wrap(name, a.cfg.CORS(h)) }, a.logger)
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

// The actions of /api/v1/blocks/mark. The first two are those of other block viewers.
const (
	ActionDelete          = "DELETION"
	ActionNoCompact       = "NO_COMPACTION"
	ActionNoDownsample    = "NO_DOWNSAMPLING"
	ActionKeep            = "REMOVE_DELETION"
	ActionAllowCompact    = "REMOVE_NO_COMPACTION"
	ActionAllowDownsample = "REMOVE_NO_DOWNSAMPLING"
)

// action changes a mark of a block.
type action func(ctx context.Context, id ulid.ULID, detail string) error

func (a *API) actions() map[string]action {
	now := time.Now
	remove := func(name string) action {
		return func(ctx context.Context, id ulid.ULID, _ string) error {
			return block.RemoveMark(ctx, a.logger, a.bkt, id, name)
		}
	}
	return map[string]action{
		ActionDelete: func(ctx context.Context, id ulid.ULID, detail string) error {
			_, err := block.MarkForDeletion(ctx, a.logger, a.bkt, id, detail, now())
			return err
		},
		ActionNoCompact: func(ctx context.Context, id ulid.ULID, detail string) error {
			_, err := block.MarkNoCompact(ctx, a.logger, a.bkt, id, block.ReasonManual, detail, now())
			return err
		},
		ActionNoDownsample: func(ctx context.Context, id ulid.ULID, detail string) error {
			_, err := block.MarkNoDownsample(ctx, a.logger, a.bkt, id, block.ReasonManual, detail, now())
			return err
		},
		ActionKeep:            a.keep,
		ActionAllowCompact:    remove(block.NoCompactMarkFilename),
		ActionAllowDownsample: remove(block.NoDownsampleMarkFilename),
	}
}

func (a *API) mark(r *http.Request) (promapi.Data, error) {
	id, err := ulid.ParseStrict(r.FormValue("id"))
	if err != nil {
		return nil, promapi.BadData("ULID %q is not valid: %w", r.FormValue("id"), err)
	}
	do, ok := a.actions()[r.FormValue("action")]
	if !ok {
		return nil, promapi.BadData("not supported marker %q: use %s, %s, %s, %s, %s or %s", r.FormValue("action"),
			ActionDelete, ActionNoCompact, ActionNoDownsample, ActionKeep, ActionAllowCompact, ActionAllowDownsample)
	}
	if a.cfg.DisableAdmin {
		return nil, promapi.NewError(promapi.ErrorInternal, errors.New("admin operations are disabled (--disable-admin-operations)"))
	}
	if err := a.mustBeThere(r.Context(), id); err != nil {
		return nil, err
	}
	if err := do(r.Context(), id, r.FormValue("detail")); err != nil {
		if errors.Is(err, block.ErrMarkNotFound) {
			return nil, promapi.BadData("%w", err)
		}
		return nil, promapi.NewError(promapi.ErrorInternal, err)
	}
	a.logger.Info("mark changed on request", zap.Stringer("block", id), zap.String("action", r.FormValue("action")),
		zap.String("detail", r.FormValue("detail")), zap.String("remote", r.RemoteAddr))
	if _, err := a.view.ReadMarks(r.Context(), id); err != nil {
		// The mark is set; the page sees it with the next look.
		a.logger.Warn("read marks again", zap.Stringer("block", id), zap.Error(err))
	}
	return nil, nil
}

// mustBeThere refuses marks for blocks of which the bucket has nothing: a lone mark would look like the rest of a block.
func (a *API) mustBeThere(ctx context.Context, id ulid.ULID) error {
	whole, err := block.Exists(ctx, a.bkt, id)
	partial := false
	if err == nil && !whole {
		partial, err = block.IsPartial(ctx, a.bkt, id)
	}
	if err != nil {
		return promapi.NewError(promapi.ErrorInternal, err)
	}
	if !whole && !partial {
		return promapi.BadData("there is no block %s", id)
	}
	return nil
}

// keep takes a deletion mark off a block that is still whole. Where meta.json has gone the deletion has begun, and
// without its mark the rest would pass for an upload under way.
func (a *API) keep(ctx context.Context, id ulid.ULID, _ string) error {
	whole, err := block.Exists(ctx, a.bkt, id)
	if err != nil {
		return err
	}
	if !whole {
		return promapi.BadData("block %s is being deleted already", id)
	}
	if err := block.RemoveMark(ctx, a.logger, a.bkt, id, block.DeletionMarkFilename); err != nil {
		return fmt.Errorf("keep block %s: %w", id, err)
	}
	return nil
}
