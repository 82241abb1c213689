// Command sidecar makes one Prometheus server part of the whole: it answers the Store API and
// its relatives over Prometheus' own HTTP API, uploads its blocks to a bucket, and reloads it
// when its configuration changes.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/promontory-io/promontory/services/sidecar/internal/app"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := app.NewCommand().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "sidecar:", err)
		return 1
	}
	return 0
}
