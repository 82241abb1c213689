package block

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/oklog/ulid/v2"
	"github.com/thanos-io/objstore"
	"golang.org/x/sync/errgroup"
)

// DownloadOptions change how Download works. The zero value is good.
type DownloadOptions struct {
	// Concurrency is how many files are fetched at once; below 1 means 1.
	Concurrency int
}

// Download brings a block into the local folder dir, which is made where it does not
// exist, and returns its meta.json. What is fetched is what readers need: the
// index, the chunk segments and meta.json; markers stay behind.
//
// meta.json is always fetched anew. A file that is there already is kept where its
// recorded hash matches, else fetched again, so a second call goes on where the
// first was cut off. Each file appears under its name when it is whole, its size and
// hash checked against what meta.json records, and meta.json appears last.
// Segments in dir that are not the block's are removed.
//
// Errors name the block and wrap ErrMetaNotFound, ErrMetaCorrupt, or ErrCorrupt (an
// object is missing or is not what was recorded); others may be retried.
func Download(ctx context.Context, bkt objstore.BucketReader, id ulid.ULID, dir string, opts DownloadOptions) (*Meta, error) {
	meta, err := FetchMeta(ctx, bkt, id)
	if err != nil {
		return nil, fmt.Errorf("download: %w", err)
	}
	if err := download(ctx, bkt, meta, dir, opts); err != nil {
		return nil, fmt.Errorf("download block %s: %w", id, err)
	}
	return meta, nil
}

func download(ctx context.Context, bkt objstore.BucketReader, meta *Meta, dir string, opts DownloadOptions) error {
	files, err := remoteFiles(ctx, bkt, meta)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(dir, ChunksDirname), 0o755); err != nil {
		return err
	}
	// A meta.json from before would call the folder whole while it is not.
	if err := removeIfThere(filepath.Join(dir, MetaFilename)); err != nil {
		return err
	}
	if err := removeStrangers(dir, files); err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(max(1, opts.Concurrency))
	for _, f := range files {
		g.Go(func() error { return fetchFile(gctx, bkt, meta.ULID, dir, f) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return WriteMetaDir(dir, meta)
}

// remoteFiles returns the block's data files: those meta.json lists, or, for blocks
// from before it did, those a listing shows.
func remoteFiles(ctx context.Context, bkt objstore.BucketReader, meta *Meta) ([]File, error) {
	var out []File
	hasIndex := false
	add := func(f File) {
		if isDataFile(f.RelPath) {
			hasIndex = hasIndex || f.RelPath == IndexFilename
			out = append(out, f)
		}
	}
	for _, f := range meta.Thanos.Files {
		add(f)
	}
	if hasIndex {
		return out, nil
	}
	out = nil
	names, err := listBlock(ctx, bkt, meta.ULID)
	if err != nil {
		return nil, fmt.Errorf("list: %w", err)
	}
	for _, name := range names {
		add(File{RelPath: strings.TrimPrefix(name, meta.ULID.String()+objstore.DirDelim)})
	}
	if !hasIndex {
		return nil, fmt.Errorf("%w: no index in the bucket", ErrCorrupt)
	}
	return out, checkSegments(meta, out)
}

// checkSegments makes sure that a listing shows all segments meta.json names.
func checkSegments(meta *Meta, files []File) error {
	have := map[string]bool{}
	for _, f := range files {
		have[f.RelPath] = true
	}
	for _, name := range meta.Thanos.SegmentFiles {
		if !have[path.Join(ChunksDirname, name)] {
			return fmt.Errorf("%w: chunk segment %s is missing in the bucket", ErrCorrupt, name)
		}
	}
	return nil
}

// removeStrangers removes segments and leftovers in dir that are not in files,
// since a TSDB reader opens all it finds.
func removeStrangers(dir string, files []File) error {
	want := map[string]bool{}
	for _, f := range files {
		want[f.RelPath] = true
	}
	entries, err := os.ReadDir(filepath.Join(dir, ChunksDirname))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if want[path.Join(ChunksDirname, e.Name())] || e.IsDir() {
			continue
		}
		if err := removeIfThere(filepath.Join(dir, ChunksDirname, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

func fetchFile(ctx context.Context, bkt objstore.BucketReader, id ulid.ULID, dir string, f File) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	name := filepath.Join(dir, filepath.FromSlash(f.RelPath))
	if f.Hash != nil && f.Hash.Func != HashNone {
		if have, err := hashFile(name, f.Hash.Func); err == nil && *have == *f.Hash {
			return nil
		}
	}
	r, err := bkt.Get(ctx, ObjectName(id, f.RelPath))
	if err != nil {
		if bkt.IsObjNotFoundErr(err) {
			return fmt.Errorf("%w: %s is missing in the bucket", ErrCorrupt, f.RelPath)
		}
		return fmt.Errorf("fetch %s: %w", f.RelPath, err)
	}
	err = store(name, r, f)
	if err = errors.Join(err, r.Close()); err != nil {
		if errors.Is(err, errSize) {
			err = sizeVerdict(ctx, bkt, id, f, err)
		}
		return fmt.Errorf("fetch %s: %w", f.RelPath, err)
	}
	return nil
}

// errSize says that another number of bytes came than was recorded.
var errSize = errors.New("wrong size")

// sizeVerdict tells an object of the wrong size, which stays wrong, from a stream
// that was cut off, which is worth another try.
func sizeVerdict(ctx context.Context, bkt objstore.BucketReader, id ulid.ULID, f File, err error) error {
	attrs, attrErr := bkt.Attributes(ctx, ObjectName(id, f.RelPath))
	if attrErr == nil && attrs.Size != f.SizeBytes {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return err
}

// store writes r under name once it is whole and is what f says.
func store(name string, r io.Reader, f File) (err error) {
	tmp := name + ".tmp"
	out, err := os.Create(tmp)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, removeIfThere(tmp))
		}
	}()
	h := sha256.New()
	var w io.Writer = out
	hashed := f.Hash != nil && f.Hash.Func == HashSHA256
	if hashed {
		w = io.MultiWriter(out, h)
	}
	n, err := io.Copy(w, r)
	if err = errors.Join(err, out.Close()); err != nil {
		return err
	}
	if f.SizeBytes > 0 && n != f.SizeBytes {
		return fmt.Errorf("%w: %d bytes, recorded were %d", errSize, n, f.SizeBytes)
	}
	if sum := hex.EncodeToString(h.Sum(nil)); hashed && sum != f.Hash.Value {
		return fmt.Errorf("%w: SHA256 is %s, recorded was %s", ErrCorrupt, sum, f.Hash.Value)
	}
	return os.Rename(tmp, name)
}
