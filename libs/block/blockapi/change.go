package blockapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/oklog/ulid/v2"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/promapi"
)

// The actions of Mark. The first two are those of other block viewers.
const (
	ActionDelete          = "DELETION"
	ActionNoCompact       = "NO_COMPACTION"
	ActionNoDownsample    = "NO_DOWNSAMPLING"
	ActionKeep            = "REMOVE_DELETION"
	ActionAllowCompact    = "REMOVE_NO_COMPACTION"
	ActionAllowDownsample = "REMOVE_NO_DOWNSAMPLING"
)

// Guard refuses requests that a browser sends on behalf of another site's page, which must not be able to change the bucket with
// the user's own rights. Programs send none of the headers that this looks at.
func Guard(h http.Handler) http.Handler { return http.NewCrossOriginProtection().Handler(h) }

// action changes a mark of a block.
type action func(ctx context.Context, id ulid.ULID, detail string) error

func (a *API) actions() map[string]action {
	remove := func(name string) action {
		return func(ctx context.Context, id ulid.ULID, _ string) error {
			return block.RemoveMark(ctx, a.cfg.Logger, a.cfg.Bucket, id, name)
		}
	}
	return map[string]action{
		ActionDelete: func(ctx context.Context, id ulid.ULID, detail string) error {
			_, err := block.MarkForDeletion(ctx, a.cfg.Logger, a.cfg.Bucket, id, detail, a.now())
			return err
		},
		ActionNoCompact: func(ctx context.Context, id ulid.ULID, detail string) error {
			_, err := block.MarkNoCompact(ctx, a.cfg.Logger, a.cfg.Bucket, id, block.ReasonManual, detail, a.now())
			return err
		},
		ActionNoDownsample: func(ctx context.Context, id ulid.ULID, detail string) error {
			_, err := block.MarkNoDownsample(ctx, a.cfg.Logger, a.cfg.Bucket, id, block.ReasonManual, detail, a.now())
			return err
		},
		ActionKeep:            a.keep,
		ActionAllowCompact:    remove(block.NoCompactMarkFilename),
		ActionAllowDownsample: remove(block.NoDownsampleMarkFilename),
	}
}

// Mark sets a mark or takes one off: the form values id, action and detail say which and why. To be put behind [Guard].
func (a *API) Mark(r *http.Request) (promapi.Data, error) {
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
		var known *promapi.Error
		switch {
		case errors.As(err, &known):
			return nil, err
		case errors.Is(err, block.ErrMarkNotFound):
			return nil, promapi.BadData("%w", err)
		}
		return nil, promapi.NewError(promapi.ErrorInternal, err)
	}
	a.cfg.Logger.Info("mark changed on request", zap.Stringer("block", id), zap.String("action", r.FormValue("action")),
		zap.String("detail", r.FormValue("detail")), zap.String("remote", r.RemoteAddr))
	if _, err := a.cfg.ReadMarks(r.Context(), id); err != nil {
		// The mark is set; pages see it with the next look at the bucket.
		a.cfg.Logger.Warn("read marks again", zap.Stringer("block", id), zap.Error(err))
	}
	return nil, nil
}

// mustBeThere refuses marks for blocks of which the bucket has nothing: a lone mark would look like the rest of a block.
func (a *API) mustBeThere(ctx context.Context, id ulid.ULID) error {
	whole, err := block.Exists(ctx, a.cfg.Bucket, id)
	partial := false
	if err == nil && !whole {
		partial, err = block.IsPartial(ctx, a.cfg.Bucket, id)
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
	whole, err := block.Exists(ctx, a.cfg.Bucket, id)
	if err != nil {
		return err
	}
	if !whole {
		return promapi.BadData("block %s is being deleted already", id)
	}
	if err := block.RemoveMark(ctx, a.cfg.Logger, a.cfg.Bucket, id, block.DeletionMarkFilename); err != nil {
		return fmt.Errorf("keep block %s: %w", id, err)
	}
	return nil
}
