package block

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/thanos-io/objstore"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
)

// cleanupTimeout bounds the removal of what a failed upload has left, for which the
// caller's context may be over already.
const cleanupTimeout = time.Minute

var (
	// ErrExists says that the bucket holds the block already, whole. Nothing was changed.
	ErrExists = errors.New("block is in the bucket already")
	// ErrNoLabels says that a block without external labels must not be uploaded:
	// nobody could tell whose data it holds.
	ErrNoLabels = errors.New("block has no external labels")
	// ErrVerify says that what arrived in the bucket is not what was sent.
	ErrVerify = errors.New("uploaded object differs from the local file")
)

// UploadOptions change how Upload works. The zero value is good.
type UploadOptions struct {
	// Concurrency is how many chunk segments are sent at once; below 1 means 1.
	Concurrency int
	// HashFunc adds checksums of the files to meta.json.
	HashFunc HashFunc
	// IndexStats are used where the caller knows them, which saves reading the index
	// and with it the check that the block's files fit together.
	IndexStats *IndexStats
	// WithoutLabels lets a block through that has no external labels, which only a Prometheus can read: whoever knows
	// that the block is for one.
	WithoutLabels bool
	// Now is the clock for upload_time; nil means time.Now.
	Now func() time.Time
}

// Upload sends the local block in dir, whose meta.json must carry external labels unless opts says otherwise,
// and returns the meta.json that went to the bucket: the local one with segment_files,
// files, index_stats and upload_time filled in. The local block is not changed.
//
// Chunk segments go first, then the index; when the bucket confirms the size of each,
// meta.json makes the block visible. On any failure, a cancelled context included,
// what was sent is removed again as far as possible, meta.json first; what cannot be
// removed is not visible as a block. A meta.json left unusable by an earlier,
// killed upload is removed before anything is sent.
//
// Errors name the block and wrap ErrExists, ErrNoLabels, ErrVerify, ErrCorrupt,
// ErrMetaNotFound or ErrMetaCorrupt where they apply; others come from the bucket or
// the file system and may be retried.
func Upload(ctx context.Context, logger *zap.Logger, bkt objstore.Bucket, dir string, opts UploadOptions) (*Meta, error) {
	local, err := ReadMetaDir(dir)
	if err != nil {
		return nil, fmt.Errorf("upload: %w", err)
	}
	meta, err := prepareMeta(dir, local, opts)
	if err != nil {
		return nil, fmt.Errorf("upload block %s: %w", local.ULID, err)
	}
	if err := clearWay(ctx, bkt, meta.ULID); err != nil {
		return nil, fmt.Errorf("upload block %s: %w", meta.ULID, err)
	}
	if err := send(ctx, bkt, dir, meta, opts); err != nil {
		err = fmt.Errorf("upload block %s: %w", meta.ULID, err)
		if cleanErr := cleanUp(ctx, bkt, meta); cleanErr != nil {
			orNop(logger).Warn("remains of a failed upload stay in the bucket",
				zap.Stringer("block", meta.ULID), zap.Error(cleanErr))
		}
		return nil, err
	}
	return meta, nil
}

// prepareMeta returns the meta.json to be uploaded, but for the upload time.
func prepareMeta(dir string, local *Meta, opts UploadOptions) (*Meta, error) {
	if len(local.Thanos.Labels) == 0 && !opts.WithoutLabels {
		return nil, ErrNoLabels
	}
	meta := local.Clone()
	meta.Thanos.Version = ThanosVersion

	var err error
	if meta.Thanos.Files, err = ListFiles(dir, opts.HashFunc); err != nil {
		return nil, err
	}
	meta.Thanos.SegmentFiles = segmentNames(meta.Thanos.Files)
	if opts.IndexStats != nil {
		meta.Thanos.IndexStats = *opts.IndexStats
		return meta, nil
	}
	if meta.Thanos.IndexStats, err = ReadIndexStats(dir); err != nil {
		return nil, err
	}
	return meta, nil
}

// clearWay makes sure that no meta.json makes the block visible while it is written.
func clearWay(ctx context.Context, bkt objstore.Bucket, id ulid.ULID) error {
	_, err := FetchMeta(ctx, bkt, id)
	switch {
	case err == nil:
		return ErrExists
	case errors.Is(err, ErrMetaNotFound):
		return nil
	case errors.Is(err, ErrMetaCorrupt):
		return deleteObject(ctx, bkt, ObjectName(id, MetaFilename))
	default:
		return err
	}
}

func send(ctx context.Context, bkt objstore.Bucket, dir string, meta *Meta, opts UploadOptions) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(max(1, opts.Concurrency))
	var index File
	for _, f := range meta.Thanos.Files {
		switch f.RelPath {
		case MetaFilename:
		case IndexFilename:
			index = f
		default:
			g.Go(func() error { return sendFile(gctx, bkt, dir, meta.ULID, f) })
		}
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if err := sendFile(ctx, bkt, dir, meta.ULID, index); err != nil {
		return err
	}
	for _, f := range meta.Thanos.Files {
		if f.RelPath == MetaFilename {
			continue
		}
		if err := verifySize(ctx, bkt, meta.ULID, f.RelPath, f.SizeBytes); err != nil {
			return err
		}
	}
	return sendMeta(ctx, bkt, meta, opts.Now)
}

func sendFile(ctx context.Context, bkt objstore.Bucket, dir string, id ulid.ULID, f File) error {
	// Some buckets do not look at the context.
	if err := ctx.Err(); err != nil {
		return err
	}
	file, err := os.Open(filepath.Join(dir, filepath.FromSlash(f.RelPath)))
	if err != nil {
		return fileErr(err)
	}
	defer file.Close()

	if err := bkt.Upload(ctx, ObjectName(id, f.RelPath), file); err != nil {
		return fmt.Errorf("send %s: %w", f.RelPath, err)
	}
	return nil
}

func sendMeta(ctx context.Context, bkt objstore.Bucket, meta *Meta, now func() time.Time) error {
	if now == nil {
		now = time.Now
	}
	meta.Thanos.UploadTime = now().UTC()
	b, err := meta.Encode()
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := bkt.Upload(ctx, ObjectName(meta.ULID, MetaFilename), bytes.NewReader(b)); err != nil {
		return fmt.Errorf("send meta.json: %w", err)
	}
	return verifySize(ctx, bkt, meta.ULID, MetaFilename, int64(len(b)))
}

func verifySize(ctx context.Context, bkt objstore.BucketReader, id ulid.ULID, rel string, want int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	attrs, err := bkt.Attributes(ctx, ObjectName(id, rel))
	if err != nil {
		return fmt.Errorf("verify %s: %w", rel, err)
	}
	if attrs.Size != want {
		return fmt.Errorf("%w: %s has %d bytes in the bucket and %d here", ErrVerify, rel, attrs.Size, want)
	}
	return nil
}

// cleanUp removes what this upload sent. It stops where meta.json cannot be
// removed, for then the data must stay too.
func cleanUp(ctx context.Context, bkt objstore.Bucket, meta *Meta) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()

	if err := removeSent(ctx, bkt, ObjectName(meta.ULID, MetaFilename)); err != nil {
		return err
	}
	var errs []error
	for _, f := range meta.Thanos.Files {
		if f.RelPath != MetaFilename {
			errs = append(errs, removeSent(ctx, bkt, ObjectName(meta.ULID, f.RelPath)))
		}
	}
	return errors.Join(errs...)
}

func removeSent(ctx context.Context, bkt objstore.Bucket, name string) error {
	exists, err := bkt.Exists(ctx, name)
	if err != nil || !exists {
		return err
	}
	return deleteObject(ctx, bkt, name)
}
