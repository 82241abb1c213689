package discovery

import (
	"context"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/zap"
)

// settle is how long the file system must be quiet before files are read: a change is often several events, and the
// first may find a file half written.
const settle = 50 * time.Millisecond

// Run reads the files at once, then whenever something changes in their folders and every interval, until ctx ends, which is
// no error. Where folders cannot be watched, the interval alone has to do.
func (f *Files) Run(ctx context.Context) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		f.log.Warn("folders cannot be watched, reading at intervals only", zap.Duration("interval", f.opts.Interval), zap.Error(err))
		watcher = &fsnotify.Watcher{} // nil channels: never an event
	} else {
		defer watcher.Close()
	}
	ticker := time.NewTicker(f.opts.Interval)
	defer ticker.Stop()
	quiet := time.NewTimer(0)
	defer quiet.Stop()

	for {
		select {
		case <-ctx.Done():
			return nil
		case ev := <-watcher.Events:
			if ev.Op != fsnotify.Chmod {
				quiet.Reset(settle)
			}
		case err := <-watcher.Errors:
			// Events may have been lost.
			f.log.Warn("watching folders", zap.Error(err))
			quiet.Reset(settle)
		case <-ticker.C:
			f.watchAndRefresh(watcher)
		case <-quiet.C:
			f.watchAndRefresh(watcher)
		}
	}
}

// watchAndRefresh watches before it reads, so that no change falls between the two. A folder that was
// not there before, or was replaced, is watched from now on.
func (f *Files) watchAndRefresh(watcher *fsnotify.Watcher) {
	if watcher.Events != nil {
		for _, pattern := range f.opts.Patterns {
			if err := watcher.Add(filepath.Dir(pattern)); err != nil {
				f.log.Debug("folder cannot be watched yet", zap.String("folder", filepath.Dir(pattern)), zap.Error(err))
			}
		}
	}
	if err := f.Refresh(); err != nil {
		f.log.Debug("some target files cannot be read", zap.Error(err))
	}
}
