package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/block/blockapi"
	"github.com/promontory-io/promontory/libs/block/fetch"
	"github.com/promontory-io/promontory/libs/objstore"
	"github.com/promontory-io/promontory/libs/service"
	"github.com/promontory-io/promontory/libs/webui"
	"github.com/promontory-io/promontory/services/bucket-web/internal/api"
	"github.com/promontory-io/promontory/services/bucket-web/internal/view"
)

// NewCommand returns the command of bucket-web.
func NewCommand() *cobra.Command { return command(os.Stderr) }

func command(logs io.Writer) *cobra.Command {
	cfg := DefaultConfig()
	return service.NewCommand(service.Command{
		Name:  "bucket-web",
		Short: "Shows the blocks of a bucket in a browser and as JSON, and marks them.",
		Words: [][]string{{"tools", "bucket", "web"}, {"bucket", "web"}}, Common: &cfg.Common, Settings: &cfg,
		Run:       func(ctx context.Context, p *service.Process) error { return Run(ctx, cfg, p) },
		LogOutput: logs,
	})
}

// retryLook is how soon a look at the bucket that failed is repeated.
const retryLook = 30 * time.Second

// Run wires bucket-web and serves until ctx ends.
func Run(ctx context.Context, cfg Config, p *service.Process) (err error) {
	text, err := cfg.Bucket.Bytes()
	if err != nil {
		return err
	}
	bkt, err := objstore.New(text, component, p.Logger, p.Registry, objstore.WithSource(cfg.Bucket.Source()))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bkt.Close()) }()
	filters, err := filtersOf(&cfg)
	if err != nil {
		return err
	}
	// One listing of everything shows which marks there are; asking each block for three would be three requests a block.
	base, err := fetch.NewBase(p.Logger, bkt, fetch.Config{Strategy: fetch.Recursive}, p.Registry)
	if err != nil {
		return err
	}
	defer base.Close(context.WithoutCancel(ctx))

	v := view.New(view.Config{Interval: cfg.Refresh, Timeout: cfg.Timeout, Retry: retryLook}, base.NewFetcher(p.Registry, filters...), bkt, p.Logger)
	p.Group.Add("view", v.Run)

	compactor, err := cfg.compactor()
	if err != nil {
		return err
	}
	mw := p.Middleware(nil)
	handler := api.New(api.Config{
		Label: cfg.Label, DisableAdmin: cfg.DisableAdmin, Compactor: compactor, Timeout: cfg.Timeout, Flags: p.Flags, CORS: cfg.Web.CORS,
	}, p.Logger, bkt, v).Handler(mw.Wrap)
	pages := webui.Config{Service: "bucket-web", Pages: []webui.Page{webui.Blocks, webui.Usage}, Wrap: mw.Wrap}
	if compactor != nil {
		pages.Pages = append(pages.Pages, webui.Work)
	}
	pages.Pages = append(pages.Pages, webui.Flags, webui.Status)
	cfg.Web.Normalize(true)
	cfg.Web.Mount(p.HTTP, "/", webui.Over(pages, handler))
	p.Logger.Info("bucket", zap.String("bucket", bkt.Name()), zap.Duration("refresh", cfg.Refresh), zap.Bool("admin", !cfg.DisableAdmin))
	return p.Serve(ctx)
}

func filtersOf(cfg *Config) ([]fetch.Filter, error) {
	filters := []fetch.Filter{fetch.TimePartition(
		func(now time.Time) int64 { return cfg.MinTime.Millis(now) },
		func(now time.Time) int64 { return cfg.MaxTime.Millis(now) },
	)}
	if cfg.SelectorRelabel.IsSet() {
		text, err := cfg.SelectorRelabel.Bytes()
		if err != nil {
			return nil, err
		}
		rules, err := fetch.ParseRelabelShard(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", cfg.SelectorRelabel.Source(), err)
		}
		filters = append(filters, fetch.RelabelShard(rules))
	}
	return append(filters, blockapi.Gather()), nil
}
