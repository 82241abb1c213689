package app

import (
	"context"
	"slices"

	"github.com/spf13/cobra"

	"github.com/promontory-io/promontory/libs/service"
)

// componentFrontend is the role of a frontend alone, as metrics and traces name it.
const componentFrontend = "query-frontend"

// NewCommand returns the command of the querier.
func NewCommand() *cobra.Command {
	cfg := DefaultConfig()
	cmd := service.NewCommand(service.Command{
		Name:   "querier",
		Short:  "Answers PromQL over many stores as if they were one Prometheus.",
		Words:  [][]string{{"query"}, {FrontendWord}},
		Common: &cfg.Common, Settings: &cfg,
		Run: func(ctx context.Context, p *service.Process) error {
			if cfg.Role == RoleFrontend {
				return RunFrontend(ctx, cfg, p)
			}
			return Run(ctx, cfg, p)
		},
	})
	cmd.PreRun = func(_ *cobra.Command, args []string) {
		if slices.Equal(args, []string{FrontendWord}) {
			cfg.Role = RoleFrontend
		}
		if cfg.Role == RoleFrontend {
			cfg.Common.Component, cfg.Common.WithoutGRPC = componentFrontend, true
		}
	}
	return cmd
}
