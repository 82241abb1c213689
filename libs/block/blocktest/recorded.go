package blocktest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	_ "embed" // for the recorded buckets
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// Recorded buckets; testdata/README.md says what they hold.
var (
	//go:embed testdata/bucket-before.tgz
	bucketBefore []byte
	//go:embed testdata/bucket-after.tgz
	bucketAfter []byte
)

// RecordedBefore unpacks the bucket of an HA pair's 2h blocks into a fresh folder,
// for a FILESYSTEM bucket, and returns it.
func RecordedBefore(tb testing.TB) string {
	tb.Helper()
	return unpackTemp(tb, bucketBefore)
}

// RecordedAfter unpacks the same bucket as Thanos' compactor left it: deduplicated,
// compacted and downsampled.
func RecordedAfter(tb testing.TB) string {
	tb.Helper()
	return unpackTemp(tb, bucketAfter)
}

func unpackTemp(tb testing.TB, tgz []byte) string {
	tb.Helper()
	dir := tb.TempDir()
	if err := Unpack(bytes.NewReader(tgz), dir); err != nil {
		tb.Fatalf("unpack recorded bucket: %v", err)
	}
	return dir
}

// Unpack writes the folders and files of a gzipped tar below dir, which is a
// FILESYSTEM bucket then. Names that lead out of dir are refused.
func Unpack(r io.Reader, dir string) error {
	gz, err := gzip.NewReader(r)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	tr := tar.NewReader(gz)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return errors.Join(gz.Close(), root.Close())
		}
		if err == nil {
			err = unpackEntry(root, h, tr)
		}
		if err != nil {
			return errors.Join(err, root.Close())
		}
	}
}

func unpackEntry(root *os.Root, h *tar.Header, r io.Reader) error {
	name := filepath.Clean(filepath.FromSlash(h.Name))
	switch h.Typeflag {
	case tar.TypeDir:
		return root.MkdirAll(name, 0o755)
	case tar.TypeReg:
	default:
		return fmt.Errorf("entry %s is neither a file nor a folder", h.Name)
	}
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := root.Create(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}
