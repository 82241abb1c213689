package filesystem

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/thanos-io/objstore"
)

const (
	// leftoverAge is the age from which an unfinished upload is taken for the remains of a killed process. No upload
	// goes a day without writing.
	leftoverAge = 24 * time.Hour
	// renameAttempts bounds the race against deletions that take away the folder just made.
	renameAttempts = 100
)

// Upload stores all that r gives under the name. The object appears, or replaces the former one, when it is complete and
// on disk; after an error, also a cancellation, everything is as before.
func (b *Bucket) Upload(ctx context.Context, name string, r io.Reader, _ ...objstore.ObjectUploadOption) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	path, err := b.path(name)
	if err != nil {
		return err
	}
	path = filepath.Clean(path)
	tmp, err := b.fill(ctx, r)
	if err != nil {
		return fmt.Errorf("upload %q: %w", name, err)
	}
	if err := b.publish(tmp, path); err != nil {
		return fmt.Errorf("upload %q: %w", name, errors.Join(err, os.Remove(tmp)))
	}
	return nil
}

// fill writes r to a new file among the unfinished uploads, syncs it and returns its path.
func (b *Bucket) fill(ctx context.Context, r io.Reader) (_ string, err error) {
	dir := filepath.Join(b.root, UploadsDir)
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return "", err
	}
	b.sweepOnce.Do(func() { sweep(dir, time.Now()) })

	// Not os.CreateTemp: its files are private, while a bucket folder may be shared between users.
	path := filepath.Join(dir, rand.Text())
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(path))
		}
	}()
	if _, err := io.Copy(f, untilDone(ctx, r)); err != nil {
		return "", errors.Join(err, f.Close())
	}
	if err := f.Sync(); err != nil {
		return "", errors.Join(err, f.Close())
	}
	return path, f.Close()
}

// publish moves a complete file to its place and makes the move durable.
func (b *Bucket) publish(tmp, path string) error {
	parent := filepath.Dir(path)
	var made bool
	for attempt := 1; ; attempt++ {
		err := os.Rename(tmp, path)
		if err == nil {
			break
		}
		if !isNotFound(err) || attempt == renameAttempts {
			return err
		}
		// The folder is new, or a deletion has just removed it as empty. A deletion between two steps of MkdirAll makes
		// it say "exists" of what does not, or miss the parent that it has just made; the next attempt tells.
		if err := os.MkdirAll(parent, 0o777); err != nil && !errors.Is(err, fs.ErrExist) && !isNotFound(err) {
			return err
		}
		made = true
	}
	// A folder's entry is durable once the folder it stands in is synced; new folders need their parents synced too.
	for dir := parent; ; dir = filepath.Dir(dir) {
		if err := syncDir(dir); err != nil && !isNotFound(err) {
			return err
		}
		if !made || dir == b.root || len(dir) <= len(b.root) {
			return nil
		}
	}
}

// Delete removes the object. To delete what does not exist is no error, as with most object stores. Folders that become
// empty go too.
func (b *Bucket) Delete(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	path, err := b.path(name)
	if err != nil {
		return err
	}
	path = filepath.Clean(path)
	info, err := os.Lstat(path)
	if isNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("delete %q: %w", name, err)
	}
	if info.IsDir() {
		return nil // os.Remove would take an empty folder; it is no object
	}
	if err := os.Remove(path); err != nil && !isNotFound(err) {
		return fmt.Errorf("delete %q: %w", name, err)
	}
	b.prune(filepath.Dir(path))
	return nil
}

// prune removes a folder and those above it as long as they are empty. What cannot be removed stays: the object is gone
// either way.
func (b *Bucket) prune(dir string) {
	// Not os.Remove, which would take away a symbolic link to a folder that is not empty at all.
	for len(dir) > len(b.root) && syscall.Rmdir(dir) == nil {
		dir = filepath.Dir(dir)
	}
}

// sweep removes what killed processes left behind. It is an act of tidiness: what cannot be removed stays.
func sweep(dir string, now time.Time) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && info.Mode().IsRegular() && now.Sub(info.ModTime()) > leftoverAge {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// untilDone reads from r until the context ends, so that a cancelled upload stops between two reads.
func untilDone(ctx context.Context, r io.Reader) io.Reader {
	return readerFunc(func(p []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return r.Read(p)
	})
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
