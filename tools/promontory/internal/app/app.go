// Package app is the command line of promontory: the one package that knows all its commands.
package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/tools/promontory/internal/bucket"
	"github.com/promontory-io/promontory/tools/promontory/internal/check"
	"github.com/promontory-io/promontory/tools/promontory/internal/demo"
	"github.com/promontory-io/promontory/tools/promontory/internal/doctor"
	"github.com/promontory-io/promontory/tools/promontory/internal/query"
	"github.com/promontory-io/promontory/tools/promontory/internal/rules"
	"github.com/promontory-io/promontory/tools/promontory/internal/up"
)

// NewCommand returns the command with all that is below it.
func NewCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "promontory",
		Short:         "One PromQL endpoint over many Prometheus servers and their history",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(newUp(), newDemo(), bucket.NewCommand(), check.NewCommand(), check.NewRules("rules-check"), rules.NewCommand(), query.NewCommand(), doctor.NewCommand(), newTools())
	return root
}

// newTools groups commands under the word that argument lists written for Thanos begin with.
func newTools() *cobra.Command {
	tools := &cobra.Command{
		Use:   "tools",
		Short: "The same commands under the words Thanos has for them",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	tools.AddCommand(bucket.NewCommand(), check.NewRules("rules-check"))
	return tools
}

func newUp() *cobra.Command {
	config := up.DefaultConfig()
	command := &cobra.Command{
		Use: "up",
		Example: `  promontory up
  promontory up --set-up=receive`,
		Short: "Run the whole stack on this machine, with some days of history",
		Long: `Runs two real Prometheus servers that scrape the stack itself and a small shop that
does not exist, a sidecar beside each, a store-gateway and a querier, over a bucket
in a folder, and a ruler with an alert that a real Alertmanager shows. Some days of history are made first, so that long ranges show something.

Ctrl-C stops everything. A second run goes on with the same data.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			logger, err := zap.NewProduction(zap.IncreaseLevel(zap.WarnLevel))
			if err != nil {
				return err
			}
			return up.Run(cmd.Context(), config, logger, cmd.OutOrStdout())
		},
	}
	config.BindFlags(command.Flags())
	return command
}

func newDemo() *cobra.Command {
	address := "127.0.0.1:19092"
	command := &cobra.Command{
		Use:     "demo",
		Example: `  promontory demo --http-address=127.0.0.1:19092`,
		Short:   "Serve the metrics of a small shop that does not exist, for a Prometheus to scrape",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return serveDemo(cmd.Context(), address) },
	}
	command.Flags().StringVar(&address, "http-address", address, "Address to listen on.")
	return command
}

// serveDemo serves until ctx ends.
func serveDemo(ctx context.Context, address string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("--http-address: %w", err)
	}
	server := &http.Server{Handler: demo.Handler(demo.Targets(), time.Now), ReadHeaderTimeout: 10 * time.Second}
	stopped := make(chan error, 1)
	go func() {
		<-ctx.Done()
		// A scrape under way is done within seconds.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		stopped <- server.Shutdown(ctx)
	}()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-stopped
}
