package ship

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/thanos-io/objstore"
	"golang.org/x/sync/errgroup"

	"github.com/promontory-io/promontory/libs/block"
)

// ErrOverlap says that a compacted block was not uploaded because the bucket holds
// a block of the same labels and time. Both would serve the same samples.
var ErrOverlap = errors.New("compacted block overlaps a block in the bucket")

// guardWorkers is how many metas are read at once for the guard.
const guardWorkers = 32

// overlapGuard knows the bucket's blocks of one label set.
type overlapGuard struct {
	blocks []*block.Meta
}

// checkOverlap refuses a compacted block that overlaps one in the bucket. The bucket
// is read once per sync, and only in a sync with a compacted block to upload.
func (p *pass) checkOverlap(ctx context.Context, m *block.Meta) error {
	if p.guard == nil {
		g, err := newOverlapGuard(ctx, p.s.bkt, p.labels)
		if err != nil {
			return fmt.Errorf("look for blocks that overlap block %s: %w", m.ULID, err)
		}
		p.guard = g
	}
	if other := p.guard.overlapping(m); other != nil {
		return fmt.Errorf("%w: %s overlaps %s", ErrOverlap, m, other)
	}
	return nil
}

func (g *overlapGuard) overlapping(m *block.Meta) *block.Meta {
	for _, other := range g.blocks {
		if other.ULID != m.ULID && other.Overlaps(m.MinTime, m.MaxTime-1) {
			return other
		}
	}
	return nil
}

func newOverlapGuard(ctx context.Context, bkt objstore.BucketReader, lset labels.Labels) (*overlapGuard, error) {
	var ids []ulid.ULID
	err := bkt.Iter(ctx, "", func(name string) error {
		if id, rel, ok := block.SplitObject(name); ok && rel == "" {
			ids = append(ids, id)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	guard := &overlapGuard{}
	var mu sync.Mutex // guards guard.blocks
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(guardWorkers)
	for _, id := range ids {
		g.Go(func() error {
			m, err := block.FetchMeta(gctx, bkt, id)
			if errors.Is(err, block.ErrMetaNotFound) || errors.Is(err, block.ErrMetaCorrupt) {
				// Not visible as a block, so it serves no samples.
				return nil
			}
			if err != nil {
				return err
			}
			if !labels.Equal(m.ExternalLabels(), lset) {
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			guard.blocks = append(guard.blocks, m)
			return nil
		})
	}
	return guard, g.Wait()
}
