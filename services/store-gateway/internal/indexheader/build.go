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

// pieceLen is how much of the index is read with one request.
const pieceLen = 4 << 20

// Build reads what a header needs of the index called name and writes the header to w.
// It costs five requests and one for each 4 MiB of symbols and table. Errors wrap
// ErrCorrupt, or are those of the bucket.
func Build(ctx context.Context, bkt *rangeread.Bucket, name string, w io.Writer) error {
	size, err := bkt.Size(ctx, name)
	if err != nil {
		return err
	}
	if size < indexHeadLen+tocLen {
		return fmt.Errorf("%s: %w: truncated to %d bytes", name, ErrCorrupt, size)
	}
	version, err := readIndexHead(ctx, bkt, name)
	if err != nil {
		return err
	}
	tail := rangeread.Part{Off: size - tocLen, Buf: make([]byte, tocLen), Min: tocLen}
	if err := bkt.Read(ctx, name, &tail); err != nil {
		return err
	}
	toc, err := parseTOC(tail.Buf, size)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if _, err := w.Write(appendHead(nil, version, toc.PostingsTable)); err != nil {
		return err
	}
	if err := copyRange(ctx, bkt, name, int64(toc.Symbols), int64(toc.Series), w); err != nil {
		return err
	}
	if err := copyRange(ctx, bkt, name, int64(toc.PostingsTable), size, w); err != nil {
		return err
	}
	_, err = w.Write(appendFooter(nil, headLen+toc.Series-toc.Symbols))
	return err
}

func readIndexHead(ctx context.Context, bkt *rangeread.Bucket, name string) (version byte, err error) {
	head := rangeread.Part{Buf: make([]byte, indexHeadLen), Min: indexHeadLen}
	if err := bkt.Read(ctx, name, &head); err != nil {
		return 0, err
	}
	if m := binary.BigEndian.Uint32(head.Buf); m != index.MagicIndex {
		return 0, fmt.Errorf("%s: %w: it begins with %08x, not with %08x", name, ErrCorrupt, m, index.MagicIndex)
	}
	version = head.Buf[4]
	if version != index.FormatV1 && version != index.FormatV2 {
		return 0, fmt.Errorf("%s: %w: version %d, want 1 or 2", name, ErrCorrupt, version)
	}
	return version, nil
}

func copyRange(ctx context.Context, bkt *rangeread.Bucket, name string, start, end int64, w io.Writer) error {
	buf := make([]byte, min(end-start, pieceLen))
	for start < end {
		n := min(end-start, pieceLen)
		p := rangeread.Part{Off: start, Buf: buf[:n], Min: int(n)}
		if err := bkt.Read(ctx, name, &p); err != nil {
			return err
		}
		if _, err := w.Write(p.Buf); err != nil {
			return err
		}
		start += n
	}
	return nil
}

// BuildFile writes the header of the index called name to a file, whole or not at
// all, and makes the folder where it is missing.
func BuildFile(ctx context.Context, bkt *rangeread.Bucket, name, file string) (err error) {
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
	err = Build(ctx, bkt, name, f)
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

// BuildBytes returns the header of the index called name.
func BuildBytes(ctx context.Context, bkt *rangeread.Bucket, name string) ([]byte, error) {
	var b bytes.Buffer
	if err := Build(ctx, bkt, name, &b); err != nil {
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
