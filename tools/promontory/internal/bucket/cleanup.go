package bucket

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/oklog/ulid/v2"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/service/flags"
)

type cleanupConfig struct{ upkeepConfig }

func (c *cleanupConfig) BindFlags(fs *pflag.FlagSet) { flags.Group(fs, "Cleanup", c.bindFlags) }
func (c *cleanupConfig) Validate() error             { return c.validate() }

func newCleanup() *cobra.Command {
	c := &cleanupConfig{defaultUpkeep()}
	return command{
		name: "cleanup", short: "Delete blocks marked long enough ago, and what uploads that were cut off have left",
		long: `Deletes blocks that were marked for deletion more than --delete-delay ago, and blocks without meta.json whose deletion
was cut off or that nothing was written to for 48 hours. A damaged meta.json alone is no reason: see bucket verify.
Blocks without meta.json have no labels to select by: --selector.relabel-config does not keep them.`,
		example: `  promontory bucket cleanup --dry-run --objstore.config-file=bucket.yaml
  promontory bucket cleanup --delete-delay=0s --objstore.config-file=bucket.yaml`,
		settings: c, run: func(ctx context.Context, e *env) error { return runCleanup(ctx, e, c) },
	}.cobra()
}

func runCleanup(ctx context.Context, e *env, c *cleanupConfig) error {
	result, fetchErr := c.sync(ctx, e)
	if result == nil {
		return fetchErr
	}
	// A mark counts only for blocks that the filters have left.
	marks := map[ulid.ULID]*block.DeletionMark{}
	for id, m := range result.Marks.Deletion {
		if result.Metas[id] != nil {
			marks[id] = m
		}
	}
	todo := dueMarked(marks, c.deleteDelay, e.now())
	marked := len(todo)
	partial, partialErr := c.partials(ctx, e, sortedIDs(result.Partial))
	todo = append(todo, partial...)
	done, err := c.carryOut(ctx, e, "deleted", todo, func(ctx context.Context, d due) error {
		return block.Delete(ctx, e.logger, e.bkt, d.id)
	})
	e.notes.line("%s deleted%s of %d due (%d marked, %d partial); %d marked and %d partial are not due yet", plural(done, "block"), ifDry(c.dryRun),
		len(todo), marked, len(partial), len(marks)-marked, len(result.Partial)-len(partial))
	return errors.Join(fetchErr, partialErr, err)
}

// partials returns the blocks without meta.json that nobody works on any more.
func (c *cleanupConfig) partials(ctx context.Context, e *env, ids []ulid.ULID) ([]due, error) {
	var mu sync.Mutex // guards out
	var out []due
	err := each(ctx, c.concurrency, ids, func(ctx context.Context, id ulid.ULID) error {
		p, spared, err := lookAtPartial(ctx, e.bkt, id)
		if err != nil || spared {
			return err
		}
		if d, ok := duePartial(p, c.deleteDelay, e.now()); ok {
			mu.Lock()
			defer mu.Unlock()
			out = append(out, d)
		}
		return nil
	})
	slices.SortFunc(out, func(a, b due) int { return a.id.Compare(b.id) })
	return out, err
}
