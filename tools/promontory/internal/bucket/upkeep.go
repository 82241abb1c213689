package bucket

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/spf13/pflag"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/fetch"
	"github.com/promontory-io/promontory/libs/objstore"
	"github.com/promontory-io/promontory/libs/service/flags"
)

// upkeepConcurrency is how many blocks are marked or deleted at once.
const upkeepConcurrency = 32

// upkeepConfig are the flags that cleanup and retention share.
type upkeepConfig struct {
	deleteDelay      time.Duration
	consistencyDelay time.Duration
	concurrency      int
	relabel          flags.Content
	dryRun           bool
	output           string
}

func defaultUpkeep() upkeepConfig {
	return upkeepConfig{deleteDelay: 48 * time.Hour, consistencyDelay: 30 * time.Minute, concurrency: 20, output: formatTable}
}

func (c *upkeepConfig) bindFlags(fs *pflag.FlagSet) {
	flags.Duration(fs, &c.deleteDelay, "delete-delay", "How long a block is marked before it is deleted: so long the mark can be taken off.")
	flags.Duration(fs, &c.consistencyDelay, "consistency-delay", "Blocks that were uploaded less than this ago are passed over.")
	flags.Int(fs, &c.concurrency, "block-sync-concurrency", "How many meta.json are read at once.")
	bindRelabel(fs, &c.relabel)
	bindDryRun(fs, &c.dryRun)
	flags.Enum(fs, &c.output, "output", "How to print what is done.", formatTable, formatJSON, formatTSV)
}

func (c *upkeepConfig) validate() error {
	var errs []error
	if c.deleteDelay < 0 {
		errs = append(errs, fmt.Errorf("--delete-delay: %s is negative", c.deleteDelay))
	}
	if c.consistencyDelay < 0 {
		errs = append(errs, fmt.Errorf("--consistency-delay: %s is negative", c.consistencyDelay))
	}
	if c.concurrency < 1 {
		errs = append(errs, fmt.Errorf("--block-sync-concurrency: %d is not positive", c.concurrency))
	}
	return errors.Join(errs...)
}

// sync reads the blocks the flags select, and their deletion marks.
func (c *upkeepConfig) sync(ctx context.Context, e *env) (*fetch.Result, error) {
	relabel, err := relabelFilter(&c.relabel)
	if err != nil {
		return nil, err
	}
	marks := fetch.Filter{
		Name: "deletion marks", Needs: fetch.DeletionMarks,
		Decide: func(fetch.Input) fetch.Output { return fetch.Output{} },
	}
	return e.fetch(ctx, c.concurrency, relabel, fetch.ConsistencyDelay(c.consistencyDelay, nil), marks)
}

// due is a block with which something is to be done, and why.
type due struct {
	id  ulid.ULID
	why string
}

// outcome is what became of a due block, for printing.
type outcome struct {
	Block  string `json:"block"`
	Action string `json:"action"`
	Reason string `json:"reason"`
	Error  string `json:"error,omitempty"`
}

// carryOut does something with every due block and prints what came of it. verb is "deleted" or "marked".
func (c *upkeepConfig) carryOut(ctx context.Context, e *env, verb string, todo []due, do func(context.Context, due) error) (done int, err error) {
	outcomes := make([]outcome, len(todo))
	p := e.notes.progress(verb+ifDry(c.dryRun), len(todo))
	indices := make([]int, len(todo))
	for i := range todo {
		indices[i] = i
		outcomes[i] = outcome{Block: todo[i].id.String(), Action: "not reached", Reason: todo[i].why}
	}
	err = each(ctx, upkeepConcurrency, indices, func(ctx context.Context, i int) error {
		defer p.step()
		if c.dryRun {
			outcomes[i].Action = "would be " + verb
			return nil
		}
		if err := do(ctx, todo[i]); err != nil {
			outcomes[i].Action, outcomes[i].Error = "failed", err.Error()
			return err
		}
		outcomes[i].Action = verb
		return nil
	})
	l := &list{header: []string{"BLOCK", "ACTION", "REASON"}}
	for _, o := range outcomes {
		if o.Action == verb || o.Action == "would be "+verb {
			done++
		}
		l.add(o, o.Block, o.Action, o.Reason)
	}
	if len(outcomes) > 0 || c.output != formatTable {
		err = errors.Join(err, l.write(e.out, c.output))
	}
	return done, err
}

// dueMarked returns the blocks whose mark is older than delay, oldest mark first. Pure.
func dueMarked(marks map[ulid.ULID]*block.DeletionMark, delay time.Duration, now time.Time) []due {
	ids := sortedIDs(marks)
	slices.SortStableFunc(ids, func(a, b ulid.ULID) int { return cmp.Compare(marks[a].DeletionTime, marks[b].DeletionTime) })
	var out []due
	for _, id := range ids {
		if m := marks[id]; now.Sub(m.Time()) > delay {
			why := "marked at " + m.Time().UTC().Format(time.RFC3339)
			if m.Details != "" {
				why += ": " + m.Details
			}
			out = append(out, due{id, why})
		}
	}
	return out
}

// partialBlock is what is known of a block without a usable meta.json.
type partialBlock struct {
	id   ulid.ULID
	mark *block.DeletionMark
	// newest is when its youngest object was written; zero if that cannot be known.
	newest time.Time
}

// partialAge is how long a block without meta.json is left alone: its upload may still be under way.
const partialAge = 48 * time.Hour

// duePartial tells whether nobody works on a partial block any more: its deletion was cut off, or its upload has not
// moved for long. Pure.
func duePartial(p partialBlock, delay time.Duration, now time.Time) (due, bool) {
	if p.mark != nil {
		return due{p.id, "its deletion was cut off"}, now.Sub(p.mark.Time()) > delay
	}
	newest := p.newest
	if newest.IsZero() {
		newest = ulid.Time(p.id.Time())
	}
	return due{p.id, "its upload was cut off, last written at " + newest.UTC().Format(time.RFC3339)}, now.Sub(newest) > partialAge
}

// lookAtPartial reads what duePartial needs. Spared tells that the block has a meta.json, usable or not, or nothing at all.
func lookAtPartial(ctx context.Context, bkt objstore.Bucket, id ulid.ULID) (p partialBlock, spared bool, err error) {
	p.id = id
	p.mark, err = block.ReadDeletionMark(ctx, bkt, id)
	switch {
	case err == nil:
	case errors.Is(err, block.ErrMarkNotFound), errors.Is(err, block.ErrMarkCorrupt), errors.Is(err, block.ErrMarkVersion):
		p.mark = nil
		// A meta.json that is there makes the block whole by now, or damaged: then its data may still be wanted.
		if there, err := block.Exists(ctx, bkt, id); err != nil || there {
			return p, true, err
		}
	default:
		return p, false, err
	}
	var names []string
	err = bkt.Iter(ctx, id.String()+objstore.DirDelim, func(name string) error {
		names = append(names, name)
		return nil
	}, objstore.WithRecursiveIter())
	if err != nil {
		return p, false, fmt.Errorf("list the objects of block %s: %w", id, err)
	}
	for _, name := range names {
		attrs, err := bkt.Attributes(ctx, name)
		if bkt.IsObjNotFoundErr(err) {
			continue
		}
		if err != nil {
			return p, false, fmt.Errorf("look at %s: %w", name, err)
		}
		if attrs.LastModified.After(p.newest) {
			p.newest = attrs.LastModified
		}
	}
	return p, len(names) == 0, nil
}
