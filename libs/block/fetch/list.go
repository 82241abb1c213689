package fetch

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/thanos-io/objstore"
	"golang.org/x/sync/errgroup"

	"github.com/promontory-io/promontory/libs/block"
)

// Strategy is how the blocks of a bucket are found.
type Strategy string

const (
	// Concurrent lists the root only and asks for each block whether its meta.json
	// exists. Right for stores where listing all objects is slow or costs more.
	Concurrent Strategy = "concurrent"
	// Recursive lists all objects. One request in a thousand objects, and it shows markers too.
	Recursive Strategy = "recursive"
)

// listWorkers is how many blocks are asked for at once by Concurrent.
const listWorkers = 64

// ParseStrategy checks the value of --block-discovery-strategy.
func ParseStrategy(s string) (Strategy, error) {
	switch st := Strategy(s); st {
	case Concurrent, Recursive:
		return st, nil
	default:
		return "", fmt.Errorf("block discovery strategy %q is unknown: use %s or %s", s, Concurrent, Recursive)
	}
}

// MarkKind is a set of marker kinds.
type MarkKind uint8

// The marker kinds.
const (
	DeletionMarks MarkKind = 1 << iota
	NoCompactMarks
	NoDownsampleMarks
)

// sighting is what a listing tells of one block.
type sighting struct {
	hasMeta bool
	// modified is when meta.json was last written, zero where the listing does not tell.
	modified time.Time
	// marks are the markers seen; meaningful only in a listing that shows markers.
	marks MarkKind
	// err is set where the block could not be asked for.
	err error
}

// listing is what lies in the bucket at one moment.
type listing struct {
	blocks     map[ulid.ULID]*sighting
	showsMarks bool
}

func (l *listing) see(id ulid.ULID) *sighting {
	s, ok := l.blocks[id]
	if !ok {
		s = &sighting{}
		l.blocks[id] = s
	}
	return s
}

func list(ctx context.Context, bkt objstore.BucketReader, strategy Strategy) (*listing, error) {
	l := &listing{blocks: map[ulid.ULID]*sighting{}, showsMarks: strategy == Recursive}
	var err error
	if strategy == Recursive {
		err = l.recursive(ctx, bkt)
	} else {
		err = l.concurrent(ctx, bkt)
	}
	if err != nil {
		return nil, fmt.Errorf("list blocks: %w", err)
	}
	return l, nil
}

func (l *listing) recursive(ctx context.Context, bkt objstore.BucketReader) error {
	opts := []objstore.IterOption{objstore.WithRecursiveIter()}
	if !slices.Contains(bkt.SupportedIterOptions(), objstore.UpdatedAt) {
		return bkt.Iter(ctx, "", func(name string) error {
			l.object(name, time.Time{})
			return nil
		}, opts...)
	}
	opts = append(opts, objstore.WithUpdatedAt())
	return bkt.IterWithAttributes(ctx, "", func(a objstore.IterObjectAttributes) error {
		modified, _ := a.LastModified()
		l.object(a.Name, modified)
		return nil
	}, opts...)
}

func (l *listing) object(name string, modified time.Time) {
	id, rel, ok := block.SplitObject(name)
	// A bare ULID at the root is an object, not a folder with a block in it.
	if !ok || rel == "" {
		return
	}
	s := l.see(id)
	switch rel {
	case block.MetaFilename:
		s.hasMeta, s.modified = true, modified
	case block.DeletionMarkFilename:
		s.marks |= DeletionMarks
	case block.NoCompactMarkFilename:
		s.marks |= NoCompactMarks
	case block.NoDownsampleMarkFilename:
		s.marks |= NoDownsampleMarks
	}
}

func (l *listing) concurrent(ctx context.Context, bkt objstore.BucketReader) error {
	var ids []ulid.ULID
	err := bkt.Iter(ctx, "", func(name string) error {
		trimmed := name
		if n := len(name) - len(objstore.DirDelim); n >= 0 && name[n:] == objstore.DirDelim {
			trimmed = name[:n]
		}
		if id, ok := block.ParseID(trimmed); ok && trimmed != name {
			ids = append(ids, id)
		}
		return nil
	})
	if err != nil {
		return err
	}
	var mu sync.Mutex // guards l.blocks
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(listWorkers)
	for _, id := range ids {
		g.Go(func() error {
			ok, err := block.Exists(gctx, bkt, id)
			mu.Lock()
			defer mu.Unlock()
			*l.see(id) = sighting{hasMeta: ok, err: err}
			// Only the end of the sync ends the others' questions.
			return ctx.Err()
		})
	}
	return g.Wait()
}
