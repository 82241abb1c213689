package bucket

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/prometheus/common/version"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/promontory-io/promontory/libs/service/flags"
	"github.com/promontory-io/promontory/libs/service/logging"
)

// webProgram serves the pages: a service of its own.
const webProgram = "bucket-web"

// webGrace is how long the program may take to end once it is told to: a little more than its own default.
const webGrace = 3 * time.Minute

// newWeb returns the command that runs webProgram. Its flags are those of that program, which reads them: here they
// are for the help text alone.
func newWeb(find func() (string, error)) *cobra.Command {
	cmd := &cobra.Command{
		Use: "web [flags]", Short: "Serve pages that show what is in the bucket",
		Long: `Runs the program ` + webProgram + ` with the flags that are given, all of which are its own: from the folder that promontory lies in, or else
from PATH. ` + webProgram + ` --help lists those that Thanos does not have.`,
		Example: `  promontory bucket web --objstore.config-file=bucket.yaml --http-address=127.0.0.1:8080`,
		Version: version.Print("promontory"), DisableFlagParsing: true,
		SilenceUsage: true, SilenceErrors: true, DisableAutoGenTag: true,
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	bindWeb(fs)
	cmd.InitDefaultHelpFlag()
	cmd.InitDefaultVersionFlag()
	bindLongHelp(fs)
	flags.AddNegations(fs)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if slices.ContainsFunc(args, func(a string) bool { return a == "--help" || a == "-h" || a == "--help-long" || a == "--help-man" }) {
			return cmd.Help()
		}
		path, err := find()
		if err != nil {
			return err
		}
		return runProgram(cmd, path, args)
	}
	return cmd
}

// bindWeb binds the flags of Thanos' command.
func bindWeb(fs *pflag.FlagSet) {
	shared := &common{log: logging.DefaultConfig(), memLimitRatio: 0.9}
	shared.bindFlags(fs)
	times, relabel := allTime(), flags.Content{}
	fs.String("http-address", "0.0.0.0:10902", "Address to listen on.")
	fs.String("http-grace-period", "2m", "How long requests may take to end.")
	fs.String("http.config", "", "File with TLS and authentication of the server.")
	fs.String("web.route-prefix", "", "Prefix of all paths.")
	fs.String("web.external-prefix", "", "Prefix of links, where a proxy cuts one off.")
	fs.String("web.prefix-header", "", "Header that holds such a prefix.")
	fs.Bool("web.disable-cors", false, "Send no CORS headers.")
	fs.String("refresh", "30m", "How often the bucket is read.")
	fs.String("timeout", "5m", "How long reading it may take.")
	fs.String("label", "", "External label to group blocks by.")
	fs.Bool("disable-admin-operations", false, "Do not let anybody mark blocks.")
	times.bindFlags(fs)
	bindRelabel(fs, &relabel)
}

// findWeb looks for the program beside this one, and in PATH.
func findWeb() (string, error) {
	if own, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(own), webProgram)
		if info, err := os.Stat(beside); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return beside, nil
		}
	}
	path, err := exec.LookPath(webProgram)
	if err != nil {
		return "", fmt.Errorf("the pages are served by the program %s, which lies neither beside promontory nor in PATH: run it with the same flags: %w", webProgram, err)
	}
	return path, nil
}

// ended is the end of a program that was run, with its exit status.
type ended struct {
	error

	code int
}

// ExitCode is that of the process.
func (e ended) ExitCode() int { return e.code }

// Unwrap returns the cause.
func (e ended) Unwrap() error { return e.error }

// runProgram runs a program until it ends. When the context of cmd is over the program is told to end.
func runProgram(cmd *cobra.Command, path string, args []string) error {
	p := exec.CommandContext(cmd.Context(), path, args...)
	p.Stdout, p.Stderr = cmd.OutOrStdout(), cmd.ErrOrStderr()
	p.Cancel = func() error { return p.Process.Signal(syscall.SIGTERM) }
	p.WaitDelay = webGrace
	err := p.Run()
	if err == nil || p.ProcessState != nil && p.ProcessState.Success() && errors.Is(err, context.Canceled) {
		return nil
	}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() > 0 {
		return ended{fmt.Errorf("%s ended: %w", path, err), exit.ExitCode()}
	}
	return fmt.Errorf("run %s: %w", path, err)
}
