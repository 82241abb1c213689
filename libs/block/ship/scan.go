package ship

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"

	"github.com/oklog/ulid/v2"

	"github.com/promontory-io/promontory/libs/block"
)

// localBlocks is what a TSDB folder holds.
type localBlocks struct {
	// good are the readable blocks in the order of min time, then of ULIDs.
	good []*block.Meta
	// bad are the blocks whose meta.json is missing or unusable.
	bad map[ulid.ULID]error
}

// scan reads the metas of a TSDB folder. Blocks that vanish meanwhile were deleted by
// the TSDB and are left out; folders with suffixes (.tmp-for-…) are no blocks.
func scan(dir string) (localBlocks, error) {
	out := localBlocks{bad: map[ulid.ULID]error{}}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return out, fmt.Errorf("list blocks: %w", err)
	}
	for _, e := range entries {
		id, ok := block.ParseID(e.Name())
		if !ok || !e.IsDir() {
			continue
		}
		path := filepath.Join(dir, e.Name())
		m, err := block.ReadMetaDir(path)
		if err == nil {
			out.good = append(out.good, m)
			continue
		}
		if _, statErr := os.Stat(path); errors.Is(statErr, fs.ErrNotExist) {
			continue
		}
		out.bad[id] = err
	}
	slices.SortFunc(out.good, func(a, b *block.Meta) int {
		if a.MinTime != b.MinTime {
			if a.MinTime < b.MinTime {
				return -1
			}
			return 1
		}
		return a.ULID.Compare(b.ULID)
	})
	return out, nil
}

// badIDs returns the unreadable blocks in the order of ULIDs.
func (l localBlocks) badIDs() []ulid.ULID {
	ids := make([]ulid.ULID, 0, len(l.bad))
	for id := range l.bad {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, ulid.ULID.Compare)
	return ids
}

// Timestamps tells how far the blocks of the folder reach and how far they are in
// the bucket, in Unix milliseconds: minTime is the smallest MinTime of all local blocks,
// math.MaxInt64 with no block; maxSyncTime is the largest MaxTime (exclusive) of those the
// state file lists, math.MinInt64 with none. Unreadable blocks are left out.
func (s *Shipper) Timestamps() (minTime, maxSyncTime int64, err error) {
	minTime, maxSyncTime = math.MaxInt64, math.MinInt64
	local, err := scan(s.cfg.Dir)
	if err != nil {
		return minTime, maxSyncTime, err
	}
	state, err := ReadState(s.cfg.Dir, s.cfg.MetaFileName)
	if err != nil {
		return minTime, maxSyncTime, err
	}
	for _, m := range local.good {
		minTime = min(minTime, m.MinTime)
		if slices.Contains(state.Uploaded, m.ULID) {
			maxSyncTime = max(maxSyncTime, m.MaxTime)
		}
	}
	return minTime, maxSyncTime, nil
}
