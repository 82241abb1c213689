// Package blockapi is the HTTP calls about single blocks that all programs share whose pages show a bucket: what is known of a
// block, its largest metrics and labels, and its marks, which can be set and taken off.
//
// A block is always read from the bucket at the time of the call: what pages list may be old, and whoever looks at one block
// wants to know how it is now.
package blockapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/thanos-io/objstore"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/cardinality"
	"github.com/promontory-io/promontory/libs/promapi"
)

// Config is what the calls work with.
type Config struct {
	// DisableAdmin refuses to change marks.
	DisableAdmin bool
	Bucket       objstore.Bucket
	Logger       *zap.Logger
	// ReadMarks reads the marks of a block; nil reads them from the bucket. A program that keeps marks enters them there.
	ReadMarks func(ctx context.Context, id ulid.ULID) (Marks, error)
}

// API answers requests. Safe for concurrent use.
type API struct {
	cfg Config
	now func() time.Time
}

// New returns an API.
func New(cfg Config) *API {
	cfg.Logger = cfg.Logger.Named("blockapi")
	if cfg.ReadMarks == nil {
		cfg.ReadMarks = func(ctx context.Context, id ulid.ULID) (Marks, error) { return ReadMarks(ctx, cfg.Bucket, id) }
	}
	return &API{cfg: cfg, now: time.Now}
}

// details is what is known of one block.
type details struct {
	// Meta is meta.json as it lies in the bucket; null where there is none, and then MetaError says why.
	Meta      json.RawMessage `json:"meta"`
	MetaError string          `json:"metaError,omitempty"`
	Marks     Marks           `json:"marks"`
	Objects   []object        `json:"objects"`
}

// object is one object of a block, by its name within the block.
type object struct {
	Name     string     `json:"name"`
	Bytes    int64      `json:"bytes"`
	Modified *time.Time `json:"modified,omitempty"`
	// Error says why its size is not known.
	Error string `json:"error,omitempty"`
}

// maxObjects bounds what is asked for about one block; what is beyond is named without its size.
const maxObjects = 200

func blockID(r *http.Request) (ulid.ULID, error) {
	id, err := ulid.ParseStrict(r.PathValue("id"))
	if err != nil {
		return id, promapi.BadData("ULID %q is not valid: %w", r.PathValue("id"), err)
	}
	return id, nil
}

// Block answers what is known of the block that the path value id names: meta.json as it lies there, marks, objects.
func (a *API) Block(r *http.Request) (promapi.Data, error) {
	id, err := blockID(r)
	if err != nil {
		return nil, err
	}
	out := details{Objects: []object{}}
	_, text, err := block.FetchMetaRaw(r.Context(), a.cfg.Bucket, id)
	switch {
	case err == nil:
		out.Meta = text
	case errors.Is(err, block.ErrMetaNotFound), errors.Is(err, block.ErrMetaCorrupt):
		out.MetaError = err.Error()
	default:
		return nil, promapi.NewError(promapi.ErrorInternal, err)
	}
	if out.Objects, err = a.objects(r, id); err != nil {
		return nil, promapi.NewError(promapi.ErrorInternal, err)
	}
	if out.Meta == nil && len(out.Objects) == 0 {
		return nil, promapi.BadData("there is no block %s", id)
	}
	if out.Marks, err = a.cfg.ReadMarks(r.Context(), id); err != nil {
		return nil, promapi.NewError(promapi.ErrorInternal, err)
	}
	return promapi.JSON{Value: out}, nil
}

func (a *API) objects(r *http.Request, id ulid.ULID) ([]object, error) {
	out := []object{}
	folder := id.String() + objstore.DirDelim
	err := a.cfg.Bucket.Iter(r.Context(), folder, func(name string) error {
		out = append(out, object{Name: strings.TrimPrefix(name, folder)})
		return nil
	}, objstore.WithRecursiveIter())
	if err != nil {
		return nil, fmt.Errorf("list block %s: %w", id, err)
	}
	slices.SortFunc(out, func(x, y object) int { return strings.Compare(x.Name, y.Name) })
	for i := range out[:min(len(out), maxObjects)] {
		attrs, err := a.cfg.Bucket.Attributes(r.Context(), folder+out[i].Name)
		if err != nil {
			out[i].Error = err.Error()
			continue
		}
		out[i].Bytes = attrs.Size
		if !attrs.LastModified.IsZero() {
			out[i].Modified = &attrs.LastModified
		}
	}
	return out, nil
}

const (
	defaultFigures = 20
	maxFigures     = 1000
)

// Cardinality answers with the largest metrics and labels of the block that the path value id names; limit says how many.
func (a *API) Cardinality(r *http.Request) (promapi.Data, error) {
	id, err := blockID(r)
	if err != nil {
		return nil, err
	}
	limit := defaultFigures
	if text := r.FormValue("limit"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > maxFigures {
			return nil, promapi.BadData("limit must be a number from 1 to %d, it is %q", maxFigures, text)
		}
	}
	report, err := cardinality.Read(r.Context(), a.cfg.Bucket, id, limit)
	if err != nil {
		if a.cfg.Bucket.IsObjNotFoundErr(errors.Unwrap(err)) {
			return nil, promapi.BadData("block %s has no index: %w", id, err)
		}
		return nil, promapi.NewError(promapi.ErrorInternal, err)
	}
	return promapi.JSON{Value: report}, nil
}
