package app

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/promontory-io/promontory/libs/service"
)

// NewCommand returns the command of the querier.
func NewCommand() *cobra.Command {
	cfg := DefaultConfig()
	return service.NewCommand(service.Command{
		Name:   "querier",
		Short:  "Answers PromQL over many stores as if they were one Prometheus.",
		Words:  [][]string{{"query"}},
		Common: &cfg.Common, Settings: &cfg,
		Run: func(ctx context.Context, p *service.Process) error { return Run(ctx, cfg, p) },
	})
}
