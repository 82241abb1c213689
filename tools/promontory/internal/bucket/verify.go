package bucket

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/fetch"
	"github.com/promontory-io/promontory/libs/service/flags"
)

type verifyConfig struct {
	backup      flags.Content
	repair      bool
	issues      []string
	ids         []string
	deleteDelay time.Duration
	dryRun      bool
	output      string
	concurrency int
	exitCode    bool
}

func (c *verifyConfig) BindFlags(fs *pflag.FlagSet) {
	flags.Group(fs, "Verify", func(fs *pflag.FlagSet) {
		flags.BindContent(fs, &c.backup, "objstore-backup.config", "YAML that describes the bucket into which blocks are copied before --repair replaces them.")
		flags.Bool(fs, &c.repair, "repair", "Repair what can be repaired; needs --objstore-backup.config.")
		fs.Lookup("repair").Shorthand = "r"
		flags.Enums(fs, &c.issues, "issues", "What to look for; repeat for several.", issueNames()...)
		fs.Lookup("issues").Shorthand = "i"
		flags.Strings(fs, &c.ids, "id", "Only this block; repeat for several.")
		flags.Duration(fs, &c.deleteDelay, "delete-delay", "With 0s a repaired or redundant block is deleted at once, else it is marked for deletion.")
		bindDryRun(fs, &c.dryRun)
		flags.Enum(fs, &c.output, "output", "How to print.", formatTable, formatJSON, formatTSV)
		flags.Int(fs, &c.concurrency, "concurrency", "How many blocks are read at once.")
		flags.Bool(fs, &c.exitCode, "exit-code", "End with an exit status other than 0 when something is wrong and not repaired.")
	})
}

func (c *verifyConfig) Validate() error {
	_, err := parseIDs(c.ids)
	errs := []error{err}
	if c.repair && !c.backup.IsSet() {
		errs = append(errs, errors.New("--repair: needs --objstore-backup.config: nothing is replaced before there is a copy of it"))
	}
	if c.deleteDelay < 0 {
		errs = append(errs, fmt.Errorf("--delete-delay: %s is negative", c.deleteDelay))
	}
	if c.concurrency < 1 {
		errs = append(errs, fmt.Errorf("--concurrency: %d is not positive", c.concurrency))
	}
	return errors.Join(errs...)
}

func newVerify() *cobra.Command {
	c := &verifyConfig{issues: []string{issueIndex, issueOverlaps}, output: formatTable, concurrency: 4}
	return command{
		name: "verify", short: "Find blocks that are wrong, and repair them",
		long: `Looks for what is wrong with the blocks of a bucket. Blocks marked for deletion are passed over.

  index_known_issues     series or chunks that are out of order, repeated, outside of the block's time or without
                         data, and indexes that cannot be read; --repair writes the block anew without repeated and
                         outside chunks
  overlapped_blocks      blocks of equal external labels and resolution that share time; not repaired
  duplicated_compaction  blocks made of the same sources; --repair removes exact copies
  block_files            objects that are missing or of another size than recorded; not repaired
  block_meta             blocks without a usable meta.json; not repaired, see bucket cleanup`,
		example: `  promontory bucket verify --objstore.config-file=bucket.yaml
  promontory bucket verify -i block_files -i block_meta --output=json --exit-code --objstore.config-file=bucket.yaml
  promontory bucket verify --repair --objstore-backup.config-file=backup.yaml --dry-run --objstore.config-file=bucket.yaml`,
		settings: c, run: func(ctx context.Context, e *env) error { return runVerify(ctx, e, c) },
	}.cobra()
}

// newRepair is verify --repair of all that can be repaired.
func newRepair() *cobra.Command {
	c := &verifyConfig{repair: true, issues: []string{issueIndex, issueDuplicates}, output: formatTable, concurrency: 4}
	return command{
		name: "repair", short: "Repair the blocks that are wrong",
		long: `Does what "bucket verify --repair" does, and looks for all that can be repaired: blocks with repeated or outside
chunks are written anew, exact copies of blocks are removed. What is replaced is copied into the backup bucket before.`,
		example: `  promontory bucket repair --objstore-backup.config-file=backup.yaml --dry-run --objstore.config-file=bucket.yaml
  promontory bucket repair --objstore-backup.config-file=backup.yaml --delete-delay=48h --objstore.config-file=bucket.yaml`,
		settings: c, run: func(ctx context.Context, e *env) error { return runVerify(ctx, e, c) },
	}.cobra()
}

func (c *verifyConfig) wants(issue string) bool { return slices.Contains(c.issues, issue) }

// checked is what verify learned, block by block.
type checked struct {
	mu       sync.Mutex // guards the below while blocks are read
	findings []finding
	// ill are the blocks whose index is not healthy.
	ill map[ulid.ULID]health
}

func runVerify(ctx context.Context, e *env, c *verifyConfig) error {
	result, fetchErr := e.fetch(ctx, 0, fetch.IgnoreDeletionMark(0))
	if result == nil {
		return fetchErr
	}
	metas, partial, err := c.selected(result)
	if err != nil {
		return errors.Join(fetchErr, err)
	}
	var dups []duplicate
	found := &checked{ill: map[ulid.ULID]health{}}
	if c.wants(issueOverlaps) {
		found.findings = append(found.findings, c.only(findOverlaps(result.Metas))...)
	}
	if c.wants(issueDuplicates) {
		dups = slices.DeleteFunc(findDuplicates(result.Metas), func(d duplicate) bool { return metas[d.block.ULID] == nil })
		for _, d := range dups {
			found.findings = append(found.findings, d.finding())
		}
	}
	if c.wants(issueMeta) {
		found.findings = append(found.findings, metaFindings(partial)...)
	}
	readErr := c.readBlocks(ctx, e, metas, found)
	var repairErr error
	if c.repair && ctx.Err() == nil {
		repairErr = c.repairAll(ctx, e, metas, found, dups)
	}
	if err := c.report(e, found.findings); err != nil {
		return err
	}
	open := len(slices.DeleteFunc(slices.Clone(found.findings), func(f finding) bool { return strings.HasPrefix(f.Repair, "repaired") }))
	e.notes.line("%s checked for %s: %s, %d of them repaired; %d blocks marked for deletion passed over", plural(len(metas), "block"),
		strings.Join(c.issues, ", "), plural(len(found.findings), "problem"), len(found.findings)-open, len(result.Excluded))
	if !c.wants(issueMeta) {
		e.notePartial(result)
	}
	err = errors.Join(fetchErr, readErr, repairErr)
	if err == nil && c.exitCode && open > 0 {
		err = fmt.Errorf("%s found and not repaired", plural(open, "problem"))
	}
	return err
}

// selected returns the blocks that --id asks for, all without it.
func (c *verifyConfig) selected(result *fetch.Result) (map[ulid.ULID]*block.Meta, map[ulid.ULID]error, error) {
	ids, err := parseIDs(c.ids)
	if err != nil || len(ids) == 0 {
		return result.Metas, result.Partial, err
	}
	metas, partial := map[ulid.ULID]*block.Meta{}, map[ulid.ULID]error{}
	var errs []error
	for _, id := range ids {
		m, whole := result.Metas[id]
		why, broken := result.Partial[id]
		_, excluded := result.Excluded[id]
		switch {
		case whole:
			metas[id] = m
		case broken:
			partial[id] = why
		case excluded:
			errs = append(errs, fmt.Errorf("--id: block %s is marked for deletion", id))
		default:
			errs = append(errs, fmt.Errorf("--id: there is no block %s in the bucket", id))
		}
	}
	return metas, partial, errors.Join(errs...)
}

// only keeps the findings about blocks that --id asks for.
func (c *verifyConfig) only(fs []finding) []finding {
	if len(c.ids) == 0 {
		return fs
	}
	return slices.DeleteFunc(fs, func(f finding) bool { return !slices.Contains(c.ids, f.Block) })
}

// readBlocks does the checks that need objects of each block.
func (c *verifyConfig) readBlocks(ctx context.Context, e *env, metas map[ulid.ULID]*block.Meta, found *checked) error {
	if !c.wants(issueIndex) && !c.wants(issueFiles) {
		return nil
	}
	p := e.notes.progress("verify", len(metas))
	return each(ctx, c.concurrency, byTime(metas), func(ctx context.Context, m *block.Meta) error {
		defer p.step()
		objects, err := objectsOf(ctx, e.bkt, m.ULID)
		if err != nil {
			return err
		}
		var fs []finding
		if c.wants(issueFiles) {
			fs = findFiles(m, objects)
		}
		var h health
		if c.wants(issueIndex) {
			if _, there := objects[block.IndexFilename]; !there {
				h.broken = errors.New("the index is missing")
			} else if h, err = e.fetchIndexHealth(ctx, m, objects); err != nil {
				return err
			}
		}
		found.mu.Lock()
		defer found.mu.Unlock()
		if problem := h.problem(); problem != "" {
			fs = append(fs, finding{Issue: issueIndex, Block: m.ULID.String(), Problem: problem})
			found.ill[m.ULID] = h
		}
		found.findings = append(found.findings, fs...)
		return nil
	})
}

func (c *verifyConfig) report(e *env, fs []finding) error {
	sortFindings(fs)
	l := &list{header: []string{"ISSUE", "BLOCK", "PROBLEM", "REPAIR"}}
	for _, f := range fs {
		l.add(f, f.Issue, f.Block, f.Problem, f.Repair)
	}
	if len(fs) == 0 && c.output == formatTable {
		return nil
	}
	return l.write(e.out, c.output)
}

// repairAll mends what can be mended and writes into the findings what became of them.
func (c *verifyConfig) repairAll(ctx context.Context, e *env, metas map[ulid.ULID]*block.Meta, found *checked, dups []duplicate) (err error) {
	backup, err := e.openOther(&c.backup, nil)
	if err != nil {
		return fmt.Errorf("open the backup bucket: %w", err)
	}
	defer func() { err = errors.Join(err, backup.Close()) }()
	if !c.dryRun {
		if err := mustDiffer(ctx, e.bkt, backup, ulid.MustNewDefault(e.now())); err != nil {
			return fmt.Errorf("--objstore-backup.config: %w", err)
		}
	}
	r := repairer{env: e, backup: backup, delay: c.deleteDelay, dryRun: c.dryRun}
	gone := map[string]bool{}
	var errs []error
	done := func(f *finding, what string, err error) {
		f.Repair = what
		if err != nil {
			f.Repair = "failed: " + err.Error()
			errs = append(errs, err)
		}
	}
	for _, d := range dups {
		f := findFinding(found.findings, issueDuplicates, d.block.ULID)
		if !d.same {
			f.Repair = "none: the contents differ, so a person has to choose"
			continue
		}
		what, err := r.remove(ctx, d)
		done(f, what, err)
		gone[d.block.ULID.String()] = err == nil
	}
	for _, id := range slices.SortedFunc(maps.Keys(found.ill), ulid.ULID.Compare) {
		if gone[id.String()] {
			findFinding(found.findings, issueIndex, id).Repair = "none: the block is removed as a duplicate"
			continue
		}
		h := found.ill[id]
		f := findFinding(found.findings, issueIndex, id)
		if why := h.incurable(); why != "" {
			f.Repair = "none: " + why
			continue
		}
		what, err := r.rewrite(ctx, metas[id])
		done(f, what, err)
	}
	for i := range found.findings {
		if f := &found.findings[i]; f.Repair == "" {
			f.Repair = "none: there is no repair for this"
		}
	}
	return errors.Join(errs...)
}

func findFinding(fs []finding, issue string, id ulid.ULID) *finding {
	i := slices.IndexFunc(fs, func(f finding) bool { return f.Issue == issue && f.Block == id.String() })
	return &fs[i]
}
