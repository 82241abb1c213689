// Package rules holds the commands that work with what rules record.
//
// The one there is makes good what a ruler could not evaluate, or evaluates rules that are new over the past. What to
// evaluate is planned first (pure: gaps or files in, windows out); a window is then evaluated through a querier and
// becomes one block. What the querier shows already is not written again.
package rules

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/prometheus/common/version"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/ownwrites"
	"github.com/promontory-io/promontory/libs/promapi/httpclient"
	"github.com/promontory-io/promontory/libs/promapi/promclient"
	"github.com/promontory-io/promontory/libs/service/flags"
	"github.com/promontory-io/promontory/libs/service/logging"
	"github.com/promontory-io/promontory/tools/promontory/internal/cli"
)

// NewCommand returns `rules` with its subcommands.
func NewCommand() *cobra.Command {
	group := &cobra.Command{
		Use:   "rules",
		Short: "Work with what rules record",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	group.AddCommand(newBackfill())
	return group
}

// config is all that can be said to a back-fill.
type config struct {
	query, ruler string
	http         flags.Content
	files        []string
	pick         pick
	start, end   flags.When
	interval     time.Duration
	labels       []flags.Label
	replicaLabel string
	output       string
	block        time.Duration
	bucket       flags.Content
	partial      bool
	keepGaps     bool
	dryRun       bool
	log          logging.Config
}

// defaultLag keeps the end of a back-fill from files away from what is still being scraped and uploaded.
const defaultLag = 3 * time.Hour

// backfillReplica is what blocks of a ruler's gaps have in place of the name of the replica, with a number behind it where
// there are such blocks already; maxReplicas is the highest.
const (
	backfillReplica = "backfill"
	maxReplicas     = 99
)

func defaultConfig() config {
	return config{
		interval: time.Minute, replicaLabel: "rule_replica", output: "backfill", block: 2 * time.Hour, log: logging.DefaultConfig(),
		start: flags.At(time.Time{}), end: flags.At(time.Time{}),
	}
}

func (c *config) bindFlags(fs *pflag.FlagSet) {
	flags.String(fs, &c.query, "query", "URL of the querier whose view rules are evaluated over.")
	flags.BindContent(fs, &c.http, "query.http-config", "YAML with credentials and TLS for the querier and the ruler.")
	flags.String(fs, &c.ruler, "ruler", "URL of a ruler whose gaps are to be filled.")
	flags.Strings(fs, &c.files, "rule-file", "File with rules to evaluate over the past instead; may be a pattern, and may be repeated. Give the path that the ruler has it under: times of evaluations depend on it.")
	flags.Strings(fs, &c.pick.groups, "group", "Only rules of this group; repeat for several.")
	flags.Strings(fs, &c.pick.names, "rule", "Only rules that record this; repeat for several.")
	flags.Time(fs, &c.start, "start", "Begin: RFC 3339, or a duration relative to now such as -30d. Needed with --rule-file.")
	flags.Time(fs, &c.end, "end", "End; with --rule-file three hours ago if it is not given.")
	flags.Duration(fs, &c.interval, "eval-interval", "Interval of groups of --rule-file that do not say theirs.")
	flags.Labels(fs, &c.labels, "label", "External label of the blocks; repeat for several. With --ruler they are the ruler's if none is given.")
	flags.String(fs, &c.replicaLabel, "replica-label", "The external label that tells rulers of an HA pair apart, which queriers remove. Blocks of a ruler's gaps get the value \"backfill\" for it, so that they overlap none of the ruler's.")
	flags.String(fs, &c.output, "output", "Folder in which blocks are made. A second run with the same one goes on where the first was cut off.")
	flags.Duration(fs, &c.block, "block-duration", "Length of blocks.")
	flags.BindContent(fs, &c.bucket, "objstore.config", "YAML that describes the bucket to which blocks are uploaded. Without it they stay in the folder.")
	flags.Bool(fs, &c.partial, "partial-response", "Take answers from which something is missing. Without it they end the run.")
	flags.Bool(fs, &c.keepGaps, "keep-gaps", "Do not tell the ruler of gaps that are filled and uploaded.")
	flags.Bool(fs, &c.dryRun, "dry-run", "Only say what would be evaluated.")
	c.log.BindFlags(fs)
}

func (c *config) validate() error {
	var errs []error
	add := func(ok bool, text string) {
		if !ok {
			errs = append(errs, errors.New(text))
		}
	}
	add(c.query != "" || c.dryRun, "--query: is required")
	add((c.ruler == "") != (len(c.files) == 0), "give either --ruler or --rule-file")
	add(len(c.files) == 0 || c.start != flags.At(time.Time{}), "--start: is required with --rule-file")
	add(len(c.files) == 0 || !c.bucket.IsSet() || len(c.labels) > 0, "--label: is required with --rule-file and --objstore.config: without external labels nobody could tell whose data the blocks hold")
	add(c.interval >= time.Millisecond, "--eval-interval: has to be at least 1ms")
	add(c.block >= time.Minute, "--block-duration: has to be at least 1m")
	add(c.output != "", "--output: empty")
	for name, text := range map[string]string{"query": c.query, "ruler": c.ruler} {
		if u, err := url.Parse(text); text != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
			errs = append(errs, fmt.Errorf("--%s: %q is no URL such as http://host:10902", name, text))
		}
	}
	return errors.Join(errs...)
}

func newBackfill() *cobra.Command {
	c := defaultConfig()
	cmd := &cobra.Command{
		Use: "backfill [flags]", Short: "Evaluate recording rules over the past, and make good what a ruler has missed",
		Long: `Evaluates recording rules over the past through a querier and writes what they record into blocks: the gaps that a
ruler lists under /api/v1/rules/gaps, or all rules of files between two times. Samples that the querier shows already
are not written again, answers from which something is missing end the run, and rules may read what others record.

Blocks are uploaded if a bucket is given; else the folder is one that a TSDB can hold. The command can be stopped and
killed at any time and goes on with the same arguments.`,
		Example: `  promontory rules backfill --ruler=http://ruler:10902 --query=http://querier:10902 --objstore.config-file=bucket.yaml
  promontory rules backfill --rule-file=/etc/rules/new.yaml --start=-90d --query=http://querier:10902 \
    --label='cluster="eu1"' --label='rule_replica="backfill"' --objstore.config-file=bucket.yaml --dry-run`,
		Args: cobra.NoArgs,
	}
	fs := cli.SetUp(cmd, c.bindFlags)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := errors.Join(flags.Check(fs), c.validate()); err != nil {
			return err
		}
		return c.run(cmd)
	}
	return cmd
}

func (c *config) run(cmd *cobra.Command) error {
	ctx := cmd.Context()
	logger, err := logging.New(c.log, cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	http := httpclient.DefaultConfig()
	if c.http.IsSet() {
		text, err := c.http.Bytes()
		if err != nil {
			return err
		}
		if http, err = httpclient.Parse(c.http.Source(), text); err != nil {
			return err
		}
	}
	client, err := httpclient.New(http, "promontory/"+version.Version)
	if err != nil {
		return fmt.Errorf("--query.http-config: %w", err)
	}
	defer client.CloseIdleConnections()

	r := &ruler{client: client}
	work, err := c.work(ctx, r)
	if err != nil {
		return err
	}
	fills, reads, err := order(work.fills)
	if err != nil {
		return err
	}
	windows := plan(fills, c.block)
	if c.dryRun {
		describe(cmd.OutOrStdout(), fills, windows)
		fmt.Fprintf(cmd.ErrOrStderr(), "%d rules, %d windows; nothing was written (dry run)\n", len(fills), len(windows))
		return nil
	}
	out, err := openOutput(c.output)
	if err != nil {
		return err
	}
	up, external, err := c.openBucket(ctx, logger, out, work, windows)
	if err != nil {
		return err
	}
	defer up.close(logger)
	base, err := url.Parse(c.query)
	if err != nil {
		return fmt.Errorf("--query: %w", err)
	}
	b := &backfill{
		evaluator: &evaluator{
			client: promclient.New(base, promclient.Options{HTTP: client}), seen: shownLabels(external, c.replicaLabel),
			dropped: c.replicaLabel, partial: c.partial, engine: ownwrites.NewEngine(queryTimeout),
		},
		out: out, external: external, fills: fills, reads: reads, notes: cmd.OutOrStdout(),
	}
	done, err := b.run(ctx, windows)
	fmt.Fprintf(cmd.ErrOrStderr(), "%d rules: %d windows filled, %d were already; %d evaluations, %d samples in %d blocks in %s\n",
		len(fills), done.windows, done.skipped, done.evaluations, done.samples, done.blocks, c.output)
	uploaded, upErr := up.sync(ctx)
	if up != nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "%d blocks uploaded as %s\n", uploaded, external)
	}
	if err := errors.Join(err, upErr); err != nil {
		return err
	}
	if up == nil || c.keepGaps || len(work.gaps) == 0 {
		return nil
	}
	n, err := r.filled(ctx, work.gaps)
	if err != nil {
		return fmt.Errorf("all is filled and uploaded, but the ruler still lists the gaps: %w", err)
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "the ruler has forgotten %d gaps\n", n)
	return nil
}

// queryTimeout bounds one query.
const queryTimeout = 5 * time.Minute

// shownLabels are the external labels without the one that tells replicas apart.
func shownLabels(external labels.Labels, replica string) labels.Labels {
	b := labels.NewBuilder(external)
	b.Del(replica)
	return b.Labels()
}

// work is what there is to do.
type work struct {
	fills    []*fill
	gaps     []gap // that are filled whole by it
	external labels.Labels
}

func (c *config) work(ctx context.Context, r *ruler) (work, error) {
	now := time.Now()
	unset := flags.At(time.Time{})
	from, to := time.UnixMilli(c.start.Millis(now)), time.UnixMilli(c.end.Millis(now))
	if c.start == unset {
		from = time.Unix(0, 0)
	}
	if c.end == unset {
		to = now
		if len(c.files) > 0 {
			to = now.Add(-defaultLag)
		}
	}
	if to.After(now) {
		return work{}, fmt.Errorf("--end: %s is in the future", to.UTC().Format(time.RFC3339))
	}
	if !from.Before(to) {
		return work{}, fmt.Errorf("--start: %s is not before --end %s", from.UTC().Format(time.RFC3339), to.UTC().Format(time.RFC3339))
	}
	b := labels.NewBuilder(labels.EmptyLabels())
	for _, l := range c.labels {
		b.Set(l.Name, l.Value)
	}
	w := work{external: b.Labels()}
	if len(c.files) > 0 {
		var err error
		w.fills, err = fromFiles(c.files, c.pick, from, to, c.interval)
		if err == nil && len(w.fills) == 0 {
			err = errors.New("--rule-file: no recording rule to fill in these files")
		}
		return w, err
	}
	base, err := url.Parse(c.ruler)
	if err != nil {
		return work{}, fmt.Errorf("--ruler: %w", err)
	}
	r.base = base
	gaps, external, err := r.gaps(ctx)
	if err != nil {
		return work{}, err
	}
	if len(c.labels) == 0 {
		b.Reset(external)
		if external.Has(c.replicaLabel) {
			b.Set(c.replicaLabel, backfillReplica)
		}
		w.external = b.Labels()
	}
	w.fills, w.gaps, err = fromGaps(gaps, c.pick, from, to)
	return w, err
}

// openBucket returns the bucket, nil where blocks stay in the folder, and the external labels of blocks.
func (c *config) openBucket(ctx context.Context, logger *zap.Logger, out *output, w work, windows []window) (*uploads, labels.Labels, error) {
	candidates := []labels.Labels{w.external}
	if !c.bucket.IsSet() {
		return nil, w.external, nil
	}
	if w.external.IsEmpty() {
		return nil, w.external, errors.New("--label: is required: the ruler has no external labels, without which nobody could tell whose data the blocks hold")
	}
	if len(c.labels) == 0 && w.external.Get(c.replicaLabel) == backfillReplica {
		// Gaps of one window that are filled in different runs make blocks that overlap.
		for i := range maxReplicas {
			b := labels.NewBuilder(w.external)
			b.Set(c.replicaLabel, fmt.Sprintf("%s-%d", backfillReplica, i+1))
			candidates = append(candidates, b.Labels())
		}
	}
	up, err := openUploads(&c.bucket, logger, out)
	if err != nil {
		return nil, w.external, err
	}
	external, err := up.choose(ctx, windows, candidates)
	if err == nil {
		err = up.label(external)
	}
	if err != nil {
		up.close(logger)
		return nil, external, err
	}
	return up, external, nil
}
