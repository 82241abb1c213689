package block

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/oklog/ulid/v2"
	"github.com/thanos-io/objstore"
)

// MaxMetaBytes bounds what is read of a meta.json. The largest ones list the
// sources of a two-week block: thousands of ULIDs, a few hundred KB.
const MaxMetaBytes = 32 << 20

var (
	// ErrMetaNotFound says that a block has no meta.json: it does not exist, is being
	// uploaded, or is being deleted.
	ErrMetaNotFound = errors.New("no meta.json")
	// ErrMetaCorrupt says that meta.json is there and cannot be used. Reading it
	// again does not help; report the block.
	ErrMetaCorrupt = errors.New("unusable meta.json")
)

// FetchMeta reads a block's meta.json from the bucket. The error names the block
// and wraps ErrMetaNotFound, ErrMetaCorrupt, or what the bucket said (may be retried).
func FetchMeta(ctx context.Context, bkt objstore.BucketReader, id ulid.ULID) (*Meta, error) {
	m, _, err := FetchMetaRaw(ctx, bkt, id)
	return m, err
}

// FetchMetaRaw is FetchMeta that also returns the bytes read, for who keeps a copy.
func FetchMetaRaw(ctx context.Context, bkt objstore.BucketReader, id ulid.ULID) (*Meta, []byte, error) {
	b, err := fetchObject(ctx, bkt, ObjectName(id, MetaFilename), MaxMetaBytes)
	if err != nil {
		if bkt.IsObjNotFoundErr(err) {
			err = ErrMetaNotFound
		}
		return nil, nil, fmt.Errorf("read meta.json of block %s: %w", id, err)
	}
	m, err := ParseMetaOf(id, b)
	if err != nil {
		return nil, nil, err
	}
	return m, b, nil
}

// ParseMetaOf decodes the meta.json found in the folder of block id, and checks
// that it speaks of that block. The error names the block and wraps ErrMetaCorrupt.
func ParseMetaOf(id ulid.ULID, b []byte) (*Meta, error) {
	m, err := ParseMeta(b)
	if err != nil {
		return nil, fmt.Errorf("block %s: %w", id, err)
	}
	if m.ULID != id {
		return nil, fmt.Errorf("block %s: %w: it names block %s", id, ErrMetaCorrupt, m.ULID)
	}
	return m, nil
}

// ReadMetaDir reads meta.json in a local block folder. The folder's name need not
// be the block's ULID, but where it is a ULID the two must agree.
// The error wraps ErrMetaNotFound or ErrMetaCorrupt, or comes from the file system.
func ReadMetaDir(dir string) (*Meta, error) {
	f, err := os.Open(filepath.Join(dir, MetaFilename))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = ErrMetaNotFound
		}
		return nil, fmt.Errorf("read block in %s: %w", dir, err)
	}
	defer f.Close()

	b, err := readLimited(f, MaxMetaBytes)
	if err != nil {
		return nil, fmt.Errorf("read block in %s: %w", dir, err)
	}
	if id, ok := ParseID(filepath.Base(dir)); ok {
		return ParseMetaOf(id, b)
	}
	m, err := ParseMeta(b)
	if err != nil {
		return nil, fmt.Errorf("read block in %s: %w", dir, err)
	}
	return m, nil
}

// ReadMeta reads one meta.json from r, at most MaxMetaBytes.
func ReadMeta(r io.Reader) (*Meta, error) {
	b, err := readLimited(r, MaxMetaBytes)
	if err != nil {
		return nil, err
	}
	return ParseMeta(b)
}

// WriteMetaDir writes meta.json into a local block folder, whole or not at all:
// a temporary file, synced and renamed. A hard link of the old file keeps the old content.
func WriteMetaDir(dir string, m *Meta) error {
	b, err := m.Encode()
	if err != nil {
		return err
	}
	if err := WriteFileAtomic(filepath.Join(dir, MetaFilename), b); err != nil {
		return fmt.Errorf("write meta.json of block %s: %w", m.ULID, err)
	}
	return nil
}

// Exists reports whether the block is in the bucket and whole, that is, has a meta.json.
func Exists(ctx context.Context, bkt objstore.BucketReader, id ulid.ULID) (bool, error) {
	ok, err := bkt.Exists(ctx, ObjectName(id, MetaFilename))
	if err != nil {
		return false, fmt.Errorf("look for block %s: %w", id, err)
	}
	return ok, nil
}

// IsPartial reports whether the bucket holds something of the block, but no
// meta.json: an upload or a deletion that has not ended, or was cut off.
func IsPartial(ctx context.Context, bkt objstore.BucketReader, id ulid.ULID) (bool, error) {
	ok, err := Exists(ctx, bkt, id)
	if err != nil || ok {
		return false, err
	}
	found := errors.New("found")
	err = bkt.Iter(ctx, id.String()+objstore.DirDelim, func(string) error { return found })
	if err != nil && !errors.Is(err, found) {
		return false, fmt.Errorf("list block %s: %w", id, err)
	}
	return err != nil, nil
}

// fetchObject reads a small object. A not-found error is returned as the bucket
// made it, since buckets recognise only their own.
func fetchObject(ctx context.Context, bkt objstore.BucketReader, name string, maxBytes int64) ([]byte, error) {
	r, err := bkt.Get(ctx, name)
	if err != nil {
		return nil, err
	}
	b, err := readLimited(r, maxBytes)
	// The read error goes out as it is, for some buckets find it wanting once wrapped.
	if closeErr := r.Close(); err == nil && closeErr != nil {
		return nil, closeErr
	}
	return b, err
}
