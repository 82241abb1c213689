package reload

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/fsnotify/fsnotify"

	"github.com/promontory-io/promontory/libs/block"
)

// maxConfig is the largest configuration that is unpacked.
const maxConfig = 64 << 20

// sum stands for the content of all files. The zero value stands for none.
type sum [sha256.Size]byte

// prepare reads all files, writes the output file where it is not as it should be, and watches
// every folder it meets.
func (r *Reloader) prepare(watcher *fsnotify.Watcher) (sum, error) {
	h := sha256.New()
	if err := r.prepareConfig(h, watcher); err != nil {
		return sum{}, err
	}
	for _, dir := range r.cfg.RuleDirs {
		if err := hashDir(h, dir, watcher.Add); err != nil {
			return sum{}, fmt.Errorf("--reloader.rule-dir=%s: %w", dir, err)
		}
	}
	return sum(h.Sum(nil)), nil
}

func (r *Reloader) prepareConfig(h hash.Hash, watcher *fsnotify.Watcher) error {
	if r.cfg.ConfigFile == "" {
		return nil
	}
	// The folder and not the file: files are replaced more often than written to.
	if err := watcher.Add(filepath.Dir(r.cfg.ConfigFile)); err != nil {
		return fmt.Errorf("--reloader.config-file=%s: watch its folder: %w", r.cfg.ConfigFile, err)
	}
	content, err := os.ReadFile(r.cfg.ConfigFile)
	if err != nil {
		return fmt.Errorf("--reloader.config-file: %w", err)
	}
	hashItem(h, r.cfg.ConfigFile, content)
	if r.cfg.OutputFile == "" {
		return nil
	}
	if content, err = unpack(content); err != nil {
		return fmt.Errorf("--reloader.config-file=%s: %w", r.cfg.ConfigFile, err)
	}
	content, missing := expand(content)
	r.metrics.expansionErrors.Set(float64(len(missing)))
	if len(missing) > 0 {
		return fmt.Errorf("--reloader.config-file=%s: environment variable not set: %s", r.cfg.ConfigFile, strings.Join(missing, ", "))
	}
	wrote, err := write(r.cfg.OutputFile, content)
	if err != nil {
		return fmt.Errorf("--reloader.config-envsubst-file: %w", err)
	}
	if wrote {
		r.loaded = sum{} // Prometheus has not seen this, whatever the template was
	}
	return nil
}

// write writes a file whole or not at all, unless it has that content already: writing it in any case would be
// an event that makes us write it again.
func write(name string, content []byte) (wrote bool, err error) {
	if old, err := os.ReadFile(name); err == nil && bytes.Equal(old, content) {
		return false, nil
	}
	return true, block.WriteFileAtomic(name, content)
}

// unpack decompresses content if it is compressed by gzip.
func unpack(content []byte) ([]byte, error) {
	if !bytes.HasPrefix(content, []byte{0x1f, 0x8b, 0x08}) {
		return content, nil
	}
	zr, err := gzip.NewReader(bytes.NewReader(content))
	if err != nil {
		return nil, fmt.Errorf("gzip: %w", err)
	}
	out, err := io.ReadAll(io.LimitReader(zr, maxConfig+1))
	if err != nil {
		return nil, fmt.Errorf("gzip: %w", err)
	}
	if len(out) > maxConfig {
		return nil, fmt.Errorf("is larger than %d bytes when unpacked", maxConfig)
	}
	return out, nil
}

var envReference = regexp.MustCompile(`\$\(([a-zA-Z_][a-zA-Z0-9_]*)\)`)

// expand replaces each $(NAME) by the environment variable. It returns the names that are
// not set, each once, sorted.
func expand(content []byte) (out []byte, missing []string) {
	out = envReference.ReplaceAllFunc(content, func(ref []byte) []byte {
		name := string(ref[2 : len(ref)-1])
		value, ok := os.LookupEnv(name)
		if !ok {
			missing = append(missing, name)
		}
		return []byte(value)
	})
	slices.Sort(missing)
	return out, slices.Compact(missing)
}

// hashItem enters a file so that its name and content cannot be taken for those of others.
func hashItem(h hash.Hash, name string, content []byte) {
	var size [16]byte
	binary.BigEndian.PutUint64(size[:8], uint64(len(name)))
	binary.BigEndian.PutUint64(size[8:], uint64(len(content)))
	h.Write(size[:])
	h.Write([]byte(name))
	h.Write(content)
}

// hashDir enters all files below dir and calls watch for each folder.
func hashDir(h hash.Hash, dir string, watch func(string) error) error {
	root, err := filepath.EvalSymlinks(dir) // a walk does not follow links
	if err != nil {
		return err
	}
	return filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return gone(err)
		}
		// Kubernetes keeps what the links in a mounted folder point to in folders such as ..data.
		if strings.HasPrefix(e.Name(), "..") && path != root {
			if e.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if e.IsDir() {
			return gone(watch(path))
		}
		if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
			return gone(err)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return gone(err)
		}
		hashItem(h, path, content)
		return nil
	})
}

// gone forgives what vanished while we were looking, and links that lead nowhere.
func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
