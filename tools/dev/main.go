// Command dev holds the repository's own checks, the ones that no off-the-shelf tool makes:
//
//	dev layers      imports go one way
//	dev sleeps      no test waits by sleeping
//	dev mod-check   every go.mod is tidy, builds alone, and agrees with the others
//	dev work        rewrite go.work from the modules in the tree
//
// It needs nothing but the standard library and the go command, so that it runs before anything is built.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"

	"github.com/promontory-io/promontory/tools/dev/internal/layers"
	"github.com/promontory-io/promontory/tools/dev/internal/modcheck"
	"github.com/promontory-io/promontory/tools/dev/internal/sleeps"
	"github.com/promontory-io/promontory/tools/dev/internal/workspace"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := dispatch(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "dev:", err)
		return 1
	}
	return 0
}

func dispatch(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return errors.New("usage: dev layers | sleeps | mod-check | work")
	}
	here, err := os.Getwd()
	if err != nil {
		return err
	}
	root, err := workspace.Root(here)
	if err != nil {
		return err
	}
	if args[0] == "work" {
		return workspace.Rewrite(root)
	}
	modules, err := workspace.Load(root)
	if err != nil {
		return err
	}
	var findings []string
	switch args[0] {
	case "layers":
		findings, err = layers.Check(modules, layers.Rules())
	case "sleeps":
		findings, err = sleeps.Check(modules)
	case "mod-check":
		findings = append(modcheck.Agreement(modules), modcheck.Standalone(ctx, modules, os.Stdout)...)
	default:
		err = fmt.Errorf("unknown check %q: there are layers, sleeps, mod-check and work", args[0])
	}
	if err != nil {
		return err
	}
	return report(args[0], len(modules), findings)
}

func report(check string, modules int, findings []string) error {
	if len(findings) > 0 {
		return fmt.Errorf("%s found %d:\n%s", check, len(findings), strings.Join(findings, "\n"))
	}
	fmt.Printf("%s: %d modules, nothing found\n", check, modules)
	return nil
}
