package block

import (
	"path"
	"strings"

	"github.com/oklog/ulid/v2"
)

// Names of a block's objects, relative to its folder.
const (
	MetaFilename             = "meta.json"
	IndexFilename            = "index"
	ChunksDirname            = "chunks"
	DeletionMarkFilename     = "deletion-mark.json"
	NoCompactMarkFilename    = "no-compact-mark.json"
	NoDownsampleMarkFilename = "no-downsample-mark.json"
)

// ParseID returns the ULID that name spells. Only the canonical text counts: 26
// upper-case Crockford characters. Anything else at the root of a bucket is not a
// block and is to be ignored.
func ParseID(name string) (ulid.ULID, bool) {
	id, err := ulid.ParseStrict(name)
	if err != nil || id.String() != name {
		return ulid.ULID{}, false
	}
	return id, true
}

// SplitObject takes an object's name apart into the block it belongs to and its
// name within the block, which is empty for the folder itself. ok is false when
// the object lies outside of any block.
func SplitObject(name string) (id ulid.ULID, rel string, ok bool) {
	first, rest, _ := strings.Cut(name, "/")
	id, ok = ParseID(first)
	return id, rest, ok
}

// ObjectName returns the name of a block's object, e.g. of "chunks/000001".
func ObjectName(id ulid.ULID, rel string) string {
	return path.Join(id.String(), rel)
}

// isSegmentName reports whether name is that of a chunk segment: digits only,
// six of them unless the block has a million segments.
func isSegmentName(name string) bool {
	if len(name) < 6 {
		return false
	}
	for _, c := range name {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// isDataFile reports whether rel names a part of a block that readers need, next
// to meta.json: the index or a chunk segment.
func isDataFile(rel string) bool {
	if rel == IndexFilename {
		return true
	}
	dir, name := path.Split(rel)
	return dir == ChunksDirname+"/" && isSegmentName(name)
}
