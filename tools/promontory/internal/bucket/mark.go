package bucket

import (
	"context"
	"errors"
	"fmt"

	"github.com/oklog/ulid/v2"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/service/flags"
)

// markConcurrency is how many blocks are marked at once.
const markConcurrency = 16

type markConfig struct {
	ids     []string
	marker  string
	details string
	remove  bool
	dryRun  bool
}

func (c *markConfig) BindFlags(fs *pflag.FlagSet) {
	flags.Group(fs, "Mark", func(fs *pflag.FlagSet) {
		flags.Strings(fs, &c.ids, "id", "ULID of a block to mark; repeat for several.")
		flags.Enum(fs, &c.marker, "marker", "Marker to write or remove.", block.DeletionMarkFilename, block.NoCompactMarkFilename, block.NoDownsampleMarkFilename)
		flags.String(fs, &c.details, "details", "Why; goes into the marker.")
		flags.Bool(fs, &c.remove, "remove", "Take the marker off instead.")
		bindDryRun(fs, &c.dryRun)
	})
}

func bindDryRun(fs *pflag.FlagSet, p *bool) {
	flags.Bool(fs, p, "dry-run", "Say what would be done and change nothing.")
}

func (c *markConfig) Validate() error {
	var errs []error
	if len(c.ids) == 0 {
		errs = append(errs, errors.New("--id: is required"))
	}
	_, err := parseIDs(c.ids)
	errs = append(errs, err)
	if c.marker == "" {
		errs = append(errs, errors.New("--marker: is required"))
	}
	if c.details == "" && !c.remove {
		errs = append(errs, errors.New("--details: is required, but with --remove: whoever finds the marker wants to know why"))
	}
	return errors.Join(errs...)
}

func newMark() *cobra.Command {
	c := &markConfig{}
	return command{
		name: "mark", short: "Mark blocks for deletion, or keep them from compaction or downsampling",
		long: "Writes a marker into blocks, or takes it off again. A block that carries the marker already keeps the older one.",
		example: `  promontory bucket mark --id=01KA… --marker=deletion-mark.json --details='wrong tenant' --objstore.config-file=bucket.yaml
  promontory bucket mark --id=01KA… --marker=no-compact-mark.json --remove --objstore.config-file=bucket.yaml`,
		settings: c, run: func(ctx context.Context, e *env) error { return runMark(ctx, e, c) },
	}.cobra()
}

func runMark(ctx context.Context, e *env, c *markConfig) error {
	ids, err := parseIDs(c.ids)
	if err != nil {
		return err
	}
	var changed, same counter
	err = each(ctx, markConcurrency, ids, func(ctx context.Context, id ulid.ULID) error {
		did, err := markOne(ctx, e, c, id)
		switch {
		case err != nil:
		case did:
			changed.add()
		default:
			same.add()
		}
		return err
	})
	verb := "marked"
	if c.remove {
		verb = "unmarked"
	}
	e.notes.line("%s %s with %s%s, %d left as they were, %d failed", plural(changed.n(), "block"), verb, c.marker, ifDry(c.dryRun),
		same.n(), len(ids)-changed.n()-same.n())
	return err
}

func ifDry(dry bool) string {
	if dry {
		return " (dry run: nothing was changed)"
	}
	return ""
}

// markOne reports whether something was, or with a dry run would be, changed.
func markOne(ctx context.Context, e *env, c *markConfig, id ulid.ULID) (bool, error) {
	if err := mustExist(ctx, e, id); err != nil {
		return false, err
	}
	has, err := e.bkt.Exists(ctx, block.ObjectName(id, c.marker))
	if err != nil {
		return false, fmt.Errorf("look for %s of block %s: %w", c.marker, id, err)
	}
	if has != c.remove {
		e.say("%s: has %s: %t, nothing to do", id, c.marker, has)
		return false, nil
	}
	if c.dryRun {
		e.say("%s: would change %s", id, c.marker)
		return true, nil
	}
	if c.remove {
		if err := block.RemoveMark(ctx, e.logger, e.bkt, id, c.marker); err != nil {
			return false, err
		}
		e.say("%s: %s removed", id, c.marker)
		return true, nil
	}
	var written bool
	switch c.marker {
	case block.DeletionMarkFilename:
		written, err = block.MarkForDeletion(ctx, e.logger, e.bkt, id, c.details, e.now())
	case block.NoCompactMarkFilename:
		written, err = block.MarkNoCompact(ctx, e.logger, e.bkt, id, block.ReasonManual, c.details, e.now())
	case block.NoDownsampleMarkFilename:
		written, err = block.MarkNoDownsample(ctx, e.logger, e.bkt, id, block.ReasonManual, c.details, e.now())
	}
	if err == nil && written {
		e.say("%s: %s written", id, c.marker)
	}
	return written, err
}

// mustExist refuses ids of which the bucket holds nothing: a marker there would be taken for the rest of a block.
func mustExist(ctx context.Context, e *env, id ulid.ULID) error {
	whole, err := block.Exists(ctx, e.bkt, id)
	if err != nil {
		return fmt.Errorf("look for block %s: %w", id, err)
	}
	if whole {
		return nil
	}
	partial, err := block.IsPartial(ctx, e.bkt, id)
	if err != nil {
		return fmt.Errorf("look for block %s: %w", id, err)
	}
	if !partial {
		return fmt.Errorf("block %s: there is no such block in the bucket", id)
	}
	return nil
}
