package bucket

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/common/model"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/service/flags"
)

// retentions are how long blocks are kept, by resolution; 0 is for ever.
type retentions map[int64]time.Duration

type retentionConfig struct {
	upkeepConfig

	raw, fiveMinutes, oneHour time.Duration
}

func (c *retentionConfig) BindFlags(fs *pflag.FlagSet) {
	flags.Group(fs, "Retention", func(fs *pflag.FlagSet) {
		flags.Duration(fs, &c.raw, "retention.resolution-raw", "How long raw samples are kept; 0d is for ever.")
		flags.Duration(fs, &c.fiveMinutes, "retention.resolution-5m", "How long samples of 5m resolution are kept; 0d is for ever.")
		flags.Duration(fs, &c.oneHour, "retention.resolution-1h", "How long samples of 1h resolution are kept; 0d is for ever.")
		c.bindFlags(fs)
	})
}

func (c *retentionConfig) Validate() error {
	errs := []error{c.validate()}
	for name, d := range map[string]time.Duration{"raw": c.raw, "5m": c.fiveMinutes, "1h": c.oneHour} {
		if d < 0 {
			errs = append(errs, fmt.Errorf("--retention.resolution-%s: %s is negative", name, d))
		}
	}
	return errors.Join(errs...)
}

func newRetention() *cobra.Command {
	c := &retentionConfig{upkeepConfig: defaultUpkeep()}
	return command{
		name: "retention", short: "Mark blocks for deletion that are older than they are to be kept",
		long: `Marks blocks for deletion whose data ended longer ago than their resolution is kept. Nothing is deleted here:
that is for the compactor or bucket cleanup, when the mark is older than their --delete-delay. Until then
bucket mark --remove takes it off.`,
		example: `  promontory bucket retention --retention.resolution-raw=30d --dry-run --objstore.config-file=bucket.yaml
  promontory bucket retention --retention.resolution-raw=30d --retention.resolution-5m=120d --retention.resolution-1h=1y --objstore.config-file=bucket.yaml`,
		settings: c, run: func(ctx context.Context, e *env) error { return runRetention(ctx, e, c) },
	}.cobra()
}

func runRetention(ctx context.Context, e *env, c *retentionConfig) error {
	result, fetchErr := c.sync(ctx, e)
	if result == nil {
		return fetchErr
	}
	rules := retentions{block.ResolutionRaw: c.raw, block.Resolution5m: c.fiveMinutes, block.Resolution1h: c.oneHour}
	todo := expired(result.Metas, result.Marks.Deletion, rules, e.now())
	done, err := c.carryOut(ctx, e, "marked", todo, func(ctx context.Context, d due) error {
		_, err := block.MarkForDeletion(ctx, e.logger, e.bkt, d.id, d.why, e.now())
		return err
	})
	e.notes.line("%s marked for deletion%s of %d that are over; they may be deleted from %s on", plural(done, "block"), ifDry(c.dryRun), len(todo),
		e.now().Add(c.deleteDelay).UTC().Format(time.RFC3339))
	return errors.Join(fetchErr, err)
}

// expired returns the blocks whose retention is over and that are not marked yet, oldest first. A resolution without a
// rule is kept. Pure.
func expired(metas map[ulid.ULID]*block.Meta, marked map[ulid.ULID]*block.DeletionMark, rules retentions, now time.Time) []due {
	var over []*block.Meta
	for id, m := range metas {
		d := rules[m.Thanos.Downsample.Resolution]
		if marked[id] == nil && d > 0 && time.UnixMilli(m.MaxTime).Add(d).Before(now) {
			over = append(over, m)
		}
	}
	slices.SortFunc(over, func(a, b *block.Meta) int { return cmp.Or(cmp.Compare(a.MaxTime, b.MaxTime), a.ULID.Compare(b.ULID)) })
	var out []due
	for _, m := range over {
		out = append(out, due{m.ULID, fmt.Sprintf("block exceeding retention of %s", model.Duration(rules[m.Thanos.Downsample.Resolution]))})
	}
	return out
}
