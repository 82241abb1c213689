package blockapi

import (
	"context"
	"errors"

	"github.com/oklog/ulid/v2"
	"github.com/thanos-io/objstore"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/fetch"
)

// Marks are those of one block; what is nil is not set.
type Marks struct {
	Deletion     *block.DeletionMark     `json:"deletion,omitempty"`
	NoCompact    *block.NoCompactMark    `json:"noCompact,omitempty"`
	NoDownsample *block.NoDownsampleMark `json:"noDownsample,omitempty"`
}

// Empty tells that no mark is set.
func (m Marks) Empty() bool { return m == Marks{} }

// ReadMarks reads the marks of one block. A mark that cannot be understood counts as none; an error comes from the bucket.
func ReadMarks(ctx context.Context, bkt objstore.BucketReader, id ulid.ULID) (Marks, error) {
	var m Marks
	var errs [3]error
	m.Deletion, errs[0] = block.ReadDeletionMark(ctx, bkt, id)
	m.NoCompact, errs[1] = block.ReadNoCompactMark(ctx, bkt, id)
	m.NoDownsample, errs[2] = block.ReadNoDownsampleMark(ctx, bkt, id)
	for i, err := range errs {
		if errors.Is(err, block.ErrMarkNotFound) || errors.Is(err, block.ErrMarkCorrupt) {
			errs[i] = nil
		}
	}
	return m, errors.Join(errs[:]...)
}

// Gather is a filter that has all marks read and lets all blocks pass.
func Gather() fetch.Filter {
	return fetch.Filter{
		Name: "gather marks", Needs: fetch.DeletionMarks | fetch.NoCompactMarks | fetch.NoDownsampleMarks,
		Decide: func(fetch.Input) fetch.Output { return fetch.Output{} },
	}
}

// Joined arranges what a fetcher has read by block. Blocks without marks are not in it.
func Joined(in fetch.Marks) map[ulid.ULID]Marks {
	out := map[ulid.ULID]Marks{}
	for id, m := range in.Deletion {
		out[id] = Marks{Deletion: m}
	}
	for id, m := range in.NoCompact {
		one := out[id]
		one.NoCompact = m
		out[id] = one
	}
	for id, m := range in.NoDownsample {
		one := out[id]
		one.NoDownsample = m
		out[id] = one
	}
	return out
}
