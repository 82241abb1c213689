package block

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/thanos-io/objstore"
	"go.uber.org/zap"
)

const (
	// MarkVersion is the only version of the marker files there is.
	MarkVersion = 1

	// A marker is a hundred bytes and some free text.
	maxMarkBytes = 1 << 20
)

var (
	// ErrMarkNotFound says that the block does not carry the marker.
	ErrMarkNotFound = errors.New("no such marker")
	// ErrMarkCorrupt says that the marker cannot be parsed. Treat the block as not
	// marked, and warn.
	ErrMarkCorrupt = errors.New("unusable marker")
	// ErrMarkVersion says that the marker has a version unknown here: what it asks for cannot be known.
	ErrMarkVersion = errors.New("unknown marker version")
)

// Reason says why a block was marked. It is "" for deletion marks, which have details only.
type Reason string

// The reasons of no-compact and no-downsample marks.
const (
	ReasonManual                       Reason = "manual"
	ReasonIndexSizeExceeding           Reason = "index-size-exceeding"
	ReasonIndexOutOfOrderChunk         Reason = "block-index-out-of-order-chunk"
	ReasonDownsampleVerticalCompaction Reason = "downsample-vertical-compaction"
)

// DeletionMark asks for a block to be deleted once it has been marked for long enough.
type DeletionMark struct {
	ID      ulid.ULID `json:"id"`
	Version int       `json:"version"`
	Details string    `json:"details,omitempty"`
	// DeletionTime is when the block was marked, in Unix seconds.
	DeletionTime int64 `json:"deletion_time"`
}

// Time is when the block was marked.
func (m *DeletionMark) Time() time.Time { return time.Unix(m.DeletionTime, 0) }

// NoCompactMark keeps a block out of compaction.
type NoCompactMark struct {
	ID      ulid.ULID `json:"id"`
	Version int       `json:"version"`
	Details string    `json:"details,omitempty"`
	// NoCompactTime is when the block was marked, in Unix seconds.
	NoCompactTime int64  `json:"no_compact_time"`
	Reason        Reason `json:"reason"`
}

// NoDownsampleMark keeps a block from being downsampled.
type NoDownsampleMark struct {
	ID      ulid.ULID `json:"id"`
	Version int       `json:"version"`
	Details string    `json:"details,omitempty"`
	// NoDownsampleTime is when the block was marked, in Unix seconds.
	NoDownsampleTime int64  `json:"no_downsample_time"`
	Reason           Reason `json:"reason"`
}

// marker is what the three kinds share.
type marker interface {
	version() int
	blockID() ulid.ULID
}

func (m *DeletionMark) version() int           { return m.Version }
func (m *NoCompactMark) version() int          { return m.Version }
func (m *NoDownsampleMark) version() int       { return m.Version }
func (m *DeletionMark) blockID() ulid.ULID     { return m.ID }
func (m *NoCompactMark) blockID() ulid.ULID    { return m.ID }
func (m *NoDownsampleMark) blockID() ulid.ULID { return m.ID }

// ReadDeletionMark reads a block's deletion mark. The error names the block and wraps
// ErrMarkNotFound, ErrMarkCorrupt, ErrMarkVersion, or what the bucket said.
func ReadDeletionMark(ctx context.Context, bkt objstore.BucketReader, id ulid.ULID) (*DeletionMark, error) {
	return readMark(ctx, bkt, id, DeletionMarkFilename, &DeletionMark{})
}

// ReadNoCompactMark reads a block's no-compact mark, with the errors of ReadDeletionMark.
func ReadNoCompactMark(ctx context.Context, bkt objstore.BucketReader, id ulid.ULID) (*NoCompactMark, error) {
	return readMark(ctx, bkt, id, NoCompactMarkFilename, &NoCompactMark{})
}

// ReadNoDownsampleMark reads a block's no-downsample mark, with the errors of ReadDeletionMark.
func ReadNoDownsampleMark(ctx context.Context, bkt objstore.BucketReader, id ulid.ULID) (*NoDownsampleMark, error) {
	return readMark(ctx, bkt, id, NoDownsampleMarkFilename, &NoDownsampleMark{})
}

func readMark[M marker](ctx context.Context, bkt objstore.BucketReader, id ulid.ULID, name string, m M) (M, error) {
	var none M
	b, err := fetchObject(ctx, bkt, ObjectName(id, name), maxMarkBytes)
	if errors.Is(err, ErrMetaCorrupt) {
		return none, fmt.Errorf("read %s of block %s: %w: larger than %d bytes", name, id, ErrMarkCorrupt, maxMarkBytes)
	}
	if err != nil {
		if bkt.IsObjNotFoundErr(err) {
			err = ErrMarkNotFound
		}
		return none, fmt.Errorf("read %s of block %s: %w", name, id, err)
	}
	if err := parseMark(b, id, m); err != nil {
		return none, fmt.Errorf("read %s of block %s: %w", name, id, err)
	}
	return m, nil
}

func parseMark(b []byte, id ulid.ULID, m marker) error {
	if err := json.Unmarshal(b, m); err != nil {
		return fmt.Errorf("%w: %w", ErrMarkCorrupt, err)
	}
	if v := m.version(); v != MarkVersion {
		return fmt.Errorf("%w: %d, want %d", ErrMarkVersion, v, MarkVersion)
	}
	if m.blockID() != id {
		return fmt.Errorf("%w: it names block %s", ErrMarkCorrupt, m.blockID())
	}
	return nil
}

// MarkForDeletion marks a block for deletion at time now. Where the block is
// marked already nothing is written, not even new details, since the older mark's
// clock is running; written tells which. A marker that cannot be parsed, cut off by a kill
// for instance, is replaced.
func MarkForDeletion(ctx context.Context, logger *zap.Logger, bkt objstore.Bucket, id ulid.ULID, details string, now time.Time) (written bool, err error) {
	return writeMark(ctx, logger, bkt, id, DeletionMarkFilename, &DeletionMark{
		ID: id, Version: MarkVersion, Details: details, DeletionTime: now.Unix(),
	})
}

// MarkNoCompact keeps a block out of compaction from now on, with the rules of MarkForDeletion.
func MarkNoCompact(ctx context.Context, logger *zap.Logger, bkt objstore.Bucket, id ulid.ULID, reason Reason, details string, now time.Time) (written bool, err error) {
	return writeMark(ctx, logger, bkt, id, NoCompactMarkFilename, &NoCompactMark{
		ID: id, Version: MarkVersion, Details: details, NoCompactTime: now.Unix(), Reason: reason,
	})
}

// MarkNoDownsample keeps a block from being downsampled, with the rules of MarkForDeletion.
func MarkNoDownsample(ctx context.Context, logger *zap.Logger, bkt objstore.Bucket, id ulid.ULID, reason Reason, details string, now time.Time) (written bool, err error) {
	return writeMark(ctx, logger, bkt, id, NoDownsampleMarkFilename, &NoDownsampleMark{
		ID: id, Version: MarkVersion, Details: details, NoDownsampleTime: now.Unix(), Reason: reason,
	})
}

func writeMark(ctx context.Context, logger *zap.Logger, bkt objstore.Bucket, id ulid.ULID, name string, m marker) (bool, error) {
	object := ObjectName(id, name)
	usable, err := usableMark(ctx, bkt, id, name)
	if err != nil {
		return false, fmt.Errorf("look for %s of block %s: %w", name, id, err)
	}
	if usable {
		orNop(logger).Warn("block is marked already, keeping the older marker", zap.Stringer("block", id), zap.String("marker", name))
		return false, nil
	}
	b, err := json.Marshal(m)
	if err != nil {
		return false, fmt.Errorf("encode %s of block %s: %w", name, id, err)
	}
	if err := bkt.Upload(ctx, object, bytes.NewReader(b)); err != nil {
		return false, fmt.Errorf("write %s of block %s: %w", name, id, err)
	}
	orNop(logger).Info("block marked", zap.Stringer("block", id), zap.String("marker", name), zap.ByteString("mark", b))
	return true, nil
}

// usableMark reports whether there is a marker that somebody can act upon. One that was cut off
// while it was written says nothing to anybody, and would keep its place for ever. One
// of another version is for somebody else to understand.
func usableMark(ctx context.Context, bkt objstore.BucketReader, id ulid.ULID, name string) (bool, error) {
	_, err := readMark(ctx, bkt, id, name, &anyMark{})
	switch {
	case err == nil, errors.Is(err, ErrMarkVersion):
		return true, nil
	case errors.Is(err, ErrMarkNotFound), errors.Is(err, ErrMarkCorrupt):
		return false, nil
	}
	return false, err
}

// anyMark is what the three kinds have in common.
type anyMark struct {
	ID      ulid.ULID `json:"id"`
	Version int       `json:"version"`
}

func (m *anyMark) version() int       { return m.Version }
func (m *anyMark) blockID() ulid.ULID { return m.ID }

// RemoveMark takes a marker off a block. name is one of the marker file names;
// a marker that is not there is ErrMarkNotFound.
func RemoveMark(ctx context.Context, logger *zap.Logger, bkt objstore.Bucket, id ulid.ULID, name string) error {
	switch name {
	case DeletionMarkFilename, NoCompactMarkFilename, NoDownsampleMarkFilename:
	default:
		return fmt.Errorf("unmark block %s: %q is no marker file", id, name)
	}
	// Some providers delete what is not there without a word, so look first.
	exists, err := bkt.Exists(ctx, ObjectName(id, name))
	if err != nil {
		return fmt.Errorf("look for %s of block %s: %w", name, id, err)
	}
	if !exists {
		return fmt.Errorf("remove %s of block %s: %w", name, id, ErrMarkNotFound)
	}
	if err := deleteObject(ctx, bkt, ObjectName(id, name)); err != nil {
		return fmt.Errorf("remove %s of block %s: %w", name, id, err)
	}
	orNop(logger).Info("block unmarked", zap.Stringer("block", id), zap.String("marker", name))
	return nil
}

func orNop(logger *zap.Logger) *zap.Logger {
	if logger == nil {
		return zap.NewNop()
	}
	return logger
}
