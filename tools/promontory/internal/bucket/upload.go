package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/ship"
	"github.com/promontory-io/promontory/libs/objstore"
	"github.com/promontory-io/promontory/libs/service/flags"
)

type uploadConfig struct {
	path        string
	labels      []flags.Label
	compacted   bool
	concurrency int
	dryRun      bool
}

func (c *uploadConfig) BindFlags(fs *pflag.FlagSet) {
	flags.Group(fs, "Upload", func(fs *pflag.FlagSet) {
		flags.String(fs, &c.path, "path", "Folder with the blocks, such as the data folder of a Prometheus.")
		flags.Labels(fs, &c.labels, "label", "External label of the blocks; repeat for several.")
		flags.Bool(fs, &c.compacted, "shipper.upload-compacted", "Upload blocks that were compacted locally too, unless they overlap blocks of the bucket.")
		flags.Int(fs, &c.concurrency, "shipper.upload-concurrency", "How many files of a block are sent at once.")
		bindDryRun(fs, &c.dryRun)
	})
}

func (c *uploadConfig) Validate() error {
	var errs []error
	if len(c.labels) == 0 {
		errs = append(errs, errors.New("--label: is required: without external labels nobody could tell whose data the blocks hold"))
	}
	if info, err := os.Stat(c.path); err != nil {
		errs = append(errs, fmt.Errorf("--path: %w", err))
	} else if !info.IsDir() {
		errs = append(errs, fmt.Errorf("--path: %s is no folder", c.path))
	}
	if c.concurrency < 1 {
		errs = append(errs, fmt.Errorf("--shipper.upload-concurrency: %d is not positive", c.concurrency))
	}
	return errors.Join(errs...)
}

func (c *uploadConfig) externalLabels() labels.Labels {
	b := labels.NewScratchBuilder(len(c.labels))
	for _, l := range c.labels {
		b.Add(l.Name, l.Value)
	}
	b.Sort()
	return b.Labels()
}

func newUpload() *cobra.Command {
	c := &uploadConfig{path: "./data", concurrency: 5}
	return command{
		name: "upload-blocks", short: "Upload the blocks of a local folder once",
		long: `Uploads the blocks of a folder that are not in the bucket yet, oldest first, under the given external labels. Blocks
without samples are passed over, and so are blocks that were compacted locally unless --shipper.upload-compacted.
A second run goes on where one was cut off.`,
		example: `  promontory bucket upload-blocks --path=/prometheus --label='cluster="eu1"' --label='replica="0"' --objstore.config-file=bucket.yaml
  promontory bucket upload-blocks --path=/prometheus --label='cluster="eu1"' --shipper.upload-compacted --dry-run --objstore.config-file=bucket.yaml`,
		settings: c, run: func(ctx context.Context, e *env) error { return runUpload(ctx, e, c) },
	}.cobra()
}

func runUpload(ctx context.Context, e *env, c *uploadConfig) error {
	if c.dryRun {
		return planUpload(ctx, e, c)
	}
	external := c.externalLabels()
	shipper, err := ship.New(e.logger, announcing{e.bkt, e}, ship.Config{
		Dir: c.path, Labels: func() labels.Labels { return external }, Source: block.SourceBucketUpload,
		UploadConcurrency: c.concurrency, UploadCompacted: c.compacted,
	}, e.reg)
	if err != nil {
		return err
	}
	n, err := shipper.Sync(ctx)
	e.notes.line("%s uploaded from %s as %s", plural(n, "block"), c.path, external)
	return err
}

// announcing says of each block that it is uploaded, which it is with its meta.json.
type announcing struct {
	objstore.Bucket

	env *env
}

func (b announcing) Upload(ctx context.Context, name string, r io.Reader, opts ...objstore.ObjectUploadOption) error {
	err := b.Bucket.Upload(ctx, name, r, opts...)
	if id, rel, ok := block.SplitObject(name); err == nil && ok && rel == block.MetaFilename {
		b.env.say("%s: uploaded", id)
	}
	return err
}

// planUpload says what an upload would do with each block of the folder.
func planUpload(ctx context.Context, e *env, c *uploadConfig) error {
	entries, err := os.ReadDir(c.path)
	if err != nil {
		return err
	}
	var metas []*block.Meta
	var errs []error
	for _, entry := range entries {
		if _, ok := block.ParseID(entry.Name()); !ok || !entry.IsDir() {
			continue
		}
		m, err := block.ReadMetaDir(filepath.Join(c.path, entry.Name()))
		if err != nil {
			errs = append(errs, fmt.Errorf("block %s: %w", entry.Name(), err))
			continue
		}
		metas = append(metas, m)
	}
	byULID := map[ulid.ULID]*block.Meta{}
	for _, m := range metas {
		byULID[m.ULID] = m
	}
	state, err := ship.ReadState(c.path, ship.DefaultMetaFileName)
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	n := 0
	for _, m := range byTime(byULID) {
		why := uploadPlan(m, c.compacted, slices.Contains(state.Uploaded, m.ULID))
		if why == "" {
			there, err := block.Exists(ctx, e.bkt, m.ULID)
			if err != nil {
				errs = append(errs, fmt.Errorf("look for block %s: %w", m.ULID, err))
				continue
			}
			if there {
				why = "it is in the bucket already"
			}
		}
		if why != "" {
			e.say("%s: would be passed over: %s", m.ULID, why)
			continue
		}
		n++
		e.say("%s: would be uploaded, %s to %s", m.ULID, utc(m.MinTime), utc(m.MaxTime))
	}
	e.notes.line("%s of %d uploaded from %s%s", plural(n, "block"), len(metas), c.path, ifDry(true))
	return errors.Join(errs...)
}

// uploadPlan returns why a local block is passed over, as far as it alone tells; empty if it is not. Pure.
func uploadPlan(m *block.Meta, compacted, recorded bool) string {
	switch {
	case recorded:
		return "it is recorded as uploaded"
	case m.Stats.NumSamples == 0:
		return "it has no samples"
	case m.Compaction.Level > 1 && !compacted:
		return "it was compacted locally"
	}
	return ""
}
