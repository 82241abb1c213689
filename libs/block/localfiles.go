package block

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"

	"github.com/prometheus/prometheus/tsdb/chunks"
)

// segment is a local chunk segment.
type segment struct {
	name string
	size int64
}

// fileErr makes a missing file a property of the block.
func fileErr(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return err
}

// listSegments returns the chunk segments of a local block in order. They must be
// numbered from 1 without a gap, for references count them, and begin like segments.
// A block without samples may have none.
func listSegments(dir string) ([]segment, error) {
	entries, err := os.ReadDir(filepath.Join(dir, ChunksDirname))
	if err != nil {
		return nil, fileErr(err)
	}
	var out []segment
	for _, e := range entries {
		if !isSegmentName(e.Name()) {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return nil, fileErr(err)
		}
		name := filepath.Join(dir, ChunksDirname, e.Name())
		if n, err := strconv.Atoi(e.Name()); err != nil || n != len(out)+1 {
			return nil, fmt.Errorf("%w: chunk segment %06d is missing in %s, next is %s", ErrCorrupt, len(out)+1, dir, e.Name())
		}
		if err := checkSegmentHeader(name); err != nil {
			return nil, err
		}
		out = append(out, segment{name: e.Name(), size: info.Size()})
	}
	return out, nil
}

func checkSegmentHeader(name string) (err error) {
	f, err := os.Open(name)
	if err != nil {
		return fileErr(err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()

	head := make([]byte, chunks.SegmentHeaderSize)
	if n, err := f.ReadAt(head, 0); n < len(head) {
		return fmt.Errorf("%w: chunk segment %s is cut off after %d bytes: %w", ErrCorrupt, name, n, err)
	}
	if magic := binary.BigEndian.Uint32(head); magic != chunks.MagicChunks {
		return fmt.Errorf("%w: chunk segment %s begins with %08x, not with %08x", ErrCorrupt, name, magic, chunks.MagicChunks)
	}
	return nil
}

// ListFiles returns the files of a local block that belong into a bucket, sorted by path
// and with their sizes: the chunk segments, the index, and meta.json (no size, no
// hash, for its content lists itself). hf adds checksums, at the price of reading all bytes.
// A gap in the segments or a missing index wraps ErrCorrupt.
func ListFiles(dir string, hf HashFunc) ([]File, error) {
	segments, err := listSegments(dir)
	if err != nil {
		return nil, err
	}
	files := make([]File, 0, len(segments)+2)
	for _, s := range segments {
		files = append(files, File{RelPath: path.Join(ChunksDirname, s.name), SizeBytes: s.size})
	}
	st, err := os.Stat(filepath.Join(dir, IndexFilename))
	if err != nil {
		return nil, fileErr(err)
	}
	files = append(files, File{RelPath: IndexFilename, SizeBytes: st.Size()})
	for i := range files {
		if files[i].Hash, err = hashFile(filepath.Join(dir, filepath.FromSlash(files[i].RelPath)), hf); err != nil {
			return nil, err
		}
	}
	return append(files, File{RelPath: MetaFilename}), nil
}

// segmentNames returns the base names of the chunk segments among files.
func segmentNames(files []File) []string {
	var out []string
	for _, f := range files {
		if dir, name := path.Split(f.RelPath); dir == ChunksDirname+"/" {
			out = append(out, name)
		}
	}
	return out
}
