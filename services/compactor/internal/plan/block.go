package plan

import (
	"cmp"
	"slices"

	"github.com/oklog/ulid/v2"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/fetch"
)

// Block is what planning needs to know of one block.
type Block struct {
	// Meta is shared and never changed. Its external labels are those left after
	// replica labels were taken off.
	Meta *block.Meta
	// NoCompact and NoDownsample say that the block carries the marker.
	NoCompact, NoDownsample bool
	// Deleting says that the block is marked for deletion: its data must not live on
	// in another block.
	Deleting bool
	// SizeBytes is the size of all objects, IndexBytes that of the index; 0 if unknown.
	SizeBytes, IndexBytes int64
}

// NewBlock returns the block of m with its markers. Sizes come from the list of files
// in meta.json, where there is one.
func NewBlock(m *block.Meta, marks fetch.Marks) *Block {
	b := &Block{Meta: m}
	_, b.NoCompact = marks.NoCompact[m.ULID]
	_, b.NoDownsample = marks.NoDownsample[m.ULID]
	_, b.Deleting = marks.Deletion[m.ULID]
	for _, f := range m.Thanos.Files {
		b.SizeBytes += f.SizeBytes
		if f.RelPath == block.IndexFilename {
			b.IndexBytes = f.SizeBytes
		}
	}
	return b
}

// ID is the block's ULID.
func (b *Block) ID() ulid.ULID { return b.Meta.ULID }

func (b *Block) resolution() int64 { return b.Meta.Thanos.Downsample.Resolution }

func (b *Block) span() int64 { return b.Meta.MaxTime - b.Meta.MinTime }

// sources returns the compaction sources; a block that names none is its own.
func (b *Block) sources() []ulid.ULID { return b.Meta.Sources() }

// barrier says that the block takes no part in compaction, and that nothing is merged
// across it.
func (b *Block) barrier() bool { return b.NoCompact || b.Meta.Compaction.Failed }

// sortBlocks sorts by time, oldest first.
func sortBlocks(bs []*Block) {
	slices.SortFunc(bs, func(a, b *Block) int {
		return cmp.Or(cmp.Compare(a.Meta.MinTime, b.Meta.MinTime), cmp.Compare(a.Meta.MaxTime, b.Meta.MaxTime), a.ID().Compare(b.ID()))
	})
}

// IDs returns the ULIDs of bs in their order.
func IDs(bs []*Block) []ulid.ULID {
	out := make([]ulid.ULID, len(bs))
	for i, b := range bs {
		out[i] = b.ID()
	}
	return out
}
