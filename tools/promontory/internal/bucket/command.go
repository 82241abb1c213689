// Package bucket holds the commands that show, check and repair what is in object storage.
//
// Each command is a config (what its flags say), a decision (pure: blocks and a clock in, a list of actions out) and
// a run that carries the actions out. Results go to standard output; progress, the summary and logs go to standard
// error, so that output can be piped. Trouble with one block never keeps a command from the others: it is reported
// with the block's name at the end, and makes the exit status 1.
package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/version"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/objstore"
	"github.com/promontory-io/promontory/libs/service"
	"github.com/promontory-io/promontory/libs/service/flags"
	"github.com/promontory-io/promontory/libs/service/logging"
	"github.com/promontory-io/promontory/libs/service/tracing"
	"github.com/promontory-io/promontory/tools/promontory/internal/cli"
)

const component = "bucket"

// NewCommand returns `bucket` with all its subcommands.
func NewCommand() *cobra.Command {
	group := &cobra.Command{
		Use:   "bucket",
		Short: "See and repair what is in object storage",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	group.AddCommand(
		newLs(), newInspect(), newMark(), newVerify(), newRepair(), newReplicate(), newDownsample(), newCleanup(), newRetention(), newUpload(), newRewrite(),
		newAnalyze(), newWeb(findWeb),
	)
	return group
}

// env is what a command works with. It belongs to one run.
type env struct {
	logger *zap.Logger
	bkt    objstore.InstrumentedBucket
	reg    prometheus.Registerer
	// out takes results, notes takes progress and the summary.
	out   io.Writer
	outMu sync.Mutex // keeps lines of say whole
	notes *notes
	now   func() time.Time
	// tr is nil where there is no tracing: a bucket with spans shows itself under another name in metrics.
	tr *tracing.Tracing
}

// openOther opens a second bucket, with metrics of its own.
func (e *env) openOther(c *flags.Content, reg prometheus.Registerer) (objstore.InstrumentedBucket, error) {
	return openBucket(c, e.logger, reg, e.tr)
}

func openBucket(c *flags.Content, logger *zap.Logger, reg prometheus.Registerer, tr *tracing.Tracing) (objstore.InstrumentedBucket, error) {
	text, err := c.Bytes()
	if err != nil {
		return nil, err
	}
	opts := []objstore.Option{objstore.WithSource(c.Source())}
	if tr != nil {
		opts = append(opts, objstore.WithTracer(tr.Provider().Tracer("github.com/promontory-io/promontory")))
	}
	return objstore.New(text, component, logger, reg, opts...)
}

// newServiceEnv returns what a command works with that runs as a service does; its bucket is still to be opened.
func newServiceEnv(p *service.Process, traced bool, out, errOut io.Writer) *env {
	e := &env{logger: p.Logger, reg: p.Registry, out: out, notes: newNotes(errOut), now: time.Now}
	if traced {
		e.tr = p.Tracing
	}
	return e
}

// withExample adds examples to the help of a command that is made as a service's is, which has none.
func withExample(cmd *cobra.Command, example string) *cobra.Command {
	cmd.Example = example
	help := cmd.HelpFunc()
	cmd.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		help(cmd, args)
		cmd.Printf("\nExamples:\n%s\n", cmd.Example)
	})
	return cmd
}

// command describes one subcommand.
type command struct {
	name, short, long, example string
	settings                   service.Settings
	run                        func(ctx context.Context, e *env) error
}

// common are the flags of every subcommand.
type common struct {
	log           logging.Config
	tracing       flags.Content
	bucket        flags.Content
	autoMemLimit  bool
	memLimitRatio float64
}

func (c *common) bindFlags(fs *pflag.FlagSet) {
	flags.BindContent(fs, &c.bucket, "objstore.config", "YAML that describes the bucket.", flags.Required())
	c.log.BindFlags(fs)
	flags.BindContent(fs, &c.tracing, "tracing.config", "YAML that says where traces go.")
	flags.Bool(fs, &c.autoMemLimit, "enable-auto-gomemlimit", "Set GOMEMLIMIT from the memory limit of the container.")
	flags.Float64(fs, &c.memLimitRatio, "auto-gomemlimit.ratio", "Part of the container's memory limit that GOMEMLIMIT is set to, above 0 and up to 1.")
}

func (c *common) validate() error {
	// Written so that NaN fails too.
	if !(c.memLimitRatio > 0 && c.memLimitRatio <= 1) {
		return fmt.Errorf("--auto-gomemlimit.ratio: %v is not above 0 and up to 1", c.memLimitRatio)
	}
	return nil
}

func (c command) cobra() *cobra.Command {
	shared := &common{log: logging.DefaultConfig(), memLimitRatio: 0.9}
	// Progress and the summary say what matters to who sits there; logs are for what is amiss.
	cmd := &cobra.Command{
		Use: c.name + " [flags]", Short: c.short, Long: c.long, Example: c.example,
		Args: cobra.NoArgs,
	}
	var help *bool
	fs := cli.SetUp(cmd, func(fs *pflag.FlagSet) {
		c.settings.BindFlags(fs)
		shared.bindFlags(fs)
		help = bindLongHelp(fs)
	})
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *help {
			return cmd.Help()
		}
		if err := errors.Join(flags.Check(fs), shared.validate(), c.settings.Validate()); err != nil {
			return err
		}
		return runWith(cmd, shared, c.run)
	}
	return cmd
}

// bindLongHelp binds the hidden flags that older manifests may carry for longer help; all help is long here.
func bindLongHelp(fs *pflag.FlagSet) *bool {
	help := new(bool)
	for _, name := range []string{"help-long", "help-man"} {
		flags.Bool(fs, help, name, "Show help.")
		flags.Hide(fs, name)
	}
	return help
}

func runWith(cmd *cobra.Command, shared *common, run func(context.Context, *env) error) (err error) {
	ctx := cmd.Context()
	logger, err := logging.New(shared.log, cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	setMemoryLimit(shared, logger)
	tr, err := tracing.Load(ctx, &shared.tracing, tracing.Options{Logger: logger, ServiceName: "promontory-" + component, Version: version.Version})
	if err != nil {
		return err
	}
	shutdown := tr.Shutdown
	defer func() {
		// The last traces are sent even when the work was interrupted, but nobody waits long for them.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if terr := shutdown(ctx); terr != nil {
			logger.Warn("send last traces", zap.Error(terr))
		}
	}()
	reg := prometheus.NewRegistry()
	if !shared.tracing.IsSet() {
		tr = nil
	}
	bkt, err := openBucket(&shared.bucket, logger, reg, tr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bkt.Close()) }()
	e := &env{logger: logger, bkt: bkt, reg: reg, out: cmd.OutOrStdout(), notes: newNotes(cmd.ErrOrStderr()), now: time.Now, tr: tr}
	return run(ctx, e)
}

func setMemoryLimit(c *common, logger *zap.Logger) {
	if !c.autoMemLimit {
		return
	}
	if _, err := memlimit.Set(memlimit.WithRatio(c.memLimitRatio), memlimit.WithProvider(memlimit.FromCgroup)); err != nil {
		logger.Warn("GOMEMLIMIT is not set", zap.Error(err))
	}
}
