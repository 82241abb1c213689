package fetch

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/block"
)

// diskCacheName is the folder of the cache, shared with Thanos, which keeps the
// same files there.
const diskCacheName = "meta-syncer"

// diskCache keeps metas as <dir>/<ULID>/meta.json. A file's modification time is the
// object's, where that is known.
//
// It is written behind the syncs' backs: making ten thousand folders can take longer
// than reading the metas did, and nobody waits for the next start.
type diskCache struct {
	logger *zap.Logger
	dir    string // empty where nothing is kept
	stop   chan struct{}

	mu   sync.Mutex    // guards last
	last chan struct{} // closed when the newest update is done
}

func openDiskCache(logger *zap.Logger, parent string) (*diskCache, error) {
	c := &diskCache{logger: logger, stop: make(chan struct{}), last: make(chan struct{})}
	close(c.last)
	if parent == "" {
		return c, nil
	}
	c.dir = filepath.Join(parent, diskCacheName)
	return c, os.MkdirAll(c.dir, 0o755)
}

// load returns the meta kept for a block, if it is of the object last written at modified.
func (c *diskCache) load(id ulid.ULID, modified time.Time) (*block.Meta, bool) {
	if c.dir == "" {
		return nil, false
	}
	dir := filepath.Join(c.dir, id.String())
	if !modified.IsZero() {
		st, err := os.Stat(filepath.Join(dir, block.MetaFilename))
		if err != nil || changed(st.ModTime(), modified) {
			return nil, false
		}
	}
	m, err := block.ReadMetaDir(dir)
	return m, err == nil
}

// update removes the metas of blocks that are gone and adds fresh ones, after earlier
// updates and without making the caller wait.
func (c *diskCache) update(fresh []knownMeta, gone func(ulid.ULID) bool) {
	if c.dir == "" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	before, done := c.last, make(chan struct{})
	c.last = done
	go func() {
		defer close(done)
		<-before
		if err := errors.Join(c.forget(gone), c.storeAll(fresh)); err != nil {
			// The cache saves time at the next start, nothing more.
			c.logger.Warn("cache of block metadata on disk is incomplete", zap.Error(err))
		}
	}()
}

// close waits for the updates, until ctx is over.
func (c *diskCache) close(ctx context.Context) {
	c.mu.Lock()
	last := c.last
	c.mu.Unlock()
	select {
	case <-last:
	case <-ctx.Done():
		c.mu.Lock()
		select {
		case <-c.stop:
		default:
			close(c.stop)
		}
		c.mu.Unlock()
		<-last
	}
}

// storeAll keeps metas, and ends at the first that cannot be: the disk is full or gone.
func (c *diskCache) storeAll(fresh []knownMeta) error {
	for _, k := range fresh {
		select {
		case <-c.stop:
			return nil
		default:
		}
		if err := c.store(k); err != nil {
			return err
		}
	}
	return nil
}

// store keeps a meta. A file cut off by a crash is found unusable and read again
// from the bucket, so nothing needs to be synced here.
func (c *diskCache) store(k knownMeta) error {
	raw, err := k.meta.Encode()
	if err != nil {
		return err
	}
	dir := filepath.Join(c.dir, k.meta.ULID.String())
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	name := filepath.Join(dir, block.MetaFilename)
	if err := os.WriteFile(name, raw, 0o644); err != nil {
		return err
	}
	if k.modified.IsZero() {
		return nil
	}
	return os.Chtimes(name, k.modified, k.modified)
}

// forget removes the metas of blocks that are gone.
func (c *diskCache) forget(gone func(ulid.ULID) bool) error {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if id, ok := block.ParseID(e.Name()); ok && gone(id) {
			errs = append(errs, os.RemoveAll(filepath.Join(c.dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}
