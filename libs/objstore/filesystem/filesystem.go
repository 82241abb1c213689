// Package filesystem keeps a bucket in a folder of the local or a shared file system.
//
// It replaces the FILESYSTEM provider of github.com/thanos-io/objstore and reads and writes the same layout: an object
// is a file whose path below the folder is the object's name. What was found in the upstream provider
// (v0.0.0-20250813080715) and is different here:
//
//   - Upload there truncates and fills the file in place, so that a reader, or a process that starts after a crash, can
//     see half an object. Here an upload fills a file in the folder UploadsDir, syncs it to disk and renames it: an object
//     is there whole or not at all, and a replaced object stays whole for those who are reading it. A failed or cancelled
//     upload leaves the former object as it was.
//   - Delete there removes whole trees and takes any path, also one that leaves the bucket through "..". Here it removes
//     one object; names that leave the bucket are refused by every operation.
//   - A deletion that removes the emptied parent folder can make a concurrent upload into it fail there. Here the upload
//     makes the folder again.
//   - Listing there fails when a folder disappears between two system calls. Here what has gone is just not listed.
//   - Opening a directory as an object succeeds there and fails at the first read. Here it is "not found".
//   - "Not found" is only recognised there when nobody wrapped the error by fmt.Errorf; "access denied" never is.
//
// Listing a folder that does not exist, the bucket's own folder included, lists nothing, as upstream: in an object store
// folders do not exist by themselves. The bucket's folder is made by the first upload.
package filesystem

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/thanos-io/objstore"
)

// UploadsDir is the folder inside the bucket's folder that holds uploads which are not complete. It is not part of the
// bucket: no operation lists, reads or writes it.
const UploadsDir = ".promontory-uploads"

// Bucket is a bucket in a folder. It is safe for concurrent use, also by several processes that share the folder.
type Bucket struct {
	root string // absolute, clean

	sweepOnce sync.Once
}

var _ objstore.Bucket = (*Bucket)(nil)

// New returns the bucket in the folder dir. The folder need not exist; a path that exists and is no folder is an error.
func New(dir string) (*Bucket, error) {
	if dir == "" {
		return nil, errors.New("missing directory for filesystem bucket")
	}
	root, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("resolve bucket directory %s: %w", dir, err)
	}
	info, err := os.Stat(root)
	switch {
	case isNotFound(err):
	case err != nil:
		return nil, fmt.Errorf("look at bucket directory: %w", err)
	case !info.IsDir():
		return nil, fmt.Errorf("bucket directory %s is not a directory", root)
	}
	return &Bucket{root: root}, nil
}

// Root returns the absolute path of the bucket's folder.
func (b *Bucket) Root() string { return b.root }

// Provider returns FILESYSTEM.
func (b *Bucket) Provider() objstore.ObjProvider { return objstore.FILESYSTEM }

// Name returns "fs: " and the absolute path of the folder.
func (b *Bucket) Name() string { return "fs: " + b.root }

// Close does nothing: the bucket holds nothing open.
func (b *Bucket) Close() error { return nil }

// IsObjNotFoundErr tells whether err, or an error that it wraps, says that an object does not exist.
func (b *Bucket) IsObjNotFoundErr(err error) bool { return isNotFound(err) }

// IsAccessDeniedErr tells whether err, or an error that it wraps, says that the file system refused the access.
func (b *Bucket) IsAccessDeniedErr(err error) bool { return errors.Is(err, fs.ErrPermission) }

// isNotFound counts "a parent is a file" as not found too: an object store has no such thing as a parent.
func isNotFound(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// path turns the name of an object into the path of its file.
func (b *Bucket) path(name string) (string, error) {
	if name == "" {
		return "", errors.New("object name is empty")
	}
	if !filepath.IsLocal(name) {
		return "", fmt.Errorf("object name %q leads out of the bucket", name)
	}
	if reserved(name) {
		return "", fmt.Errorf("object name %q lies in the folder of unfinished uploads", name)
	}
	// Not filepath.Join: the name is known to stay inside, and cleaning it again costs more than the lookup.
	return b.root + string(filepath.Separator) + name, nil
}

// reserved tells whether a local name lies in UploadsDir, however it is spelled.
func reserved(name string) bool {
	if !strings.Contains(name, UploadsDir) {
		return false
	}
	first, _, _ := strings.Cut(filepath.Clean(name), string(filepath.Separator))
	return first == UploadsDir
}

// Exists tells whether there is an object of that name. A folder is no object.
func (b *Bucket) Exists(ctx context.Context, name string) (bool, error) {
	_, err := b.Attributes(ctx, name)
	if isNotFound(err) {
		return false, nil
	}
	return err == nil, err
}

// Attributes returns size and time of last modification of an object.
func (b *Bucket) Attributes(ctx context.Context, name string) (objstore.ObjectAttributes, error) {
	if err := ctx.Err(); err != nil {
		return objstore.ObjectAttributes{}, err
	}
	path, err := b.path(name)
	if err != nil {
		return objstore.ObjectAttributes{}, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return objstore.ObjectAttributes{}, err
	}
	if info.IsDir() {
		return objstore.ObjectAttributes{}, notAnObject(path)
	}
	return objstore.ObjectAttributes{Size: info.Size(), LastModified: info.ModTime()}, nil
}

// notAnObject is the error for a path that is a folder: there is no object of that name.
func notAnObject(path string) error {
	return &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
}

// Get opens the whole object. The caller closes the reader.
func (b *Bucket) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	return b.GetRange(ctx, name, 0, -1)
}

// GetRange opens length bytes of the object from off on; -1 stands for all the rest. Where the object ends earlier, the
// reader does too. The caller closes the reader, which goes on reading the object as it was even when it is replaced or
// deleted meanwhile.
func (b *Bucket) GetRange(ctx context.Context, name string, off, length int64) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	path, err := b.path(name)
	if err != nil {
		return nil, err
	}
	if off < 0 || length < -1 {
		return nil, fmt.Errorf("range of %q from %d, %d bytes: negative", name, off, length)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		err = notAnObject(path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	off = min(off, info.Size())
	end := info.Size()
	if length >= 0 && length < end-off {
		end = off + length
	}
	return &reader{f: f, off: off, end: end}, nil
}
