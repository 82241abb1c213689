package filesystem

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/thanos-io/objstore"
)

// SupportedIterOptions returns all there are.
func (b *Bucket) SupportedIterOptions() []objstore.IterOptionType {
	return []objstore.IterOptionType{objstore.Recursive, objstore.UpdatedAt}
}

// Iter calls f with the full name of each entry of the folder dir, in the order of the names; names of folders end with
// a slash, empty folders are left out. It ends with the first error of f.
func (b *Bucket) Iter(ctx context.Context, dir string, f func(string) error, options ...objstore.IterOption) error {
	params := objstore.ApplyIterOptions(options...)
	params.LastModified = false
	return b.iter(ctx, dir, params, func(attrs objstore.IterObjectAttributes) error { return f(attrs.Name) })
}

// IterWithAttributes is Iter that also gives times of last modification if asked for by objstore.WithUpdatedAt.
func (b *Bucket) IterWithAttributes(ctx context.Context, dir string, f func(objstore.IterObjectAttributes) error, options ...objstore.IterOption) error {
	if err := objstore.ValidateIterOptions(b.SupportedIterOptions(), options...); err != nil {
		return err
	}
	return b.iter(ctx, dir, objstore.ApplyIterOptions(options...), f)
}

func (b *Bucket) iter(ctx context.Context, dir string, params objstore.IterParams, f func(objstore.IterObjectAttributes) error) error {
	dir = strings.Trim(dir, objstore.DirDelim)
	if dir == "" {
		return b.walk(ctx, "", params, f)
	}
	if !filepath.IsLocal(dir) {
		return fmt.Errorf("folder name %q leads out of the bucket", dir)
	}
	dir = filepath.Clean(dir)
	if reserved(dir) {
		return nil
	}
	if dir == "." {
		return b.walk(ctx, "", params, f)
	}
	return b.walk(ctx, dir+objstore.DirDelim, params, f)
}

// entry is one line of a listing.
type entry struct {
	name  string // as listed: folders end with a slash
	isDir bool
	fs.DirEntry
}

// walk lists the folder dir, which is empty for the bucket itself and ends with a slash otherwise. What disappears while
// it is being listed is left out.
func (b *Bucket) walk(ctx context.Context, dir string, params objstore.IterParams, f func(objstore.IterObjectAttributes) error) error {
	entries, err := b.entries(dir)
	if err != nil {
		return fmt.Errorf("list %q: %w", dir, err)
	}
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		if e.isDir && params.Recursive {
			if err := b.walk(ctx, dir+e.name, params, f); err != nil {
				return err
			}
			continue
		}
		if e.isDir {
			empty, err := isEmptyDir(b.root + string(filepath.Separator) + dir + e.name)
			if err != nil {
				return fmt.Errorf("list %q: %w", dir+e.name, err)
			}
			if empty {
				continue
			}
		}
		attrs := objstore.IterObjectAttributes{Name: dir + e.name}
		if params.LastModified {
			info, err := e.Info()
			if isNotFound(err) {
				continue
			}
			if err != nil {
				return fmt.Errorf("look at %q: %w", attrs.Name, err)
			}
			attrs.SetLastModified(info.ModTime())
		}
		if err := f(attrs); err != nil {
			return err
		}
	}
	return nil
}

// entries reads one folder, sorted by the names as an object store would list them, hence folders with their slash.
func (b *Bucket) entries(dir string) ([]entry, error) {
	path := b.root + string(filepath.Separator) + dir
	listed, err := os.ReadDir(path)
	if err != nil && !isNotFound(err) {
		return nil, err
	}
	entries := make([]entry, 0, len(listed))
	for _, d := range listed {
		e := entry{name: d.Name(), isDir: d.IsDir(), DirEntry: d}
		if d.Type()&fs.ModeSymlink != 0 {
			info, err := os.Stat(path + d.Name())
			if isNotFound(err) {
				continue
			}
			if err != nil {
				return nil, err
			}
			e.isDir = info.IsDir()
		}
		if e.isDir {
			if dir == "" && e.name == UploadsDir {
				continue
			}
			e.name += objstore.DirDelim
		}
		entries = append(entries, e)
	}
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	return entries, nil
}

// isEmptyDir also calls a folder empty that has gone.
func isEmptyDir(path string) (_ bool, err error) {
	f, err := os.Open(path)
	if isNotFound(err) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()

	_, err = f.Readdirnames(1)
	if errors.Is(err, io.EOF) || isNotFound(err) {
		return true, nil
	}
	return false, err
}
