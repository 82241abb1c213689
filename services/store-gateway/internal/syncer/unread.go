package syncer

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/fetch"
	"github.com/promontory-io/promontory/services/store-gateway/internal/rangeread"
	"github.com/promontory-io/promontory/services/store-gateway/internal/store"
)

// setAsideUnread sets blocks aside whose metadata could not be read, or not be
// understood. A block without any is being uploaded or deleted and no trouble.
func (s *Syncer) setAsideUnread(ctx context.Context, res *fetch.Result, before map[ulid.ULID]asideBlock) {
	for id, err := range res.Failed {
		if _, ok := res.Metas[id]; !ok && s.blocks[id] == nil {
			s.aside[id] = asideBlock{passing: true, Aside: store.Aside{ID: id.String(), Reason: err}}
		}
	}
	for id, err := range res.Partial {
		if _, ok := res.Metas[id]; ok || !errors.Is(err, block.ErrMetaCorrupt) {
			continue
		}
		// Metadata does not change: what was found out about it stays.
		if old, ok := before[id]; ok && !old.passing && old.Reason.Error() == err.Error() {
			s.aside[id] = old
			continue
		}
		if a, ok := s.examine(ctx, id, err); ok {
			s.aside[id] = a
		}
	}
}

// rawMeta is the part of meta.json that tells which answers a block belongs to. It has
// the same place in all versions known.
type rawMeta struct {
	MinTime *int64 `json:"minTime"`
	MaxTime *int64 `json:"maxTime"`
	Thanos  struct {
		Labels     map[string]string `json:"labels"`
		Downsample struct {
			Resolution int64 `json:"resolution"`
		} `json:"downsample"`
	} `json:"thanos"`
}

// examine finds out what there is to know of a block with unusable metadata; false where
// the block is none of this store's: marked for deletion, or left out by the filters.
func (s *Syncer) examine(ctx context.Context, id ulid.ULID, reason error) (asideBlock, bool) {
	mark := block.ObjectName(id, block.DeletionMarkFilename)
	if _, err := s.deps.Bucket.ReadAll(ctx, mark, 1<<20); err == nil {
		return asideBlock{}, false
	} else if !errors.Is(err, rangeread.ErrMissing) {
		s.logger.Warn("look for a deletion mark", zap.Stringer("block", id), zap.Error(err))
	}
	a := asideBlock{Aside: store.Aside{ID: id.String(), Reason: reason}}
	content, err := s.deps.Bucket.ReadAll(ctx, block.ObjectName(id, block.MetaFilename), block.MaxMetaBytes)
	if err != nil {
		a.passing = true
		return a, true
	}
	if _, err := block.ParseMetaOf(id, content); err == nil {
		a.passing = true // the first answer of the bucket was not what is there
	}
	var raw rawMeta
	if json.Unmarshal(content, &raw) != nil || raw.MinTime == nil || raw.MaxTime == nil || len(raw.Thanos.Labels) == 0 {
		return a, true
	}
	a.Known = true
	a.MinTime, a.MaxTime = *raw.MinTime, *raw.MaxTime
	a.External = labels.FromMap(raw.Thanos.Labels)
	a.Resolution = raw.Thanos.Downsample.Resolution
	return a, s.wanted(id, &raw)
}

// wanted runs the filters over what is known of a block.
func (s *Syncer) wanted(id ulid.ULID, raw *rawMeta) bool {
	meta := &block.Meta{Thanos: block.Thanos{Labels: raw.Thanos.Labels}}
	meta.ULID, meta.MinTime, meta.MaxTime = id, *raw.MinTime, *raw.MaxTime
	in := fetch.Input{Metas: map[ulid.ULID]*block.Meta{id: meta}, Now: time.Now()}
	for _, f := range s.cfg.Partial {
		if f.Decide == nil {
			continue
		}
		if _, out := f.Decide(in).Excluded[id]; out {
			return false
		}
	}
	return true
}

// cleanDir deletes the folders of blocks that an earlier process left and that are not
// in the bucket any more.
func (s *Syncer) cleanDir(res *fetch.Result) {
	if s.cfg.Dir == "" {
		return
	}
	entries, err := os.ReadDir(s.cfg.Dir)
	if err != nil {
		return // nothing was ever kept there
	}
	for _, e := range entries {
		id, ok := block.ParseID(e.Name())
		if _, known := res.Metas[id]; !ok || known || !e.IsDir() {
			continue
		}
		if err := os.RemoveAll(filepath.Join(s.cfg.Dir, e.Name())); err != nil {
			s.logger.Warn("remove old index header", zap.Stringer("block", id), zap.Error(err))
		}
	}
}
