package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/fetch"
	"github.com/promontory-io/promontory/libs/objstore"
	"github.com/promontory-io/promontory/libs/service"
	"github.com/promontory-io/promontory/libs/service/flags"
)

// replicatePeriod is the time from the end of one run to the begin of the next.
const replicatePeriod = time.Minute

type replicateConfig struct {
	from, to      flags.Content
	resolutions   []string
	compactionMin int
	compactionMax int
	compactions   []string
	matchers      []string
	singleRun     bool
	times         timeRange
	ids           []string
	ignoreMarked  bool
	dryRun        bool
	concurrency   int
}

func (c *replicateConfig) BindFlags(fs *pflag.FlagSet) {
	flags.Group(fs, "Replicate", func(fs *pflag.FlagSet) {
		flags.BindContent(fs, &c.from, "objstore.config", "YAML that describes the bucket to copy from.", flags.Required())
		flags.BindContent(fs, &c.to, "objstore-to.config", "YAML that describes the bucket to copy to.", flags.Required())
		flags.List(fs, &c.resolutions, "resolution", "Only blocks of this resolution: 0s, 5m or 1h; repeat for several.")
		flags.Int(fs, &c.compactionMin, "compaction-min", "Only blocks of this compaction level or above.")
		flags.Int(fs, &c.compactionMax, "compaction-max", "Only blocks of this compaction level or below.")
		flags.List(fs, &c.compactions, "compaction", "Only blocks of this compaction level, in place of --compaction-min and --compaction-max; repeat for several.")
		flags.Strings(fs, &c.matchers, "matcher", `Only blocks whose external labels match, such as cluster="eu1"; repeat for several.`)
		flags.Bool(fs, &c.singleRun, "single-run", "Copy what there is and end, instead of looking again every minute.")
		c.times.bindFlags(fs)
		flags.Strings(fs, &c.ids, "id", "Copy this block, whatever the other flags select; repeat for several.")
		flags.Bool(fs, &c.ignoreMarked, "ignore-marked-for-deletion", "Leave out blocks that are marked for deletion.")
		bindDryRun(fs, &c.dryRun)
		flags.Int(fs, &c.concurrency, "concurrency", "How many blocks are copied at once; with 1 older ones are complete before newer ones.")
	})
}

func (c *replicateConfig) Validate() error {
	_, err := c.selection()
	errs := []error{err, c.times.validate()}
	if c.concurrency < 1 {
		errs = append(errs, fmt.Errorf("--concurrency: %d is not positive", c.concurrency))
	}
	if len(c.compactions) == 0 && c.compactionMin > c.compactionMax {
		errs = append(errs, fmt.Errorf("--compaction-min: %d is above --compaction-max: %d", c.compactionMin, c.compactionMax))
	}
	if c.dryRun && !c.singleRun {
		errs = append(errs, errors.New("--dry-run: needs --single-run"))
	}
	return errors.Join(errs...)
}

// selection says which blocks to copy.
type selection struct {
	ids                []ulid.ULID // these and no others, where there are any
	resolutions        []int64
	levels             []int // where empty, those from minLevel to maxLevel
	minLevel, maxLevel int
	matchers           []*labels.Matcher
}

func (c *replicateConfig) selection() (selection, error) {
	s := selection{minLevel: c.compactionMin, maxLevel: c.compactionMax}
	var errs []error
	var err error
	if s.ids, err = parseIDs(c.ids); err != nil {
		errs = append(errs, err)
	}
	for _, text := range c.resolutions {
		d, err := flags.ParseDuration(text)
		if err != nil || !slices.Contains([]int64{block.ResolutionRaw, block.Resolution5m, block.Resolution1h}, d.Milliseconds()) {
			errs = append(errs, fmt.Errorf("--resolution: %q is none of 0s, 5m and 1h", text))
		}
		s.resolutions = append(s.resolutions, d.Milliseconds())
	}
	for _, text := range c.compactions {
		level, err := strconv.Atoi(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("--compaction: %q is no compaction level", text))
		}
		s.levels = append(s.levels, level)
	}
	for _, text := range c.matchers {
		ms, err := parseMatchers(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("--matcher: %w", err))
		}
		s.matchers = append(s.matchers, ms...)
	}
	return s, errors.Join(errs...)
}

// choose returns the blocks to copy, oldest data first, and those that would be but have no external labels: nobody
// could tell whose data they hold. Pure.
func (s selection) choose(metas map[ulid.ULID]*block.Meta) (chosen, refused []*block.Meta) {
	for _, m := range byTime(metas) {
		switch {
		case !s.has(m):
		case len(m.Thanos.Labels) == 0:
			refused = append(refused, m)
		default:
			chosen = append(chosen, m)
		}
	}
	return chosen, refused
}

func (s selection) has(m *block.Meta) bool {
	if len(s.ids) > 0 {
		return slices.Contains(s.ids, m.ULID)
	}
	level := m.Compaction.Level
	if len(s.levels) > 0 && !slices.Contains(s.levels, level) || len(s.levels) == 0 && (level < s.minLevel || level > s.maxLevel) {
		return false
	}
	return slices.Contains(s.resolutions, m.Thanos.Downsample.Resolution) &&
		!slices.ContainsFunc(s.matchers, func(mt *labels.Matcher) bool { return !mt.Matches(m.Thanos.Labels[mt.Name]) })
}

func newReplicate() *cobra.Command {
	c := &replicateConfig{
		resolutions: []string{"0s", "5m", "1h"}, compactionMin: 1, compactionMax: 4, times: allTime(), concurrency: 1,
	}
	common := service.DefaultConfig("replicate")
	common.WithoutGRPC = true
	var cmd *cobra.Command
	cmd = service.NewCommand(service.Command{
		Name: "replicate", Short: "Copy blocks into another bucket, again every minute or once",
		Long:   "Copies blocks from one bucket to another, those with the oldest data first. A block appears there when all of it is; one that is there already is passed over, and one that was cut off is gone on with. Markers are not copied.",
		Common: &common, Settings: c,
		Run: func(ctx context.Context, p *service.Process) error {
			return runReplicate(ctx, p, c, common.Tracing.IsSet(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	})
	return withExample(cmd, `  promontory bucket replicate --single-run --objstore.config-file=from.yaml --objstore-to.config-file=to.yaml
  promontory bucket replicate --matcher='cluster=~"eu.*"' --compaction=4 --objstore.config-file=from.yaml --objstore-to.config-file=to.yaml`)
}

func runReplicate(ctx context.Context, p *service.Process, c *replicateConfig, traced bool, out, errOut io.Writer) (err error) {
	e := newServiceEnv(p, traced, out, errOut)
	side := func(name string) prometheus.Registerer {
		return prometheus.WrapRegistererWith(prometheus.Labels{"replicate": name}, p.Registry)
	}
	if e.bkt, err = e.openOther(&c.from, side("from")); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.bkt.Close()) }()
	to, err := e.openOther(&c.to, side("to"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	r, err := newReplicator(e, c, to)
	if err != nil {
		return err
	}
	p.Group.Add("replicate", func(ctx context.Context) error {
		return repeat(ctx, e.logger, "replication", replicatePeriod, c.singleRun, r.counted)
	})
	return p.Serve(ctx)
}

type replicator struct {
	*env

	cfg       *replicateConfig
	to        objstore.Bucket
	fetcher   *fetch.Fetcher
	selection selection
	metrics   replicateMetrics
}

type replicateMetrics struct {
	runs                    *prometheus.CounterVec
	duration                *prometheus.HistogramVec
	already, blocks, copied prometheus.Counter
}

func newReplicator(e *env, c *replicateConfig, to objstore.Bucket) (*replicator, error) {
	s, err := c.selection()
	if err != nil {
		return nil, err
	}
	base, err := fetch.NewBase(e.logger, e.bkt, fetch.Config{Now: e.now}, e.reg)
	if err != nil {
		return nil, err
	}
	var filters []fetch.Filter
	if len(s.ids) == 0 {
		filters = append(filters, c.times.filter())
		if c.ignoreMarked {
			filters = append(filters, fetch.IgnoreDeletionMark(0))
		}
	}
	return &replicator{env: e, cfg: c, to: to, fetcher: base.NewFetcher(e.reg, filters...), selection: s, metrics: newReplicateMetrics(e.reg)}, nil
}

func newReplicateMetrics(reg prometheus.Registerer) replicateMetrics {
	auto := promauto.With(reg)
	m := replicateMetrics{
		runs: auto.NewCounterVec(prometheus.CounterOpts{
			Name: "thanos_replicate_replication_runs_total", Help: "Runs of replication, by result.",
		}, []string{"result"}),
		duration: auto.NewHistogramVec(prometheus.HistogramOpts{
			Name: "thanos_replicate_replication_run_duration_seconds", Help: "How long runs of replication took.",
			Buckets: []float64{1, 5, 10, 30, 60, 300, 600, 1800, 3600},
		}, []string{"result"}),
		already: auto.NewCounter(prometheus.CounterOpts{
			Name: "thanos_replicate_blocks_already_replicated_total", Help: "Blocks that were in the target already.",
		}),
		blocks: auto.NewCounter(prometheus.CounterOpts{
			Name: "thanos_replicate_blocks_replicated_total", Help: "Blocks copied.",
		}),
		copied: auto.NewCounter(prometheus.CounterOpts{
			Name: "thanos_replicate_objects_replicated_total", Help: "Objects copied.",
		}),
	}
	for _, result := range []string{"success", "error"} {
		m.runs.WithLabelValues(result)
		m.duration.WithLabelValues(result)
	}
	return m
}

// counted is once, with its metrics.
func (r *replicator) counted(ctx context.Context) error {
	begun := time.Now()
	err := r.once(ctx)
	result := "success"
	if err != nil {
		result = "error"
	}
	r.metrics.runs.WithLabelValues(result).Inc()
	r.metrics.duration.WithLabelValues(result).Observe(time.Since(begun).Seconds())
	return err
}

// once copies all that is to be copied.
func (r *replicator) once(ctx context.Context) error {
	result, fetchErr := r.fetcher.Fetch(ctx)
	if result == nil {
		return fmt.Errorf("read the blocks of the bucket: %w", fetchErr)
	}
	chosen, refused := r.selection.choose(result.Metas)
	errs := []error{fetchErr}
	for _, m := range refused {
		r.notes.line("%s: has no external labels, not copied", m.ULID)
	}
	for _, id := range r.selection.ids {
		switch m := result.Metas[id]; {
		case m == nil:
			errs = append(errs, fmt.Errorf("copy block %s: there is no such block, or it has no usable meta.json", id))
		case len(m.Thanos.Labels) == 0:
			errs = append(errs, fmt.Errorf("copy block %s: %w", id, block.ErrNoLabels))
		}
	}
	var mu sync.Mutex // guards the numbers
	var blocks, already, objects int
	progress := r.notes.progress("replicate", len(chosen))
	errs = append(errs, each(ctx, r.cfg.concurrency, chosen, func(ctx context.Context, m *block.Meta) error {
		defer progress.step()
		c, err := r.one(ctx, m)
		r.metrics.copied.Add(float64(c.objects))
		mu.Lock()
		defer mu.Unlock()
		objects += c.objects
		switch {
		case err != nil:
		case c.already:
			already++
			r.metrics.already.Inc()
		default:
			blocks++
			r.metrics.blocks.Inc()
		}
		return err
	}))
	r.notes.line("%s (%s) copied%s, %d there already, %d refused, %d failed, %d not selected", plural(blocks, "block"), plural(objects, "object"),
		ifDry(r.cfg.dryRun), already, len(refused), len(chosen)-blocks-already, len(result.Metas)+len(result.Excluded)-len(chosen)-len(refused))
	return errors.Join(errs...)
}

func (r *replicator) one(ctx context.Context, m *block.Meta) (copied, error) {
	if !r.cfg.dryRun {
		c, err := copyBlock(ctx, r.bkt, r.to, m.ULID, true)
		if err == nil && !c.already {
			r.say("%s: copied, %s", m.ULID, plural(c.objects, "object"))
		}
		return c, err
	}
	there, err := block.Exists(ctx, r.to, m.ULID)
	if err != nil {
		return copied{}, fmt.Errorf("look for block %s in the target: %w", m.ULID, err)
	}
	if !there {
		r.say("%s: would be copied, %s", m.ULID, m)
	}
	return copied{already: there}, nil
}
