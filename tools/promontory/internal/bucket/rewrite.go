package bucket

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/fetch"
	"github.com/promontory-io/promontory/libs/service/flags"
)

// changeLogFilename is the object of a rewritten block that lists what was changed.
const changeLogFilename = "change.log"

type rewriteConfig struct {
	ids          []string
	all          bool
	dir          string
	dryRun       bool
	promBlocks   bool
	deleteBlocks bool
	hash         string
	deletes      flags.Content
	relabels     flags.Content
	changeLog    bool
}

func (c *rewriteConfig) BindFlags(fs *pflag.FlagSet) {
	flags.Group(fs, "Rewrite", func(fs *pflag.FlagSet) {
		flags.Strings(fs, &c.ids, "id", "ULID of a block to rewrite; repeat for several.")
		flags.Bool(fs, &c.all, "all", "Rewrite every block that holds what is to be changed, of all resolutions.")
		flags.String(fs, &c.dir, "tmp.dir", "Folder in which blocks are made.")
		flags.Bool(fs, &c.dryRun, "dry-run", "Say what would be done and change nothing; switch off with --no-dry-run.")
		flags.Bool(fs, &c.promBlocks, "prom-blocks", "Rewrite blocks without external labels too: blocks of a bucket that only a Prometheus is to read.")
		flags.Bool(fs, &c.deleteBlocks, "delete-blocks", "Mark each block for deletion once its replacement is read back and found healthy.")
		flags.Enum(fs, &c.hash, "hash-func", "Checksum of the files to put into meta.json; empty for none.", "", string(block.HashSHA256))
		flags.BindContent(fs, &c.deletes, "rewrite.to-delete-config", "YAML list of {matchers: '<series selector>', intervals: [{mint: <ms>, maxt: <ms>}], request_id: <text>}. Without intervals whole series are deleted.")
		flags.BindContent(fs, &c.relabels, "rewrite.to-relabel-config", "YAML list of relabel rules, which every series passes through.")
		flags.Bool(fs, &c.changeLog, "rewrite.add-change-log", "Put a list of changed series into the new block, as "+changeLogFilename+".")
	})
}

func (c *rewriteConfig) Validate() error {
	var errs []error
	add := func(bad bool, text string) {
		if bad {
			errs = append(errs, errors.New(text))
		}
	}
	add(len(c.ids) == 0 && !c.all, "--id: is required, or --all for every block that is concerned")
	add(len(c.ids) > 0 && c.all, "--all: is given together with --id: choose one")
	add(!c.deletes.IsSet() && !c.relabels.IsSet(), "--rewrite.to-delete-config: is required, or --rewrite.to-relabel-config: there is nothing to change")
	add(c.dir == "", "--tmp.dir: is empty")
	_, hashErr := block.ParseHashFunc(c.hash)
	if hashErr != nil {
		errs = append(errs, fmt.Errorf("--hash-func: %w", hashErr))
	}
	_, err := parseIDs(c.ids)
	return errors.Join(append(errs, err)...)
}

func newRewrite() *cobra.Command {
	c := &rewriteConfig{dir: filepath.Join(os.TempDir(), "thanos-rewrite"), dryRun: true, changeLog: true}
	return command{
		name: "rewrite", short: "Delete or relabel series in blocks of any resolution",
		long: `Makes new blocks without the series, or the times of series, that are to be deleted, and with the labels that relabel
rules leave. Deletion comes first. Blocks that hold nothing of it are found out from their index and left alone.

Of downsampled blocks every window that reaches into a deleted time goes. Series that relabelling makes equal become one
if no chunk of theirs shares time with another; else the block is left as it is, with an error that names the series.

The new block is uploaded, read back and checked; only then, and with --delete-blocks, is the old one marked for deletion. Blocks that are marked already are left alone.
A run that was cut off goes on where it was. Without --delete-blocks old and new lie side by side and overlap.`,
		example: `  promontory bucket rewrite --all --rewrite.to-delete-config="[{matchers: '{user=\"42\"}'}]" --objstore.config-file=bucket.yaml
  promontory bucket rewrite --all --rewrite.to-delete-config-file=delete.yaml --no-dry-run --delete-blocks --objstore.config-file=bucket.yaml
  promontory bucket rewrite --id=01KA… --rewrite.to-relabel-config="[{action: labeldrop, regex: pod_template_hash}]" --objstore.config-file=bucket.yaml`,
		settings: c, run: func(ctx context.Context, e *env) error { return runRewrite(ctx, e, c) },
	}.cobra()
}

func runRewrite(ctx context.Context, e *env, c *rewriteConfig) error {
	rules, err := readChanges(c)
	if err != nil {
		return err
	}
	marks := fetch.Filter{
		Name: "deletion marks", Needs: fetch.DeletionMarks,
		Decide: func(fetch.Input) fetch.Output { return fetch.Output{} },
	}
	result, fetchErr := e.fetch(ctx, 0, marks)
	if result == nil {
		return fetchErr
	}
	metas := byTime(result.Metas)
	var errs []error
	if !c.all {
		metas = metas[:0]
		ids, err := parseIDs(c.ids)
		errs = append(errs, err)
		for _, id := range ids {
			if m := result.Metas[id]; m != nil {
				metas = append(metas, m)
			} else {
				errs = append(errs, fmt.Errorf("block %s: there is no such block in the bucket, or it is not whole", id))
			}
		}
	}
	w := rewriter{env: e, c: c, changes: rules, others: byID(result.Metas), marked: result.Marks.Deletion}
	var changed, same int
	p := e.notes.progress("rewritten"+ifDry(c.dryRun), len(metas))
	for _, m := range metas {
		did, err := w.one(ctx, m)
		p.step()
		switch {
		case ctx.Err() != nil:
			return errors.Join(append(errs, ctx.Err())...)
		case err != nil:
			errs = append(errs, fmt.Errorf("rewrite block %s: %w", m.ULID, err))
		case did:
			changed++
		default:
			same++
		}
	}
	e.notes.line("%s rewritten%s, %d hold nothing to change, %d failed", plural(changed, "block"), ifDry(c.dryRun), same, len(metas)-changed-same)
	return errors.Join(fetchErr, errors.Join(errs...))
}

// rewriter rewrites blocks, one after the other.
type rewriter struct {
	*env

	c       *rewriteConfig
	changes *changes
	// others are the blocks of the bucket when the run began.
	others []*block.Meta
	// marked are those of them that are to be deleted.
	marked map[ulid.ULID]*block.DeletionMark
}

// one rewrites a block; false says that it holds nothing to change.
func (w *rewriter) one(ctx context.Context, m *block.Meta) (_ bool, err error) {
	if len(m.Thanos.Labels) == 0 && !w.c.promBlocks {
		return false, fmt.Errorf("%w: --prom-blocks rewrites it nevertheless", block.ErrNoLabels)
	}
	if w.changes.made(m) || w.marked[m.ULID] != nil {
		return false, nil // it is what an earlier run has made, or has done with
	}
	if err := os.MkdirAll(w.c.dir, 0o755); err != nil {
		return false, fmt.Errorf("--tmp.dir: %w", err)
	}
	dir, err := os.MkdirTemp(w.c.dir, m.ULID.String()+"-")
	if err != nil {
		return false, fmt.Errorf("--tmp.dir: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	index := filepath.Join(dir, block.IndexFilename)
	if err := download(ctx, w.bkt, block.ObjectName(m.ULID, block.IndexFilename), index); err != nil {
		return false, fmt.Errorf("read its index: %w", err)
	}
	s, err := w.changes.survey(ctx, index)
	if err != nil || !s.changes() {
		return false, err
	}
	if w.c.dryRun {
		w.say("%s: would be rewritten: %s", m.ULID, s)
		return true, nil
	}
	replacement := w.earlier(m)
	if replacement == nil {
		if replacement, err = w.write(ctx, m, s, dir); err != nil {
			return false, err
		}
	}
	return true, w.finish(ctx, m, s, replacement)
}

// finish checks the replacement, which is nil if nothing is left of the block, and marks the block.
func (w *rewriter) finish(ctx context.Context, m *block.Meta, s *survey, replacement *block.Meta) error {
	details := "rewritten, and nothing was left of it"
	if replacement != nil {
		if err := (repairer{env: w.env}).mustBeHealthy(ctx, replacement); err != nil {
			return fmt.Errorf("the new block is not healthy, and the old one is not touched: %w", err)
		}
		details = "rewritten as " + replacement.ULID.String()
	}
	if w.c.deleteBlocks {
		if _, err := block.MarkForDeletion(ctx, w.logger, w.bkt, m.ULID, details, w.now()); err != nil {
			return err
		}
		details += ", marked for deletion"
	}
	w.say("%s: %s: %s", m.ULID, details, s)
	return nil
}

// earlier returns the replacement that a run before has made of m by the same changes, nil if there is none.
func (w *rewriter) earlier(m *block.Meta) *block.Meta {
	for _, o := range w.others {
		if o.GroupKey() == m.GroupKey() && len(o.Compaction.Parents) == 1 && o.Compaction.Parents[0].ULID == m.ULID && w.changes.made(o) && w.marked[o.ULID] == nil {
			return o
		}
	}
	return nil
}

// write makes and uploads the replacement. Nil without an error says that nothing was left.
func (w *rewriter) write(ctx context.Context, m *block.Meta, s *survey, dir string) (*block.Meta, error) {
	next := w.changes.meta(m, ulid.MustNewDefault(w.now()))
	sent, err := remaker{w.env, dir, m, block.UploadOptions{Concurrency: 4, HashFunc: block.HashFunc(w.c.hash), WithoutLabels: w.c.promBlocks}}.one(ctx, next, func(old *localBlock, made string) error {
		return w.changes.write(ctx, old, made, m, s, &next.Stats)
	})
	if err != nil || sent == nil || !w.c.changeLog {
		return sent, err
	}
	if err := w.bkt.Upload(ctx, block.ObjectName(next.ULID, changeLogFilename), strings.NewReader(s.log.String())); err != nil {
		return nil, fmt.Errorf("upload %s: %w", changeLogFilename, err)
	}
	return sent, nil
}

// meta is the meta.json of a block's replacement, without stats.
func (c *changes) meta(m *block.Meta, id ulid.ULID) *block.Meta {
	next := successor(m, id, block.SourceBucketRewrite)
	next.Compaction.Parents = []tsdb.BlockDesc{{ULID: m.ULID, MinTime: m.MinTime, MaxTime: m.MaxTime}}
	next.Compaction.Sources = c.sources(m.Compaction.Sources)
	next.Thanos.Rewrites = append(next.Thanos.Rewrites, block.Rewrite{
		Sources: m.Compaction.Sources, DeletionsApplied: c.deletionsApplied(), RelabelsApplied: c.relabelsApplied,
	})
	return next
}
