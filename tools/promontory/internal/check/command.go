package check

import (
	"errors"
	"fmt"

	"github.com/prometheus/common/version"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/promontory-io/promontory/libs/service/flags"
	"github.com/promontory-io/promontory/libs/service/logging"
)

// NewCommand returns `check` with all its subcommands.
func NewCommand() *cobra.Command {
	group := &cobra.Command{
		Use:   "check",
		Short: "Check files before a running service reads them",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	group.AddCommand(NewRules("rules"))
	return group
}

// NewRules returns the command that checks rule files, under a name.
func NewRules(name string) *cobra.Command {
	var patterns []string
	cmd := &cobra.Command{
		Use: name + " [flags]", Short: "Check rule files",
		Long: `Reads rule files as strictly as the ruler does, and prints how many rules each has or what is wrong with it, by file
and line. The exit status is 1 when anything is wrong, and when a pattern matches no file.`,
		Example: "  promontory check rules --rules='rules/*.yaml' --rules=more.yaml",
		Args:    cobra.NoArgs, Version: version.Print("promontory"),
		SilenceUsage: true, SilenceErrors: true, DisableAutoGenTag: true,
	}
	cmd.SetVersionTemplate("{{.Version}}\n")
	fs := cmd.Flags()
	fs.SortFlags = false
	flags.Strings(fs, &patterns, "rules", "Rule files, as a path or a pattern such as 'rules/*.yaml'; repeat for several.")
	bindAccepted(fs)
	cmd.InitDefaultHelpFlag()
	cmd.InitDefaultVersionFlag()
	flags.AddNegations(fs)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := flags.Check(fs); err != nil {
			return err
		}
		if len(patterns) == 0 {
			return errors.New("--rules: is required")
		}
		return runRules(cmd, patterns)
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

func runRules(cmd *cobra.Command, patterns []string) error {
	files, err := expand(patterns)
	failed, rules := 0, 0
	for _, file := range files {
		c, errs := checkFile(file)
		if len(errs) == 0 {
			rules += c.rules
			fmt.Fprintf(cmd.OutOrStdout(), "%s: %d rules in %d groups\n", file, c.rules, c.groups)
			continue
		}
		failed++
		fmt.Fprintf(cmd.OutOrStdout(), "%s: %d problems\n", file, len(errs))
		for _, e := range errs {
			fmt.Fprintf(cmd.OutOrStdout(), "  %v\n", e)
		}
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%d files checked: %d rules, %d files with problems\n", len(files), rules, failed)
	if failed > 0 {
		err = errors.Join(err, fmt.Errorf("%d of %d rule files have problems", failed, len(files)))
	}
	return err
}
