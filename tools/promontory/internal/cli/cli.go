// Package cli is what all commands of the command line have in common.
package cli

import (
	"github.com/prometheus/common/version"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/promontory-io/promontory/libs/service/flags"
)

// SetUp gives cmd its version and its flags, in the order in which bind registers them, with negations of the boolean ones. Errors are
// the caller's to print, and come without the usage. It returns the flags, for [flags.Check].
func SetUp(cmd *cobra.Command, bind func(*pflag.FlagSet)) *pflag.FlagSet {
	cmd.Version = version.Print("promontory")
	cmd.SilenceUsage, cmd.SilenceErrors, cmd.DisableAutoGenTag = true, true, true
	cmd.SetVersionTemplate("{{.Version}}\n")
	fs := cmd.Flags()
	fs.SortFlags = false
	bind(fs)
	cmd.InitDefaultHelpFlag()
	cmd.InitDefaultVersionFlag()
	flags.AddNegations(fs)
	return fs
}
