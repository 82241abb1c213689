package fetch

import (
	"errors"
	"fmt"
	"slices"

	"github.com/oklog/ulid/v2"
)

// State is what became of a block in a sync, and a label value of the synced gauge.
type State string

// The states. Blocks in the states of the last group stay in the result.
const (
	StateCorruptedMeta     State = "corrupted-meta-json"
	StateNoMeta            State = "no-meta-json"
	StateFailed            State = "failed"
	StateTooFresh          State = "too-fresh"
	StateLabelExcluded     State = "label-excluded"
	StateTimeExcluded      State = "time-excluded"
	StateDuplicate         State = "duplicate"
	StateMarkedForDeletion State = "marked-for-deletion"
	StateParquetMigrated   State = "parquet-migrated"
	StateParquetConverted  State = "parquet-converted"

	StateLoaded             State = "loaded"
	StateMarkedNoCompact    State = "marked-for-no-compact"
	StateMarkedNoDownsample State = "marked-for-no-downsample"
)

// States returns all states, in a fixed order.
func States() []State {
	return []State{
		StateCorruptedMeta, StateNoMeta, StateLoaded, StateTooFresh, StateFailed,
		StateLabelExcluded, StateTimeExcluded, StateDuplicate, StateMarkedForDeletion,
		StateMarkedNoCompact, StateMarkedNoDownsample, StateParquetMigrated, StateParquetConverted,
	}
}

// Modification is what a filter changed in the metas it lets pass, and a label
// value of the modified gauge.
type Modification string

// ModifiedReplicaLabelRemoved counts blocks that lost replica labels.
const ModifiedReplicaLabelRemoved Modification = "replica-label-removed"

// PartialError says that a sync could not find out about some blocks. The result
// that comes with it is whole but for these.
type PartialError struct {
	// Blocks holds the blocks whose meta.json or markers could not be read, and why.
	Blocks map[ulid.ULID]error
	// Others are failures that belong to no block, such as a filter's own sources.
	Others []error
}

// Error counts the failures and shows the first, in the order of ULIDs.
func (e *PartialError) Error() string {
	all := e.Unwrap()
	if len(all) == 1 {
		return fmt.Sprintf("incomplete view of the bucket: %v", all[0])
	}
	return fmt.Sprintf("incomplete view of the bucket: %v (and %d more failures)", all[0], len(all)-1)
}

// Unwrap returns all failures, those of blocks first, in the order of ULIDs.
func (e *PartialError) Unwrap() []error {
	ids := make([]ulid.ULID, 0, len(e.Blocks))
	for id := range e.Blocks {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, ulid.ULID.Compare)
	out := make([]error, 0, len(ids)+len(e.Others))
	for _, id := range ids {
		out = append(out, e.Blocks[id])
	}
	return append(out, e.Others...)
}

func (e *PartialError) add(id ulid.ULID, err error) {
	if e.Blocks == nil {
		e.Blocks = map[ulid.ULID]error{}
	}
	e.Blocks[id] = errors.Join(e.Blocks[id], err)
}

func (e *PartialError) empty() bool { return len(e.Blocks) == 0 && len(e.Others) == 0 }
