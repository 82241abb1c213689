// Package mark sets markers so that they are there afterwards. Package block leaves a marker
// that exists as it is, for the older one's clock is running; but one that was cut off while
// it was written says nothing to anybody and would keep its place for ever. Here it is
// replaced.
package mark

import (
	"context"
	"errors"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/thanos-io/objstore"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/block"
)

// Deletion is block.MarkForDeletion.
func Deletion(ctx context.Context, logger *zap.Logger, bkt objstore.Bucket, id ulid.ULID, details string, now time.Time) (bool, error) {
	_, err := block.ReadDeletionMark(ctx, bkt, id)
	if todo, err := makeWay(ctx, logger, bkt, id, block.DeletionMarkFilename, err); err != nil || !todo {
		return false, err
	}
	return block.MarkForDeletion(ctx, logger, bkt, id, details, now)
}

// NoCompact is block.MarkNoCompact.
func NoCompact(ctx context.Context, logger *zap.Logger, bkt objstore.Bucket, id ulid.ULID, reason block.Reason, details string, now time.Time) (bool, error) {
	_, err := block.ReadNoCompactMark(ctx, bkt, id)
	if todo, err := makeWay(ctx, logger, bkt, id, block.NoCompactMarkFilename, err); err != nil || !todo {
		return false, err
	}
	return block.MarkNoCompact(ctx, logger, bkt, id, reason, details, now)
}

// NoDownsample is block.MarkNoDownsample.
func NoDownsample(ctx context.Context, logger *zap.Logger, bkt objstore.Bucket, id ulid.ULID, reason block.Reason, details string, now time.Time) (bool, error) {
	_, err := block.ReadNoDownsampleMark(ctx, bkt, id)
	if todo, err := makeWay(ctx, logger, bkt, id, block.NoDownsampleMarkFilename, err); err != nil || !todo {
		return false, err
	}
	return block.MarkNoDownsample(ctx, logger, bkt, id, reason, details, now)
}

// makeWay makes way for a marker, given what reading the present one has said. todo is false
// where there is a good one.
func makeWay(ctx context.Context, logger *zap.Logger, bkt objstore.Bucket, id ulid.ULID, name string, err error) (todo bool, _ error) {
	switch {
	case err == nil:
		return false, nil
	case errors.Is(err, block.ErrMarkNotFound):
		return true, nil
	case errors.Is(err, block.ErrMarkCorrupt):
		logger.Warn("unusable marker is replaced", zap.Stringer("block", id), zap.String("marker", name), zap.Error(err))
		err := block.RemoveMark(ctx, logger, bkt, id, name)
		if errors.Is(err, block.ErrMarkNotFound) {
			err = nil
		}
		return true, err
	}
	return false, err
}
