package app

import (
	"context"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/promontory-io/promontory/libs/service"
)

// NewCommand returns the command of the sidecar.
func NewCommand() *cobra.Command { return newCommand(os.Stderr) }

func newCommand(logs io.Writer) *cobra.Command {
	cfg := DefaultConfig()
	return service.NewCommand(service.Command{
		Name:   "sidecar",
		Short:  "Makes the Prometheus beside it part of the whole: serves its data, uploads its blocks, reloads it.",
		Words:  [][]string{{"sidecar"}},
		Common: &cfg.Common, Settings: &cfg, LogOutput: logs,
		Run: func(ctx context.Context, p *service.Process) error { return Run(ctx, cfg, p) },
	})
}
