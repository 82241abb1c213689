package indexheader

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/prometheus/prometheus/tsdb/index"

	"github.com/promontory-io/promontory/services/store-gateway/internal/rangeread"
)

const (
	// pieceLen is how much of the index is read with one request.
	pieceLen = 4 << 20
	// minTail and maxTail bound how much of the end of an index is read together with its table of contents, in the hope that
	// the postings offset table lies in it: one in tailShare of all bytes.
	minTail, maxTail = 64 << 10, 512 << 10
	tailShare        = 16
	// maxLead is how many bytes before the symbols are worth no request of their own.
	maxLead = 4 << 10
)

// Index is an index in the bucket.
type Index struct {
	// Name is the object's.
	Name string
	// Size is in bytes, as the metadata of the block have it; 0 where they do not. It spares a request, and is not believed
	// where it proves wrong.
	Size int64
}

// indexReader reads an index of which the end is in memory.
type indexReader struct {
	bkt     *rangeread.Bucket
	name    string
	version byte
	toc     *index.TOC
	size    int64
	tail    []byte
	tailOff int64 // where tail begins
}

// Build reads what a header needs of an index and writes the header to w. It costs one request for a small index, and otherwise
// one for its end, and one for each 4 MiB of symbols and of the table, where that is not in the end. Errors wrap ErrCorrupt, or
// are those of the bucket.
func Build(ctx context.Context, bkt *rangeread.Bucket, ix Index, w io.Writer) error {
	r := &indexReader{bkt: bkt, name: ix.Name}
	if err := r.open(ctx, ix.Size); err != nil {
		return err
	}
	first, err := r.first(ctx)
	if err != nil {
		return err
	}
	if _, err := w.Write(appendHead(nil, r.version, r.toc.PostingsTable)); err != nil {
		return err
	}
	symbols := int64(r.toc.Symbols)
	if n := int64(len(first)); n > symbols {
		if _, err := w.Write(first[symbols:]); err != nil {
			return err
		}
		symbols = n
	}
	if err := r.copyRange(ctx, symbols, int64(r.toc.Series), w); err != nil {
		return err
	}
	if err := r.copyRange(ctx, int64(r.toc.PostingsTable), r.size, w); err != nil {
		return err
	}
	_, err = w.Write(appendFooter(nil, headLen+r.toc.Series-r.toc.Symbols))
	return err
}

// open reads the end of the index, for which it takes the size that it is told unless that proves wrong.
func (r *indexReader) open(ctx context.Context, size int64) error {
	var first error
	if size > 0 {
		first = r.openSized(ctx, size)
		if first == nil || !errors.Is(first, ErrCorrupt) && !errors.Is(first, rangeread.ErrTruncated) {
			return first
		}
	}
	real, err := r.bkt.Size(ctx, r.name)
	if err != nil {
		return err
	}
	if first != nil && real == size {
		return first
	}
	return r.openSized(ctx, real)
}

func (r *indexReader) openSized(ctx context.Context, size int64) error {
	if size < indexHeadLen+tocLen {
		return fmt.Errorf("%s: %w: truncated to %d bytes", r.name, ErrCorrupt, size)
	}
	n := min(max(size/tailShare, minTail), maxTail, size)
	tail := rangeread.Part{Off: size - n, Buf: make([]byte, n), Min: int(n)}
	if err := r.bkt.Read(ctx, r.name, &tail); err != nil {
		return err
	}
	toc, err := parseTOC(tail.Buf[n-tocLen:], size)
	if err != nil {
		return fmt.Errorf("%s: %w", r.name, err)
	}
	r.toc, r.size, r.tail, r.tailOff = toc, size, tail.Buf, tail.Off
	return nil
}

// first reads the beginning of the index, with the first of the symbols where they follow closely, and learns the version.
func (r *indexReader) first(ctx context.Context) ([]byte, error) {
	n := int64(indexHeadLen)
	if r.toc.Symbols <= maxLead {
		n = min(int64(r.toc.Series), pieceLen)
	}
	buf := make([]byte, n)
	if err := r.read(ctx, 0, buf); err != nil {
		return nil, err
	}
	if m := binary.BigEndian.Uint32(buf); m != index.MagicIndex {
		return nil, fmt.Errorf("%s: %w: it begins with %08x, not with %08x", r.name, ErrCorrupt, m, index.MagicIndex)
	}
	r.version = buf[4]
	if r.version != index.FormatV1 && r.version != index.FormatV2 {
		return nil, fmt.Errorf("%s: %w: version %d, want 1 or 2", r.name, ErrCorrupt, r.version)
	}
	return buf, nil
}

// read fills buf with what is at off.
func (r *indexReader) read(ctx context.Context, off int64, buf []byte) error {
	if before := r.tailOff - off; before < int64(len(buf)) {
		copy(buf[max(before, 0):], r.tail[max(-before, 0):])
		if before <= 0 {
			return nil
		}
		buf = buf[:before]
	}
	p := rangeread.Part{Off: off, Buf: buf, Min: len(buf)}
	return r.bkt.Read(ctx, r.name, &p)
}

func (r *indexReader) copyRange(ctx context.Context, start, end int64, w io.Writer) error {
	buf := make([]byte, max(0, min(end-start, pieceLen)))
	for start < end {
		piece := buf[:min(end-start, pieceLen)]
		if err := r.read(ctx, start, piece); err != nil {
			return err
		}
		if _, err := w.Write(piece); err != nil {
			return err
		}
		start += int64(len(piece))
	}
	return nil
}

// BuildFile writes the header of an index to a file, whole or not at
// all, and makes the folder where it is missing.
func BuildFile(ctx context.Context, bkt *rangeread.Bucket, ix Index, file string) (err error) {
	dir := filepath.Dir(file)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	tmp := file + ".tmp"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, removeIfThere(tmp))
		}
	}()
	err = Build(ctx, bkt, ix, f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, file); err != nil {
		return err
	}
	return syncDir(dir)
}

// BuildBytes returns the header of an index.
func BuildBytes(ctx context.Context, bkt *rangeread.Bucket, ix Index) ([]byte, error) {
	var b bytes.Buffer
	if err := Build(ctx, bkt, ix, &b); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// syncDir makes a rename in a folder durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func removeIfThere(name string) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
