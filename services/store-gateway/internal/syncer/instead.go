package syncer

import (
	"context"
	"maps"
	"slices"

	"github.com/oklog/ulid/v2"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/fetch"
	"github.com/promontory-io/promontory/services/store-gateway/internal/blockread"
)

// serveInstead opens, in the place of blocks that are broken, those that they were made of, as far as these are still in the
// bucket, and adds them to the blocks of this round. It goes on where one of these is broken too. Data that is in the bucket
// twice is not missing because one copy cannot be read.
func (s *Syncer) serveInstead(ctx context.Context, res *fetch.Result) error {
	wanted := maps.Clone(res.Metas)
	for {
		s.instead = map[ulid.ULID][]ulid.ULID{}
		chosen := map[ulid.ULID]*block.Meta{}
		for id, a := range s.aside {
			meta := wanted[id]
			if meta == nil || !blockread.Broken(a.Reason) {
				continue
			}
			parts, whole := substitutes(res, meta, func(id ulid.ULID) bool { _, broken := s.aside[id]; return broken })
			for _, p := range parts {
				chosen[p.ULID] = p
				if whole {
					s.instead[id] = append(s.instead[id], p.ULID)
				}
			}
		}
		more := map[ulid.ULID]*block.Meta{}
		for id, meta := range chosen {
			if s.blocks[id] == nil {
				more[id] = meta
			}
		}
		if len(more) == 0 {
			maps.Copy(res.Metas, chosen)
			return nil
		}
		if err := s.open(ctx, res, more); err != nil {
			return err
		}
	}
}

// substitutes returns the blocks that hold data of a broken one and that the filters left out because it does: its sources
// and those between, by time. whole is whether they hold all of it.
func substitutes(res *fetch.Result, broken *block.Meta, isBroken func(ulid.ULID) bool) (parts []*block.Meta, whole bool) {
	of := sources(broken)
	group := broken.GroupKey()
	candidates := map[ulid.ULID]*block.Meta{}
	for id, state := range res.Excluded {
		// A mark for deletion is mostly there because of the broken block.
		if state != fetch.StateDuplicate && state != fetch.StateMarkedForDeletion {
			continue
		}
		m := res.All[id]
		if m == nil || isBroken(id) || m.GroupKey() != group {
			continue
		}
		foreign := func(s ulid.ULID) bool { return !slices.Contains(of, s) }
		if !slices.ContainsFunc(sources(m), foreign) {
			candidates[id] = m
		}
	}
	left := fetch.Deduplicate().Decide(fetch.Input{Metas: candidates})
	missing := slices.Clone(of)
	for id, m := range candidates {
		if _, covered := left.Excluded[id]; covered {
			continue
		}
		parts = append(parts, m)
		missing = slices.DeleteFunc(missing, func(s ulid.ULID) bool { return slices.Contains(sources(m), s) })
	}
	slices.SortFunc(parts, func(a, b *block.Meta) int { return a.ULID.Compare(b.ULID) })
	return parts, len(missing) == 0
}

// sources returns what a block was made of; one that names nothing is its own source.
func sources(m *block.Meta) []ulid.ULID {
	if len(m.Compaction.Sources) == 0 {
		return []ulid.ULID{m.ULID}
	}
	return m.Compaction.Sources
}

// tellInstead logs what is served in the place of a broken block when that changes.
func (s *Syncer) tellInstead(before map[ulid.ULID][]ulid.ULID) {
	for id, ids := range s.instead {
		if !slices.Equal(before[id], ids) {
			s.logger.Warn("a block is broken, the blocks that it was made of are served instead",
				zap.Stringer("block", id), zap.Stringers("served", ids))
		}
	}
}
