package app

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/promontory-io/promontory/libs/service"
)

// NewCommand returns the command of the compactor.
func NewCommand() *cobra.Command {
	cfg := DefaultConfig()
	return service.NewCommand(service.Command{
		Name:  "compactor",
		Short: "Compacts, downsamples, retains and deletes the blocks of a bucket.",
		Long: "Compacts, downsamples, retains and deletes the blocks of a bucket. Without --wait it does what there is to do and ends; " +
			"with it, it goes on for ever. A block or group that gives trouble is set aside and the rest goes on.",
		Words:  [][]string{{"compact"}},
		Common: &cfg.Common, Settings: &cfg,
		Run: func(ctx context.Context, p *service.Process) error { return Run(ctx, cfg, p) },
	})
}
