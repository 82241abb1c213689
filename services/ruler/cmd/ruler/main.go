// Command ruler evaluates recording and alerting rules over the data of all stores, by asking
// queriers. Recorded series go into a database of its own or to a remote-write target, alerts to
// Alertmanager.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/promontory-io/promontory/services/ruler/internal/app"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := app.NewCommand().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "ruler:", err)
		return 1
	}
	return 0
}
