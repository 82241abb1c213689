package block

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/oklog/ulid/v2"
	"github.com/thanos-io/objstore"
	"go.uber.org/zap"
)

// Delete removes a block, whole, partial or marked, and all that lies in its folder.
//
// meta.json goes first, so that nobody takes the rest for a block; the deletion mark
// goes last, so that a deletion cut off in between is found and resumed and not
// taken for an upload under way; folder markers, which some providers keep as
// objects, go after that. A block that is not there is no error. An error leaves
// what was not deleted for the next call.
func Delete(ctx context.Context, logger *zap.Logger, bkt objstore.Bucket, id ulid.ULID) error {
	meta := ObjectName(id, MetaFilename)
	exists, err := bkt.Exists(ctx, meta)
	if err != nil {
		return fmt.Errorf("delete block %s: look for meta.json: %w", id, err)
	}
	if exists {
		if err := deleteObject(ctx, bkt, meta); err != nil {
			return fmt.Errorf("delete block %s: meta.json: %w", id, err)
		}
	}

	names, err := listBlock(ctx, bkt, id)
	if err != nil {
		return fmt.Errorf("delete block %s: list: %w", id, err)
	}
	for _, name := range deletionOrder(id, names) {
		if err := deleteObject(ctx, bkt, name); err != nil {
			return fmt.Errorf("delete block %s: %s: %w", id, name, err)
		}
	}
	if err := deleteFolderMarker(ctx, bkt, id); err != nil {
		return fmt.Errorf("delete block %s: %w", id, err)
	}
	orNop(logger).Debug("block deleted", zap.Stringer("block", id), zap.Int("objects", len(names)))
	return nil
}

// deletionOrder sorts a block's objects: data and strangers, the deletion mark,
// then folder markers from the inside out.
func deletionOrder(id ulid.ULID, names []string) []string {
	folders := foldersOf(names)
	rank := func(name string) int {
		switch {
		case name == ObjectName(id, DeletionMarkFilename):
			return 1
		case strings.HasSuffix(name, objstore.DirDelim) || folders[name]:
			return 2
		default:
			return 0
		}
	}
	out := slices.Clone(names)
	slices.SortStableFunc(out, func(a, b string) int {
		ra, rb := rank(a), rank(b)
		if ra != rb {
			return ra - rb
		}
		if ra == 2 {
			return len(b) - len(a)
		}
		return strings.Compare(a, b)
	})
	return out
}

// foldersOf returns the folders that names lie in, without a slash at the end.
// Hierarchical Azure accounts list folders as objects under such names.
func foldersOf(names []string) map[string]bool {
	out := map[string]bool{}
	for _, name := range names {
		for i, c := range name {
			if c == '/' && i < len(name)-1 {
				out[name[:i]] = true
			}
		}
	}
	return out
}

// deleteFolderMarker removes the object that stands for the block's own folder,
// which is not in a listing of what is below it.
func deleteFolderMarker(ctx context.Context, bkt objstore.Bucket, id ulid.ULID) error {
	for _, name := range []string{id.String() + objstore.DirDelim, id.String()} {
		exists, err := bkt.Exists(ctx, name)
		if err != nil {
			return fmt.Errorf("look for folder marker: %w", err)
		}
		if !exists {
			continue
		}
		if err := deleteObject(ctx, bkt, name); err != nil {
			return fmt.Errorf("folder marker: %w", err)
		}
	}
	return nil
}

// listBlock returns the names of all objects in a block's folder.
func listBlock(ctx context.Context, bkt objstore.BucketReader, id ulid.ULID) ([]string, error) {
	var names []string
	prefix := id.String() + objstore.DirDelim
	err := bkt.Iter(ctx, prefix, func(name string) error {
		if name != prefix {
			names = append(names, name)
		}
		return nil
	}, objstore.WithRecursiveIter())
	return names, err
}

// deleteObject deletes an object; one that has gone meanwhile is fine.
func deleteObject(ctx context.Context, bkt objstore.Bucket, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	err := bkt.Delete(ctx, name)
	if err == nil || bkt.IsObjNotFoundErr(err) {
		return nil
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	// A provider may have its own words for an object that has gone; what counts is whether it is there.
	if exists, existsErr := bkt.Exists(ctx, name); existsErr == nil && !exists {
		return nil
	}
	return err
}
