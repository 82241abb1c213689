package app

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/promontory-io/promontory/libs/service"
)

// NewCommand returns the command of the ruler.
func NewCommand() *cobra.Command {
	cfg := DefaultConfig()
	return service.NewCommand(service.Command{
		Name:   "ruler",
		Short:  "Evaluates recording and alerting rules over the data of all stores.",
		Words:  [][]string{{"rule"}},
		Common: &cfg.Common, Settings: &cfg,
		Run: func(ctx context.Context, p *service.Process) error { return Run(ctx, cfg, p) },
	})
}
