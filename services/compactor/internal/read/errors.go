package read

import (
	"errors"
	"fmt"

	"github.com/oklog/ulid/v2"

	"github.com/promontory-io/promontory/libs/block"
)

var (
	// ErrMissing says that an object of a block is not there.
	ErrMissing = errors.New("object is missing")
	// ErrUnsorted says that the series of an index are not in the order of their labels.
	ErrUnsorted = errors.New("series are not in order")
)

// CorruptError says what of a block cannot be right. It wraps block.ErrCorrupt, and
// ErrMissing or ErrUnsorted where they apply. Reading again does not help.
type CorruptError struct {
	Block ulid.ULID
	// Object is the name within the block.
	Object string
	// Offset is the place in the object, -1 where it is the whole.
	Offset int64
	Err    error
}

// Error implements error.
func (e *CorruptError) Error() string {
	if e.Offset < 0 {
		return fmt.Sprintf("block %s: %s: %v", e.Block, e.Object, e.Err)
	}
	return fmt.Sprintf("block %s: %s at byte %d: %v", e.Block, e.Object, e.Offset, e.Err)
}

// Unwrap returns what it is about.
func (e *CorruptError) Unwrap() []error { return []error{block.ErrCorrupt, e.Err} }

// AsCorrupt returns the CorruptError in err's tree.
func AsCorrupt(err error) (*CorruptError, bool) { return errors.AsType[*CorruptError](err) }
