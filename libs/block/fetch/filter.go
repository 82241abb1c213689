package fetch

import (
	"context"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/promontory-io/promontory/libs/block"
)

// Input is what a filter decides on. It must not be changed.
type Input struct {
	// Metas are the blocks that earlier filters left.
	Metas map[ulid.ULID]*block.Meta
	// Marks hold the kinds of markers that the filter, or one before it, needs.
	Marks Marks
	// Now is one moment for the whole sync.
	Now time.Time
}

// Output is what a filter decided.
type Output struct {
	// Excluded are the blocks to leave out, and the state that leaves them in.
	Excluded map[ulid.ULID]State
	// Replaced are metas that go on instead of the input's. They must be copies.
	Replaced map[ulid.ULID]*block.Meta
	// Gathered counts blocks that stay and yet are in a state worth showing.
	Gathered map[State]int
	// Modified counts what was changed in Replaced.
	Modified map[Modification]int
}

func (o *Output) exclude(id ulid.ULID, s State) {
	if o.Excluded == nil {
		o.Excluded = map[ulid.ULID]State{}
	}
	o.Excluded[id] = s
}

// Decision is a filter's rule: a pure function that may be called concurrently.
type Decision func(Input) Output

// Filter is one step between all blocks of a bucket and those a component works with.
type Filter struct {
	// Name appears in errors.
	Name string
	// Needs are the kinds of markers to be read before, of the blocks that are left then.
	Needs MarkKind
	// Decide is the rule. Nil where Prepare makes it.
	Decide Decision
	// Prepare does the I/O a rule depends on and returns the rule for this sync. When
	// it fails the rule of the sync before is used, and none at first; the failure is reported.
	Prepare func(context.Context) (Decision, error)
}
