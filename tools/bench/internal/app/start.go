package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/spf13/cobra"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/procs"
	"github.com/promontory-io/promontory/tools/bench/internal/blocks"
	"github.com/promontory-io/promontory/tools/bench/internal/procstat"
)

func newStartCommand(cfg *Config) *cobra.Command {
	var sizes []int
	cmd := &cobra.Command{
		Use:   "store-gateway-start",
		Short: "Start of a store-gateway on many small blocks until it is ready, twice, beside listing and reading their metadata; and its idle rounds",
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, n := range sizes {
				if err := start(cmd.Context(), cmd.OutOrStdout(), cfg, n); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().IntSliceVar(&sizes, "blocks", []int{10_000, 50_000}, "blocks")
	return cmd
}

func start(ctx context.Context, out io.Writer, cfg *Config, n int) error {
	root, err := filepath.Abs(filepath.Join(cfg.Dir, fmt.Sprintf("start-%d", n)))
	if err != nil {
		return fmt.Errorf("folder: %w", err)
	}
	bucket := filepath.Join(root, "bucket")
	if err := smallBlocks(root, bucket, n); err != nil {
		return err
	}
	data := filepath.Join(root, "data")
	if err := os.RemoveAll(data); err != nil {
		return fmt.Errorf("clear data folder: %w", err)
	}
	fmt.Fprintf(out, "store-gateway, start on %d blocks\n", n)
	for _, read := range []bool{false, true} {
		if err := listFloor(ctx, out, bucket, read); err != nil {
			return err
		}
	}
	for _, label := range []string{"first start", "second start"} {
		if err := startOnce(ctx, out, cfg, bucket, data, label); err != nil {
			return err
		}
	}
	for _, strategy := range []string{"concurrent", "recursive"} {
		if err := idleOnce(ctx, out, cfg, bucket, data, strategy); err != nil {
			return err
		}
	}
	return nil
}

// smallBlocks makes n blocks unless they are there.
func smallBlocks(root, bucket string, n int) error {
	done := filepath.Join(root, "done")
	if _, err := os.Stat(done); err == nil {
		return nil
	}
	if err := os.RemoveAll(bucket); err != nil {
		return fmt.Errorf("clear %s: %w", bucket, err)
	}
	for i := range n {
		if err := smallBlock(bucket, i); err != nil {
			return err
		}
	}
	if err := os.WriteFile(done, nil, 0o644); err != nil {
		return fmt.Errorf("remember blocks: %w", err)
	}
	return nil
}

// clusters is how many sets of external labels the small blocks have.
const clusters = 10

// smallBlock makes block number i. The first one of each cluster is written, the others are links to its index and chunks with a
// meta.json of their own: a start looks no further.
func smallBlock(bucket string, i int) error {
	spec := blocks.Spec{
		ID: blocks.ID(i), MinTime: minTime + int64(i/clusters)*7_200_000, Series: 10, Chunks: 1, Samples: 120, Step: 60_000,
		External: map[string]string{"cluster": fmt.Sprint(i % clusters)},
	}
	if i < clusters {
		_, err := blocks.Write(bucket, spec)
		return err
	}
	first, dir := filepath.Join(bucket, blocks.ID(i%clusters).String()), filepath.Join(bucket, spec.ID.String())
	meta, err := block.ReadMetaDir(first)
	if err != nil {
		return err
	}
	meta.ULID, meta.MinTime, meta.MaxTime = spec.ID, spec.MinTime, spec.MaxTime()
	meta.Compaction.Sources = []ulid.ULID{spec.ID}
	if err := os.MkdirAll(filepath.Join(dir, block.ChunksDirname), 0o755); err != nil {
		return fmt.Errorf("block %d: %w", i, err)
	}
	for _, f := range meta.Thanos.Files {
		if f.RelPath == block.MetaFilename {
			continue
		}
		if err := os.Link(filepath.Join(first, f.RelPath), filepath.Join(dir, f.RelPath)); err != nil {
			return fmt.Errorf("block %d: %w", i, err)
		}
	}
	raw, err := meta.Encode()
	if err != nil {
		return fmt.Errorf("block %d: %w", i, err)
	}
	return os.WriteFile(filepath.Join(dir, block.MetaFilename), raw, 0o644)
}

func startOnce(ctx context.Context, out io.Writer, cfg *Config, bucket, data, label string) (err error) {
	group := procs.New(procs.Config{LogDir: filepath.Join(filepath.Dir(data), "logs")})
	defer func() { err = errors.Join(err, group.Stop()) }()
	begin := time.Now()
	g, err := cfg.startGateway(ctx, group, "store-gateway", filesystem(bucket), data)
	if err != nil {
		return err
	}
	defer g.conn.Close() //nolint:errcheck // read side
	took := time.Since(begin)
	cpu, err := procstat.CPU(g.process.PID())
	if err != nil {
		return err
	}
	peak, err := procstat.PeakMemory(g.process.PID())
	if err != nil {
		return err
	}
	a, err := g.asked(ctx)
	if err != nil {
		return err
	}
	n, _ := a.since(asked{}, "sync")
	fmt.Fprintf(out, "  %-20s ready after %.2f s, %.2f CPU-s, peak %d MB; %d requests for metadata\n", label, took.Seconds(), cpu.Seconds(), peak>>20, n)
	return nil
}

// idleOnce runs a store-gateway that has nothing to do.
func idleOnce(ctx context.Context, out io.Writer, cfg *Config, bucket, data, strategy string) (err error) {
	group := procs.New(procs.Config{LogDir: filepath.Join(filepath.Dir(data), "logs")})
	defer func() { err = errors.Join(err, group.Stop()) }()
	g, err := cfg.startGateway(ctx, group, "store-gateway", filesystem(bucket), data, "--block-discovery-strategy="+strategy, "--sync-block-duration=3s",
		"--store.enable-index-header-lazy-reader", "--store.index-header-lazy-download-strategy=lazy") // headers are none of this row's concern
	if err != nil {
		return err
	}
	defer g.conn.Close() //nolint:errcheck // read side
	fmt.Fprintf(out, "  discovery %s:\n", strategy)
	return idle(ctx, out, g)
}
