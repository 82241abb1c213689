package bucket

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/oklog/ulid/v2"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/objstore"
)

// objectsOf returns the objects of a block by their path in it, with their sizes.
func objectsOf(ctx context.Context, bkt objstore.BucketReader, id ulid.ULID) (map[string]int64, error) {
	var names []string
	err := bkt.Iter(ctx, id.String()+objstore.DirDelim, func(name string) error {
		names = append(names, name)
		return nil
	}, objstore.WithRecursiveIter())
	if err != nil {
		return nil, fmt.Errorf("list the objects of block %s: %w", id, err)
	}
	out := map[string]int64{}
	for _, name := range names {
		_, rel, ok := block.SplitObject(name)
		if !ok || rel == "" || strings.HasSuffix(name, objstore.DirDelim) {
			continue
		}
		attrs, err := bkt.Attributes(ctx, name)
		if bkt.IsObjNotFoundErr(err) {
			continue // deleted since it was listed
		}
		if err != nil {
			return nil, fmt.Errorf("look at %s: %w", name, err)
		}
		out[rel] = attrs.Size
	}
	return out, nil
}

// download writes an object into a file.
func download(ctx context.Context, bkt objstore.BucketReader, name, path string) (err error) {
	r, err := bkt.Get(ctx, name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}

// copied is what copyBlock did.
type copied struct {
	objects int
	// already tells that the target had the block, with the same meta.json.
	already bool
}

// errDiffers says that the target holds another block under the same ULID.
var errDiffers = errors.New("the target has a block of this ULID with another meta.json")

// copyBlock brings a whole block from one bucket into another: chunks, then the index, then meta.json, so that it is
// visible there only when whole. Objects that are there with the right size are not sent again, so that a copy that was
// cut off goes on. Markers stay behind. A block that the target has with another meta.json is errDiffers, unless replace
// asks for it to be overwritten. Errors name the block.
func copyBlock(ctx context.Context, from objstore.BucketReader, to objstore.Bucket, id ulid.ULID, replace bool) (c copied, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("copy block %s: %w", id, err)
		}
	}()
	// Read once: what is compared is what is written in the end.
	_, raw, err := block.FetchMetaRaw(ctx, from, id)
	if err != nil {
		return c, err
	}
	switch _, there, err := block.FetchMetaRaw(ctx, to, id); {
	case err == nil && bytes.Equal(raw, there):
		return copied{already: true}, nil
	case err == nil && !replace:
		return c, errDiffers
	case err != nil && !errors.Is(err, block.ErrMetaNotFound) && !errors.Is(err, block.ErrMetaCorrupt):
		return c, err
	}
	source, err := objectsOf(ctx, from, id)
	if err != nil {
		return c, err
	}
	target, err := objectsOf(ctx, to, id)
	if err != nil {
		return c, err
	}
	for _, rel := range copyOrder(source) {
		if size, ok := target[rel]; ok && size == source[rel] {
			continue
		}
		if err := copyObject(ctx, from, to, block.ObjectName(id, rel), source[rel]); err != nil {
			return c, err
		}
		c.objects++
	}
	if err := to.Upload(ctx, block.ObjectName(id, block.MetaFilename), bytes.NewReader(raw)); err != nil {
		return c, fmt.Errorf("write %s: %w", block.MetaFilename, err)
	}
	c.objects++
	return c, nil
}

// copyOrder returns the paths to copy before meta.json: segments, then the index.
func copyOrder(objects map[string]int64) []string {
	rels := slices.DeleteFunc(slices.Collect(maps.Keys(objects)), func(rel string) bool {
		return rel != block.IndexFilename && !strings.HasPrefix(rel, block.ChunksDirname+"/")
	})
	last := func(rel string) int {
		if rel == block.IndexFilename {
			return 1
		}
		return 0
	}
	slices.SortFunc(rels, func(a, b string) int { return cmp.Or(cmp.Compare(last(a), last(b)), cmp.Compare(a, b)) })
	return rels
}

func copyObject(ctx context.Context, from objstore.BucketReader, to objstore.Bucket, name string, size int64) (err error) {
	r, err := from.Get(ctx, name)
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if err := to.Upload(ctx, name, sized{r, size}); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	attrs, err := to.Attributes(ctx, name)
	if err != nil {
		return fmt.Errorf("look at the copy of %s: %w", name, err)
	}
	if attrs.Size != size {
		return fmt.Errorf("%w: %s has %d bytes, %d were to be sent", block.ErrVerify, name, attrs.Size, size)
	}
	return nil
}

// sized tells clients the length of what they upload, which spares them buffering it.
type sized struct {
	io.Reader

	size int64
}

// ObjectSize implements the interface that the bucket clients ask for.
func (s sized) ObjectSize() (int64, error) { return s.size, nil }
