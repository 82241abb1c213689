package app

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/promontory-io/promontory/libs/procs"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/tools/bench/internal/blocks"
	"github.com/promontory-io/promontory/tools/bench/internal/rawstream"
)

// seriesConfig sizes the blocks.
type seriesConfig struct {
	*Config
	series, blocks, chunks, samples, runs int
	batch                                 int64
	args                                  []string
}

func newSeriesCommand(common *Config) *cobra.Command {
	cfg := &seriesConfig{Config: common}
	cmd := &cobra.Command{
		Use:   "store-gateway-series",
		Short: "All series of some blocks through a store-gateway, beside a bare stream of the same frames",
		RunE:  func(cmd *cobra.Command, _ []string) error { return cfg.run(cmd.Context(), cmd) },
	}
	fs := cmd.Flags()
	fs.IntVar(&cfg.series, "series", 100_000, "series in each block")
	fs.IntVar(&cfg.blocks, "blocks", 2, "blocks, of one time range and different external labels")
	fs.IntVar(&cfg.chunks, "chunks", 8, "chunks of each series")
	fs.IntVar(&cfg.samples, "samples", 120, "samples of each chunk")
	fs.IntVar(&cfg.runs, "runs", 3, "measured calls")
	fs.Int64Var(&cfg.batch, "batch", 64, "series a frame")
	fs.StringArrayVar(&cfg.args, "arg", nil, "argument for the store-gateway")
	return cmd
}

// minTime is the start of the blocks: 2025-11-20 10:00 UTC.
const minTime int64 = 1_763_632_800_000

// generate makes the blocks unless they are there.
func (c *seriesConfig) generate() (string, error) {
	dir := filepath.Join(c.Dir, fmt.Sprintf("series-%d-%d-%d-%d", c.series, c.blocks, c.chunks, c.samples))
	bucket := filepath.Join(dir, "bucket")
	return bucket, once(dir, func() error {
		for i := range c.blocks {
			if _, err := blocks.Write(bucket, blocks.Spec{
				ID: blocks.ID(i), MinTime: minTime, Series: c.series, Chunks: c.chunks, Samples: c.samples,
				Step: 7_200_000 / int64(c.chunks*c.samples), External: map[string]string{"cluster": "eu1", "replica": fmt.Sprintf("r%d", i)},
			}); err != nil {
				return err
			}
		}
		return nil
	})
}

func (c *seriesConfig) run(ctx context.Context, cmd *cobra.Command) (err error) {
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return fmt.Errorf("folder: %w", err)
	}
	c.Dir = dir
	bucket, err := c.generate()
	if err != nil {
		return err
	}
	addrs, err := procs.FreeAddrs(1)
	if err != nil {
		return err
	}
	group := procs.New(procs.Config{LogDir: filepath.Join(c.Dir, "logs")})
	defer func() { err = errors.Join(err, group.Stop()) }()
	data, err := os.MkdirTemp(c.Dir, "store-gateway-")
	if err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	defer os.RemoveAll(data) //nolint:errcheck // scratch
	g, err := c.startGateway(ctx, group, "store-gateway", filesystem(bucket), data, c.args...)
	if err != nil {
		return err
	}
	defer g.conn.Close() //nolint:errcheck // read side
	out := cmd.OutOrStdout()
	var stats rawstream.Stats
	for i := range c.runs {
		u, err := measure(g.process, func() (err error) {
			stats, err = rawstream.Series(ctx, g.conn, c.request(), nil)
			return err
		})
		if err != nil {
			return err
		}
		label := map[bool]string{true: "cold", false: "warm"}[i == 0]
		fmt.Fprintf(out, "store-gateway, %-17s %s (%d frames, %d MB)\n", label, u, stats.Frames, stats.Bytes>>20)
	}
	u, err := measure(g.process, func() error { return c.two(ctx, g.conn) })
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "store-gateway, %-17s %s\n", "warm, two at once", u)
	return c.floor(ctx, cmd, group, g.conn, addrs[0])
}

func (c *seriesConfig) request() *thanos.SeriesRequest {
	return &thanos.SeriesRequest{
		MinTime: minTime, MaxTime: minTime + 7_200_000, ResponseBatchSize: c.batch,
		Matchers: []*thanos.LabelMatcher{{Name: "__name__", Value: "http_requests_total"}},
	}
}

// two runs two calls at once.
func (c *seriesConfig) two(ctx context.Context, conn *grpc.ClientConn) error {
	g, ctx := errgroup.WithContext(ctx)
	for range 2 {
		g.Go(func() error {
			_, err := rawstream.Series(ctx, conn, c.request(), nil)
			return err
		})
	}
	return g.Wait()
}

// floor records the frames and has a bare server send them.
func (c *seriesConfig) floor(ctx context.Context, cmd *cobra.Command, group *procs.Group, conn *grpc.ClientConn, addr string) error {
	path := filepath.Join(c.Dir, "frames")
	if err := record(ctx, conn, c.request(), path); err != nil {
		return err
	}
	defer os.Remove(path) //nolint:errcheck // scratch
	program, err := self()
	if err != nil {
		return err
	}
	if err := group.Start(ctx, procs.Spec{
		Name: "bare", Binary: program, Args: []string{"bare", "--frames=" + path, "--address=" + addr},
	}); err != nil {
		return err
	}
	bare, err := rawstream.Dial(addr)
	if err != nil {
		return fmt.Errorf("dial bare server: %w", err)
	}
	defer bare.Close() //nolint:errcheck // read side
	for i := range c.runs + 1 {
		var stats rawstream.Stats
		u, err := measure(group.Process("bare"), func() (err error) {
			stats, err = rawstream.Series(ctx, bare, c.request(), nil, grpc.WaitForReady(true))
			return err
		})
		if err != nil {
			return err
		}
		if i > 0 { // the first call includes reading the frames
			fmt.Fprintf(cmd.OutOrStdout(), "bare stream                      %s (%d frames, %d MB)\n", strings.Replace(u.String(), ", peak", ", with all frames in memory: peak", 1), stats.Frames, stats.Bytes>>20)
		}
	}
	return nil
}

func record(ctx context.Context, conn *grpc.ClientConn, req *thanos.SeriesRequest, path string) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("record frames: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := bufio.NewWriterSize(f, 1<<20)
	if _, err := rawstream.Series(ctx, conn, req, func(frame []byte) error { return rawstream.AppendFrame(w, frame) }); err != nil {
		return err
	}
	return w.Flush()
}
