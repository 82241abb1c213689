package history

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync/atomic"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/promontory-io/promontory/libs/block"
	"github.com/thanos-io/objstore"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/promontory-io/promontory/tools/promontory/internal/demo"
)

// Deps is what making history needs.
type Deps struct {
	Bucket objstore.Bucket
	Logger *zap.Logger
	// WorkDir is a folder on disk for the blocks before they are uploaded; what is in it is removed.
	WorkDir string
	// Progress, where it is set, is told how many of how many blocks there are, from several goroutines.
	Progress func(done, total int)
}

// Make brings the history into the bucket and returns the number of blocks that it made; blocks that are there already
// are left alone. On an error, or when ctx ends, the blocks made until then stay, and the next call goes on with the rest.
func Make(ctx context.Context, c Config, deps Deps) (made int, err error) {
	if err := c.Validate(); err != nil {
		return 0, err
	}
	if err := os.RemoveAll(deps.WorkDir); err != nil {
		return 0, fmt.Errorf("clear work folder of history: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(deps.WorkDir)) }()

	items := plan(c)
	var done, fresh atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, it := range items {
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			wasMade, err := makeOne(ctx, c, it, deps)
			if err != nil {
				return fmt.Errorf("make history block %s of %v: %w", it.id, it.replica.Labels, err)
			}
			if wasMade {
				fresh.Add(1)
			}
			if n := done.Add(1); deps.Progress != nil {
				deps.Progress(int(n), len(items))
			}
			return nil
		})
	}
	err = g.Wait()
	return int(fresh.Load()), err
}

// makeOne makes one block unless it is in the bucket.
func makeOne(ctx context.Context, c Config, it item, deps Deps) (made bool, err error) {
	there, err := block.Exists(ctx, deps.Bucket, it.id)
	if err != nil || there {
		return false, err
	}
	work := filepath.Join(deps.WorkDir, it.id.String())
	if err := os.MkdirAll(work, 0o755); err != nil {
		return false, err
	}
	dir, err := writeBlock(ctx, c, it, work)
	if err != nil || dir == "" {
		return false, err
	}
	if _, err := block.Upload(ctx, deps.Logger, deps.Bucket, dir, block.UploadOptions{}); err != nil {
		return false, err
	}
	return true, os.RemoveAll(work)
}

// writeBlock writes the block below work and returns its folder, "" when there is no sample to be written.
func writeBlock(ctx context.Context, c Config, it item, work string) (dir string, err error) {
	writer, err := tsdb.NewBlockWriter(slog.New(slog.DiscardHandler), work, BlockRange.Milliseconds())
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, writer.Close()) }()
	samples, err := scrape(ctx, writer, c, it, demo.Targets())
	if err != nil || samples == 0 {
		return "", err
	}
	written, err := writer.Flush(ctx)
	if err != nil {
		return "", err
	}
	return adopt(work, written, it)
}

// adopt gives a fresh block the id of the plan and the section that makes it a block of a bucket.
func adopt(work string, written ulid.ULID, it item) (dir string, err error) {
	dir = filepath.Join(work, it.id.String())
	if err := os.Rename(filepath.Join(work, written.String()), dir); err != nil {
		return "", err
	}
	meta, err := readMeta(dir)
	if err != nil {
		return "", err
	}
	meta.ULID = it.id
	meta.Compaction.Sources = []ulid.ULID{it.id}
	meta.Thanos = block.Thanos{Version: block.ThanosVersion, Labels: maps.Clone(it.replica.Labels), Source: block.SourceSidecar}
	return dir, block.WriteMetaDir(dir, meta)
}

// readMeta reads the meta.json of a block whose id is about to change.
func readMeta(dir string) (*block.Meta, error) {
	text, err := os.ReadFile(filepath.Join(dir, block.MetaFilename))
	if err != nil {
		return nil, err
	}
	return block.ParseMeta(text)
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
