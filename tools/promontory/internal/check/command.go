package check

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/promql/parser"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/promontory-io/promontory/libs/rulefile"
	"github.com/promontory-io/promontory/libs/service/flags"
	"github.com/promontory-io/promontory/libs/service/logging"
	"github.com/promontory-io/promontory/tools/promontory/internal/check/unittest"
	"github.com/promontory-io/promontory/tools/promontory/internal/cli"
)

// NewCommand returns `check` with all its subcommands.
func NewCommand() *cobra.Command {
	group := &cobra.Command{
		Use:   "check",
		Short: "Check files before a running service reads them",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	group.AddCommand(NewRules("rules"), newConfig(), newBucket())
	return group
}

// rulesConfig is what can be said to the check of rules.
type rulesConfig struct {
	patterns, tests []string
	features        []string
	lintFatal       bool
}

// featureExperimentalFunctions is the one value of --enable-feature.
const featureExperimentalFunctions = "promql-experimental-functions"

// NewRules returns the command that checks rule files, under a name.
func NewRules(name string) *cobra.Command {
	var c rulesConfig
	cmd := &cobra.Command{
		Use: name + " [flags] [FILE...]", Short: "Check rule files, and run their unit tests",
		Long: `Reads rule files as strictly as the ruler does, and prints how many rules each has or what is wrong with it, by file
and line. Rules that give their results the same name and labels are pointed out. With --test, unit tests are run
too; they are written as for promtool, and name the rule files they are about.

The exit status is 0 when all is well, 1 when a rule is wrong or a test fails, and 2 when a check could not be made:
a pattern that matches no file, a flag that does not exist.`,
		Example: `  promontory check rules rules/*.yaml
  promontory check rules --rules='rules/*.yaml' --rules=more.yaml --lint-fatal
  promontory check rules --test=tests/*.yaml`,
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return unusable{err} })
	fs := cli.SetUp(cmd, func(fs *pflag.FlagSet) {
		flags.Strings(fs, &c.patterns, "rules", "Rule files, as a path or a pattern such as 'rules/*.yaml'; repeat for several.")
		flags.Strings(fs, &c.tests, "test", "Unit tests of rules, as a path or a pattern; repeat for several.")
		flags.Bool(fs, &c.lintFatal, "lint-fatal", "Let rules that look like duplicates fail the check.")
		flags.Enums(fs, &c.features, "enable-feature", "Feature that the ruler has switched on too.", featureExperimentalFunctions)
		bindAccepted(fs)
	})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := flags.Check(fs); err != nil {
			return unusable{err}
		}
		if len(c.patterns) == 0 && len(args) == 0 && len(c.tests) == 0 {
			return unusable{errors.New("nothing to check: give files, --rules or --test")}
		}
		if slices.Contains(c.features, featureExperimentalFunctions) {
			parser.EnableExperimentalFunctions = true // of the whole process, in this version of the library
		}
		return runRules(cmd, c, args)
	}
	return cmd
}

// bindAccepted binds the flags that every command of Thanos has. A check has nothing to log, trace or limit.
func bindAccepted(fs *pflag.FlagSet) {
	log := logging.DefaultConfig()
	log.BindFlags(fs)
	var tracing flags.Content
	flags.BindContent(fs, &tracing, "tracing.config", "Accepted, without effect.")
	var autoMemLimit bool
	memLimitRatio := 0.9
	flags.Bool(fs, &autoMemLimit, "enable-auto-gomemlimit", "Accepted, without effect.")
	flags.Float64(fs, &memLimitRatio, "auto-gomemlimit.ratio", "Accepted, without effect.")
	for _, name := range []string{"log.level", "log.format"} {
		fs.Lookup(name).Usage = "Accepted, without effect: there is nothing to log."
	}
}

func runRules(cmd *cobra.Command, c rulesConfig, args []string) error {
	files, flagged := expand("--rules: ", c.patterns)
	named, listed := expand("", args)
	tests, tested := expand("--test: ", c.tests)
	for _, f := range named {
		if !slices.Contains(files, f) {
			files = append(files, f)
		}
	}
	out := cmd.OutOrStdout()
	total, failed, groups := lookAt(files, out)
	var errs []error
	if failed > 0 {
		errs = append(errs, Failure{fmt.Errorf("%d of %d rule files have problems", failed, len(files))})
	}
	duplicates := rulefile.Duplicates(groups)
	for _, d := range duplicates {
		fmt.Fprintf(out, "warning: %s\n", d)
	}
	if c.lintFatal && len(duplicates) > 0 {
		errs = append(errs, Failure{fmt.Errorf("%d rules look like duplicates", len(duplicates))})
	}
	if len(files) > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "%d files checked: %d rules, %d files with problems\n", len(files), total.rules, failed)
	}
	failed = 0
	for _, file := range tests {
		report, err := unittest.Run(cmd.Context(), file)
		if err != nil {
			failed++
			fmt.Fprintf(out, "%s: %v\n", file, err)
			continue
		}
		fmt.Fprintf(out, "%s: %d of %d tests passed\n", file, report.Tests-report.Failed, report.Tests)
		for _, f := range report.Failures {
			fmt.Fprintf(out, "  %s\n", strings.ReplaceAll(f, "\n", "\n  "))
		}
		if report.Failed > 0 {
			failed++
		}
	}
	if failed > 0 {
		errs = append(errs, Failure{fmt.Errorf("%d of %d test files fail", failed, len(tests))})
	}
	missing := errors.Join(flagged, listed, tested)
	switch {
	case len(errs) > 0:
		return Failure{errors.Join(append(errs, missing)...)}
	case missing != nil:
		return unusable{missing}
	}
	return nil
}
