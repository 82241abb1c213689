package bucket

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/fetch"
	"github.com/promontory-io/promontory/libs/objstore"
	"github.com/promontory-io/promontory/libs/service/flags"
)

// timeRange is the pair of flags --min-time and --max-time.
type timeRange struct{ min, max flags.When }

func allTime() timeRange {
	return timeRange{
		min: flags.At(time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)),
		max: flags.At(time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)),
	}
}

func (r *timeRange) bindFlags(fs *pflag.FlagSet) {
	flags.Time(fs, &r.min, "min-time", "Only blocks that reach beyond this time: RFC 3339, or a duration relative to now such as -1d.")
	flags.Time(fs, &r.max, "max-time", "Only blocks that begin before this time: RFC 3339, or a duration relative to now such as 2h.")
}

func (r *timeRange) validate() error {
	if now := time.Now(); r.min.Millis(now) > r.max.Millis(now) {
		return fmt.Errorf("--min-time: %s is after --max-time: %s", r.min, r.max)
	}
	return nil
}

func (r *timeRange) filter() fetch.Filter {
	return fetch.TimePartition(func(now time.Time) int64 { return r.min.Millis(now) }, func(now time.Time) int64 { return r.max.Millis(now) })
}

// bindRelabel binds --selector.relabel-config.
func bindRelabel(fs *pflag.FlagSet, c *flags.Content) {
	flags.BindContent(fs, c, "selector.relabel-config", "YAML with relabel rules that select blocks by their external labels; actions keep, drop and hashmod.")
}

// relabelFilter returns the filter of --selector.relabel-config.
func relabelFilter(c *flags.Content) (fetch.Filter, error) {
	text, err := c.Bytes()
	if err != nil {
		return fetch.Filter{}, err
	}
	rules, err := fetch.ParseRelabelShard(text)
	if err != nil {
		return fetch.Filter{}, fmt.Errorf("%s: %w", c.Source(), err)
	}
	return fetch.RelabelShard(rules), nil
}

// fetch returns the bucket's blocks as the filters leave them. With an error that names blocks there may be a result,
// which is then whole but for these: result is nil only where nothing is known.
func (e *env) fetch(ctx context.Context, concurrency int, filters ...fetch.Filter) (*fetch.Result, error) {
	return e.fetchFrom(ctx, e.bkt, concurrency, filters...)
}

func (e *env) fetchFrom(ctx context.Context, bkt objstore.BucketReader, concurrency int, filters ...fetch.Filter) (*fetch.Result, error) {
	base, err := fetch.NewBase(e.logger, bkt, fetch.Config{Concurrency: concurrency, Now: e.now}, nil)
	if err != nil {
		return nil, err
	}
	result, err := base.NewFetcher(nil, filters...).Fetch(ctx)
	if err != nil {
		return result, fmt.Errorf("read the blocks of the bucket: %w", err)
	}
	return result, nil
}

// byID returns metas in the order of ULIDs, which is that of creation.
func byID(metas map[ulid.ULID]*block.Meta) []*block.Meta {
	return slices.SortedFunc(maps.Values(metas), func(a, b *block.Meta) int { return a.ULID.Compare(b.ULID) })
}

// byTime returns metas in the order of time, resolution and ULID.
func byTime(metas map[ulid.ULID]*block.Meta) []*block.Meta {
	return slices.SortedFunc(maps.Values(metas), func(a, b *block.Meta) int {
		return cmp.Or(cmp.Compare(a.MinTime, b.MinTime), cmp.Compare(a.MaxTime, b.MaxTime),
			cmp.Compare(a.Thanos.Downsample.Resolution, b.Thanos.Downsample.Resolution), a.ULID.Compare(b.ULID))
	})
}

func sortedIDs[V any](m map[ulid.ULID]V) []ulid.ULID {
	return slices.SortedFunc(maps.Keys(m), ulid.ULID.Compare)
}

// parseIDs reads the values of --id.
func parseIDs(values []string) ([]ulid.ULID, error) {
	var errs []error
	var ids []ulid.ULID
	for _, v := range values {
		id, ok := block.ParseID(v)
		switch {
		case !ok:
			errs = append(errs, fmt.Errorf("--id: %q is not the ULID of a block, which has 26 upper-case characters", v))
		case !slices.Contains(ids, id):
			ids = append(ids, id)
		}
	}
	return ids, errors.Join(errs...)
}

// each calls f for every item, up to limit at once, and goes on after failures: all are returned, in the order of
// items. Once ctx is over no further item is begun, and its error is returned too.
func each[T any](ctx context.Context, limit int, items []T, f func(context.Context, T) error) error {
	errs := make([]error, len(items))
	var g errgroup.Group
	g.SetLimit(max(1, limit))
	var once sync.Once
	var over error
	for i, item := range items {
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				once.Do(func() { over = err })
				return nil //nolint:nilerr // told once, for all that were left
			}
			errs[i] = f(ctx, item)
			return nil
		})
	}
	_ = g.Wait() // the functions return nil: their errors are gathered in errs
	return errors.Join(errors.Join(errs...), over)
}
