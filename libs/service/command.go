// Package service is what every process of this repository shares: its command line, its
// logger, registry, tracing and run group, and the HTTP and gRPC servers it answers on.
//
// A service describes itself in a Command; NewCommand turns it into a cobra command that parses and
// checks everything, builds a Process and hands it to the service's own wiring. The
// sub-packages hold one subject each and can be used alone.
package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/prometheus/common/version"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/promontory-io/promontory/libs/service/flags"
)

// Settings is the configuration of one service.
type Settings interface {
	// BindFlags gives names and help texts; the defaults are what the fields hold.
	BindFlags(fs *pflag.FlagSet)
	// Validate returns all problems at once, joined, each with the name of its flag.
	Validate() error
}

// Command describes a service's command.
type Command struct {
	// Name is that of the binary.
	Name string
	// Short says in one line what the service is for; Long in a paragraph, and may be empty.
	Short, Long string
	// Words are sequences of leading arguments that are accepted and mean nothing, so that argument
	// lists written for a program with subcommands run as they are: {{"tools", "bucket", "web"},
	// {"bucket", "web"}}.
	Words [][]string
	// Common is the configuration that every service has. NewCommand binds and validates it.
	Common *Config
	// Settings is the service's own configuration.
	Settings Settings
	// Run wires the service and returns when it has stopped: the last thing it does is to return
	// Process.Serve.
	Run func(ctx context.Context, p *Process) error
	// LogOutput is where log lines go; standard error unless set.
	LogOutput io.Writer
}

// NewCommand returns the command. Its errors are meant to be printed after the name of the binary;
// it prints nothing itself but help and version.
func NewCommand(c Command) *cobra.Command {
	if c.LogOutput == nil {
		c.LogOutput = os.Stderr
	}
	long := c.Short
	if c.Long != "" {
		long = c.Long
	}
	cmd := &cobra.Command{
		Use:               c.Name + " [flags]",
		Short:             c.Short,
		Long:              long,
		Version:           version.Print(c.Name),
		Args:              func(_ *cobra.Command, args []string) error { return checkWords(c.Words, args) },
		SilenceUsage:      true,
		SilenceErrors:     true,
		DisableAutoGenTag: true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	c.Settings.BindFlags(fs)
	c.Common.BindFlags(fs)
	cmd.InitDefaultHelpFlag()
	cmd.InitDefaultVersionFlag()
	var helpLong bool
	flags.Bool(fs, &helpLong, "help-long", "Show this text.")
	flags.Hide(fs, "help-long")
	flags.AddNegations(fs)

	cmd.SetVersionTemplate("{{.Version}}\n")
	cmd.SetHelpFunc(func(cmd *cobra.Command, _ []string) { writeHelp(cmd.OutOrStdout(), cmd) })
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return explainFlagError(fs, err) })
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if helpLong {
			return cmd.Help()
		}
		if err := errors.Join(flags.Check(fs), c.Common.Validate(), c.Settings.Validate()); err != nil {
			return err
		}
		c.Common.name = c.Name
		c.Common.warnings = flags.Warnings(fs)
		c.Common.effective = flags.Effective(fs)
		p, err := NewProcess(*c.Common, c.LogOutput)
		if err != nil {
			return err
		}
		return errors.Join(c.Run(cmd.Context(), p), p.Close())
	}
	return cmd
}

// checkWords accepts no arguments, or one of the sequences of words.
func checkWords(words [][]string, args []string) error {
	if len(args) == 0 {
		return nil
	}
	known := make([]string, 0, len(words))
	for _, w := range words {
		if slices.Equal(w, args) {
			return nil
		}
		known = append(known, fmt.Sprintf("%q", strings.Join(w, " ")))
	}
	unexpected := strings.Join(args, " ")
	if len(known) == 0 {
		return fmt.Errorf("unexpected argument %q", unexpected)
	}
	return fmt.Errorf("unexpected argument %q: besides flags only %s may be given", unexpected, strings.Join(known, " or "))
}

// explainFlagError names an unknown flag and the one that was probably meant.
func explainFlagError(fs *pflag.FlagSet, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return err
	}
	name := unknown.GetSpecifiedName()
	if unknown.GetSpecifiedShortnames() != "" {
		return fmt.Errorf("unknown flag -%s", name)
	}
	if near := nearest(fs, name); near != "" {
		return fmt.Errorf("unknown flag --%s, did you mean --%s?", name, near)
	}
	return fmt.Errorf("unknown flag --%s", name)
}

// nearest returns the visible flag whose name takes the fewest edits to be made of name; "" when
// none is near.
func nearest(fs *pflag.FlagSet, name string) string {
	best, distance := "", max(2, len(name)/4)+1
	fs.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		if d := editDistance(f.Name, name); d < distance {
			best, distance = f.Name, d
		}
	})
	return best
}

// editDistance is Levenshtein's.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
