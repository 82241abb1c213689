package bucket

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/common/model"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/fetch"
	"github.com/promontory-io/promontory/libs/downsample"
	"github.com/promontory-io/promontory/libs/service"
	"github.com/promontory-io/promontory/libs/service/flags"
)

type downsampleConfig struct {
	bucket      flags.Content
	wait        time.Duration
	concurrency int
	files       int
	dir         string
	hash        string
	singleRun   bool
	dryRun      bool
}

func (c *downsampleConfig) BindFlags(fs *pflag.FlagSet) {
	flags.Group(fs, "Downsample", func(fs *pflag.FlagSet) {
		flags.BindContent(fs, &c.bucket, "objstore.config", "YAML that describes the bucket.", flags.Required())
		flags.Duration(fs, &c.wait, "wait-interval", "How long to wait before the bucket is looked at again.")
		flags.Int(fs, &c.concurrency, "downsample.concurrency", "How many blocks are downsampled at once.")
		flags.Int(fs, &c.files, "block-files-concurrency", "How many files of a block are fetched or sent at once.")
		flags.String(fs, &c.dir, "data-dir", "Folder in which blocks are made. Nobody else may use its folder downsample at the same time.")
		flags.Enum(fs, &c.hash, "hash-func", "Checksum of the files to put into meta.json; empty for none.", "", string(block.HashSHA256))
		flags.Bool(fs, &c.singleRun, "single-run", "Downsample what there is and end, instead of looking again after --wait-interval.")
		bindDryRun(fs, &c.dryRun)
	})
}

func (c *downsampleConfig) Validate() error {
	var errs []error
	add := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	add(c.wait <= 0, "--wait-interval: %s is not positive", c.wait)
	add(c.concurrency < 1, "--downsample.concurrency: %d is not positive", c.concurrency)
	add(c.files < 1, "--block-files-concurrency: %d is not positive", c.files)
	add(c.dir == "", "--data-dir: is empty")
	add(c.dryRun && !c.singleRun, "--dry-run: needs --single-run")
	if _, err := block.ParseHashFunc(c.hash); err != nil {
		errs = append(errs, fmt.Errorf("--hash-func: %w", err))
	}
	return errors.Join(errs...)
}

func newDownsample() *cobra.Command {
	c := &downsampleConfig{wait: 5 * time.Minute, concurrency: 1, files: 1, dir: "./data"}
	common := service.DefaultConfig("downsample")
	common.WithoutGRPC = true
	var cmd *cobra.Command
	cmd = service.NewCommand(service.Command{
		Name: "downsample", Short: "Make the 5m and 1h blocks that are missing, again every five minutes or once",
		Long: `Makes a block of 5m resolution of every raw one that spans 40 hours or more, and one of 1h of every one of 5m that spans
10 days or more, as the compactor does: for whoever runs that without downsampling. Blocks whose data exists in the coarser
resolution already are passed over, and so are those that carry a no-downsample or a deletion mark. A block that cannot be
downsampled does not keep the others. The source stays as it is.

A run that was cut off goes on where it was: what is in the bucket is not made again, and what was fetched is not fetched again.`,
		Common: &common, Settings: c,
		Run: func(ctx context.Context, p *service.Process) error {
			return runDownsample(ctx, p, c, common.Tracing.IsSet(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	})
	return withExample(cmd, `  promontory bucket downsample --single-run --dry-run --objstore.config-file=bucket.yaml
  promontory bucket downsample --single-run --downsample.concurrency=4 --data-dir=/var/tmp/downsample --objstore.config-file=bucket.yaml`)
}

func runDownsample(ctx context.Context, p *service.Process, c *downsampleConfig, traced bool, out, errOut io.Writer) (err error) {
	e := newServiceEnv(p, traced, out, errOut)
	if e.bkt, err = e.openOther(&c.bucket, p.Registry); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.bkt.Close()) }()
	base, err := fetch.NewBase(e.logger, e.bkt, fetch.Config{Now: e.now}, e.reg)
	if err != nil {
		return err
	}
	d := &downsampler{
		env: e, cfg: c, metrics: newDownsampleMetrics(e.reg),
		fetcher: base.NewFetcher(e.reg, fetch.IgnoreDeletionMark(0), fetch.Deduplicate(), fetch.GatherNoDownsampleMarks()),
	}
	p.Group.Add("downsample", func(ctx context.Context) error {
		return repeat(ctx, e.logger, "downsampling", c.wait, c.singleRun, d.once)
	})
	return p.Serve(ctx)
}

// repeat runs f once, or again and again with pauses until ctx ends; then a run that fails is logged and the next one
// tries again.
func repeat(ctx context.Context, logger *zap.Logger, what string, pause time.Duration, once bool, f func(context.Context) error) error {
	for {
		err := f(ctx)
		if once {
			return err
		}
		if err != nil && ctx.Err() == nil {
			logger.Error(what+" failed and is tried again", zap.Error(err), zap.Duration("after", pause))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

type downsampler struct {
	*env

	cfg     *downsampleConfig
	fetcher *fetch.Fetcher
	metrics downsampleMetrics
}

type downsampleMetrics struct {
	made, failed *prometheus.CounterVec
	duration     *prometheus.HistogramVec
}

func newDownsampleMetrics(reg prometheus.Registerer) downsampleMetrics {
	auto := promauto.With(reg)
	const prefix = "thanos_compact_downsample_"
	m := downsampleMetrics{
		made: auto.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "total", Help: "Downsampled blocks made, by the resolution of the source.",
		}, []string{"resolution"}),
		failed: auto.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "failures_total", Help: "Blocks that could not be downsampled, by the resolution of the source.",
		}, []string{"resolution"}),
		duration: auto.NewHistogramVec(prometheus.HistogramOpts{
			Name: prefix + "duration_seconds", Help: "Time taken by downsampling a block, by the resolution of the source.",
			Buckets: []float64{1, 10, 30, 60, 300, 900, 3600, 4 * 3600},
		}, []string{"resolution"}),
	}
	for _, r := range []int64{block.ResolutionRaw, block.Resolution5m} {
		m.made.WithLabelValues(resolutionLabel(r))
		m.failed.WithLabelValues(resolutionLabel(r))
		m.duration.WithLabelValues(resolutionLabel(r))
	}
	return m
}

// resolutionLabel is how metrics write a resolution: in milliseconds.
func resolutionLabel(r int64) string { return fmt.Sprint(r) }

// resolutionName is how people do.
func resolutionName(r int64) string { return model.Duration(millis(r)).String() }

func resolutionNames(rs []int64) string {
	out := make([]string, len(rs))
	for i, r := range rs {
		out[i] = resolutionName(r)
	}
	return strings.Join(out, " and ")
}

// downsampling is a block, and the resolutions that are to be made of it, ascending.
type downsampling struct {
	meta    *block.Meta
	targets []int64
}

// downsamplings returns what is to be done, raw blocks first, and older before newer. kept are those that carry a
// no-downsample mark. Pure.
func downsamplings(metas map[ulid.ULID]*block.Meta, kept map[ulid.ULID]*block.NoDownsampleMark) []downsampling {
	there := block.NewCoverage()
	for _, m := range metas {
		there.Add(m)
	}
	var out []downsampling
	for _, m := range byTime(metas) {
		if kept[m.ULID] != nil {
			continue
		}
		targets := downsample.Targets(m.Thanos.Downsample.Resolution, m.MaxTime-m.MinTime, func(r int64) bool { return there.Has(m, r) })
		if len(targets) > 0 {
			out = append(out, downsampling{m, targets})
		}
	}
	slices.SortStableFunc(out, func(a, b downsampling) int {
		return cmp.Compare(a.meta.Thanos.Downsample.Resolution, b.meta.Thanos.Downsample.Resolution)
	})
	return out
}

// once makes all that is missing. What it makes may have to be downsampled in its turn, so it looks again until nothing
// is left; each block is tried once.
func (d *downsampler) once(ctx context.Context) error {
	var errs []error
	tried := map[ulid.ULID]bool{}
	var found int
	var made, done counter
	for {
		result, fetchErr := d.fetcher.Fetch(ctx)
		if result == nil {
			return errors.Join(append(errs, fmt.Errorf("read the blocks of the bucket: %w", fetchErr))...)
		}
		todo := slices.DeleteFunc(downsamplings(result.Metas, result.Marks.NoDownsample), func(j downsampling) bool { return tried[j.meta.ULID] })
		if len(todo) == 0 {
			found = len(result.Metas)
			errs = append(errs, fetchErr)
			break
		}
		for _, j := range todo {
			tried[j.meta.ULID] = true
		}
		p := d.notes.progress("downsampled"+ifDry(d.cfg.dryRun), len(todo))
		errs = append(errs, each(ctx, d.cfg.concurrency, todo, func(ctx context.Context, j downsampling) error {
			defer p.step()
			n, err := d.one(ctx, j)
			made.addN(n)
			if err != nil {
				d.metrics.failed.WithLabelValues(resolutionLabel(j.meta.Thanos.Downsample.Resolution)).Inc()
				return fmt.Errorf("downsample block %s: %w", j.meta.ULID, err)
			}
			done.add()
			return nil
		}))
		if ctx.Err() != nil {
			return errors.Join(errs...)
		}
	}
	d.notes.line("%s made of %s%s, %d failed; %d in the bucket", plural(made.n(), "downsampled block"), plural(done.n(), "block"),
		ifDry(d.cfg.dryRun), len(tried)-done.n(), found)
	return errors.Join(errs...)
}

// one makes what is missing of a block, and returns how many blocks came of it.
func (d *downsampler) one(ctx context.Context, j downsampling) (n int, err error) {
	m := j.meta
	if len(m.Thanos.Labels) == 0 {
		return 0, block.ErrNoLabels
	}
	if d.cfg.dryRun {
		d.say("%s: would be downsampled to %s: %s", m.ULID, resolutionNames(j.targets), m)
		return len(j.targets), nil
	}
	begun := time.Now()
	r := remaker{env: d.env, dir: filepath.Join(d.cfg.dir, "downsample", m.ULID.String()), m: m, opts: block.UploadOptions{
		Concurrency: d.cfg.files, HashFunc: block.HashFunc(d.cfg.hash),
	}}
	defer func() { err = errors.Join(err, os.RemoveAll(r.dir)) }()
	made, skipped, err := r.downsample(ctx, j.targets)
	label := resolutionLabel(m.Thanos.Downsample.Resolution)
	d.metrics.made.WithLabelValues(label).Add(float64(len(made)))
	for _, resolution := range slices.Sorted(maps.Keys(made)) {
		o := made[resolution]
		d.say("%s: downsampled to %s as %s: %d series, %d chunks", m.ULID, resolutionName(resolution), o.ULID, o.Stats.NumSeries, o.Stats.NumChunks)
	}
	if err != nil {
		return len(made), err
	}
	d.metrics.duration.WithLabelValues(label).Observe(time.Since(begun).Seconds())
	if skipped > 0 {
		d.notes.line("%s: %d histograms with custom buckets have no aggregates; only the raw block has them", m.ULID, skipped)
	}
	if len(made) < len(j.targets) {
		d.say("%s: has nothing that could be downsampled", m.ULID)
	}
	return len(made), nil
}
