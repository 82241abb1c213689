package discovery

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
)

// filePattern is what a file_sd pattern may look like: a "*" in the last element only, and a known ending.
var filePattern = regexp.MustCompile(`^[^*]*(\*[^/]*)?\.(json|yml|yaml|JSON|YML|YAML)$`)

// DefaultFileInterval is how often files are read again even if nothing was seen to change.
const DefaultFileInterval = 5 * time.Minute

// FilesOptions make [Files].
type FilesOptions struct {
	// Patterns are paths, whose last element may hold a "*".
	Patterns []string
	// Interval is how often files are read even if no change was seen; 0 means [DefaultFileInterval].
	Interval time.Duration
	// ForgetAfter is how long a file that vanished stays in the state; 0 means 1 h.
	ForgetAfter time.Duration
	Logger      *zap.Logger
	// Now is the clock; nil means the system's.
	Now func() time.Time
}

// FileTarget is an address listed in a file. It may carry a DNS prefix.
type FileTarget struct {
	Addr string
	// File is the path of the file.
	File string
}

// FileState is what is known of one file.
type FileState struct {
	// Path is the file, or a pattern that has never matched any.
	Path string
	// Targets are in use; those of the last good content while the file cannot be read, and
	// those that were lost if it has vanished.
	Targets []string
	// LastSuccess is when the file was last read well; zero if never.
	LastSuccess time.Time
	// Err is why the file could not be read the last time, or is not there.
	Err error
	// FailingSince is since when Err holds; zero if there is none.
	FailingSince time.Time
	// Vanished tells that the file is gone: its targets are no longer in use.
	Vanished bool
}

// Files follows target files. It is safe for concurrent use.
type Files struct {
	opts    FilesOptions
	log     *zap.Logger
	changed chan struct{}

	mu     sync.RWMutex // guards what follows
	states map[string]*FileState
}

// NewFiles returns a follower that has read nothing yet; a pattern of a wrong form is an error.
func NewFiles(opts FilesOptions) (*Files, error) {
	for _, p := range opts.Patterns {
		if !filePattern.MatchString(p) {
			return nil, fmt.Errorf("file pattern %q: want a path ending in .json, .yml or .yaml with \"*\" in its last element only", p)
		}
	}
	if opts.Interval <= 0 {
		opts.Interval = DefaultFileInterval
	}
	if opts.ForgetAfter <= 0 {
		opts.ForgetAfter = defaultForgetAfter
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	log := opts.Logger
	if log == nil {
		log = zap.NewNop()
	}
	return &Files{opts: opts, log: log.Named("file_sd"), changed: make(chan struct{}, 1), states: map[string]*FileState{}}, nil
}

// Changed is signalled after the targets have changed. Signals nobody waited for become one.
func (f *Files) Changed() <-chan struct{} { return f.changed }

// Targets returns the targets in use, sorted by file, in the order of each file.
func (f *Files) Targets() []FileTarget {
	f.mu.RLock()
	defer f.mu.RUnlock()
	var out []FileTarget
	for _, path := range f.sortedPaths() {
		s := f.states[path]
		if s.Vanished {
			continue
		}
		for _, t := range s.Targets {
			out = append(out, FileTarget{Addr: t, File: path})
		}
	}
	return out
}

// State returns what is known of each file and of patterns without a file, sorted by path.
func (f *Files) State() []FileState {
	f.mu.RLock()
	defer f.mu.RUnlock()
	out := make([]FileState, 0, len(f.states))
	for _, path := range f.sortedPaths() {
		s := *f.states[path]
		s.Targets = slices.Clone(s.Targets)
		out = append(out, s)
	}
	return out
}

// sortedPaths needs mu.
func (f *Files) sortedPaths() []string {
	paths := make([]string, 0, len(f.states))
	for p := range f.states {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	return paths
}

// fileRead is what reading one path brought.
type fileRead struct {
	targets []string
	err     error
}

// Refresh reads all files now. The error joins those that could not be read, which keep their last targets.
func (f *Files) Refresh() error {
	reads := f.readAll()
	if f.apply(reads) {
		select {
		case f.changed <- struct{}{}:
		default: // somebody has yet to take the last signal, which says the same
		}
	}
	var errs []error
	for _, r := range reads {
		errs = append(errs, r.err)
	}
	return errors.Join(errs...)
}

// readAll returns what each path holds; a pattern without any file stands for itself.
func (f *Files) readAll() map[string]fileRead {
	reads := map[string]fileRead{}
	for _, pattern := range f.opts.Patterns {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			reads[pattern] = fileRead{err: fmt.Errorf("file pattern %q: %w", pattern, err)}
			continue
		}
		if len(paths) == 0 && !f.everMatched(pattern) {
			reads[pattern] = fileRead{err: fmt.Errorf("%s: no such file", pattern)}
		}
		for _, path := range paths {
			if _, done := reads[path]; done {
				continue
			}
			content, err := os.ReadFile(path)
			switch {
			case errors.Is(err, fs.ErrNotExist):
				// Gone between the listing and the reading: the same as not listed.
			case err != nil:
				reads[path] = fileRead{err: err}
			default:
				targets, err := ParseTargets(path, content)
				reads[path] = fileRead{targets: targets, err: err}
			}
		}
	}
	return reads
}

// everMatched tells whether a file known now is, or was, found by pattern; then that file's state says more than the pattern's.
func (f *Files) everMatched(pattern string) bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	for path, s := range f.states {
		if s.LastSuccess.IsZero() && path == pattern {
			continue
		}
		if ok, err := filepath.Match(pattern, path); ok && err == nil {
			return true
		}
	}
	return false
}

// apply takes what was read into the state and tells whether the targets in use have changed.
func (f *Files) apply(reads map[string]fileRead) bool {
	now := f.opts.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	changed := false
	for path, r := range reads {
		s := f.states[path]
		if s == nil {
			s = &FileState{Path: path}
			f.states[path] = s
		}
		changed = f.takeRead(s, r, now) || changed
	}
	for path, s := range f.states {
		if _, there := reads[path]; there {
			continue
		}
		changed = f.takeVanished(s, now) || changed
		if s.LastSuccess.IsZero() || now.Sub(s.FailingSince) >= f.opts.ForgetAfter {
			delete(f.states, path)
		}
	}
	return changed
}

func (f *Files) takeRead(s *FileState, r fileRead, now time.Time) (changed bool) {
	if r.err != nil {
		if s.FailingSince.IsZero() {
			s.FailingSince = now
			f.log.Warn("target file cannot be read, keeping its last targets",
				zap.String("file", s.Path), zap.Strings("kept", s.Targets), zap.Error(r.err))
		}
		s.Err = r.err
		// A vanished file that is back but unreadable offers what it had.
		changed = s.Vanished && len(s.Targets) > 0
		s.Vanished = false
		return changed
	}
	if !s.FailingSince.IsZero() {
		f.log.Info("target file can be read again", zap.String("file", s.Path), zap.Strings("targets", r.targets))
	}
	changed = s.Vanished && len(r.targets) > 0 || !s.Vanished && !slices.Equal(s.Targets, r.targets)
	*s = FileState{Path: s.Path, Targets: r.targets, LastSuccess: now}
	return changed
}

func (f *Files) takeVanished(s *FileState, now time.Time) (changed bool) {
	if s.Vanished || s.LastSuccess.IsZero() {
		return false
	}
	f.log.Warn("target file vanished", zap.String("file", s.Path), zap.Strings("targets", s.Targets))
	s.Vanished = true
	s.FailingSince = now
	s.Err = fmt.Errorf("%s: no such file any more", s.Path)
	return len(s.Targets) > 0
}
