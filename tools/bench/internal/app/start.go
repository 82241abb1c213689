package app

import (
	"context"
	"errors"
	"fmt"
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
	var n int
	cmd := &cobra.Command{
		Use:   "store-gateway-start",
		Short: "Start of a store-gateway on many small blocks, until it is ready; twice",
		RunE:  func(cmd *cobra.Command, _ []string) error { return start(cmd.Context(), cmd, cfg, n) },
	}
	cmd.Flags().IntVar(&n, "blocks", 10_000, "blocks")
	return cmd
}

func start(ctx context.Context, cmd *cobra.Command, cfg *Config, n int) error {
	root, err := filepath.Abs(filepath.Join(cfg.Dir, fmt.Sprintf("start-%d", n)))
	if err != nil {
		return fmt.Errorf("folder: %w", err)
	}
	bucket := filepath.Join(root, "bucket")
	if _, err := os.Stat(filepath.Join(root, "done")); err != nil {
		if err := os.RemoveAll(bucket); err != nil {
			return fmt.Errorf("clear %s: %w", bucket, err)
		}
		for i := range n {
			if err := smallBlock(bucket, i); err != nil {
				return err
			}
		}
		if err := os.WriteFile(filepath.Join(root, "done"), nil, 0o644); err != nil {
			return fmt.Errorf("remember blocks: %w", err)
		}
	}
	data := filepath.Join(root, "data")
	if err := os.RemoveAll(data); err != nil {
		return fmt.Errorf("clear data folder: %w", err)
	}
	for _, label := range []string{"first start", "second start"} {
		if err := startOnce(ctx, cmd, cfg, bucket, data, fmt.Sprintf("%s on %d blocks", label, n)); err != nil {
			return err
		}
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

func startOnce(ctx context.Context, cmd *cobra.Command, cfg *Config, bucket, data, label string) (err error) {
	addrs, err := procs.FreeAddrs(2)
	if err != nil {
		return err
	}
	group := procs.New(procs.Config{LogDir: filepath.Join(filepath.Dir(data), "logs")})
	defer func() { err = errors.Join(err, group.Stop()) }()
	begin := time.Now()
	if err := group.Start(ctx, procs.Spec{
		Name: "store-gateway", Binary: filepath.Join(cfg.Bin, "store-gateway"),
		Args: []string{
			"--data-dir=" + data, "--objstore.config={type: FILESYSTEM, config: {directory: " + bucket + "}}",
			"--http-address=" + addrs[0], "--grpc-address=" + addrs[1],
		},
		Ready: "http://" + addrs[0] + "/-/ready",
	}); err != nil {
		return err
	}
	took := time.Since(begin)
	pid := group.Process("store-gateway").PID()
	cpu, err := procstat.CPU(pid)
	if err != nil {
		return err
	}
	peak, err := procstat.PeakMemory(pid)
	if err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "store-gateway, %s: ready after %.2f s, %.2f CPU-s, peak %d MB\n", label, took.Seconds(), cpu.Seconds(), peak>>20)
	return nil
}
