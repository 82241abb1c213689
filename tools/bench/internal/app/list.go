package app

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/promontory-io/promontory/libs/block"
)

// newListCommand is the floor of a start, as a process of its own.
func newListCommand() *cobra.Command {
	var bucket string
	var read bool
	cmd := &cobra.Command{
		Use: "list", Short: "List a folder of blocks and look for each one's metadata", Hidden: true,
		RunE: func(*cobra.Command, []string) error { return list(bucket, read) },
	}
	cmd.Flags().StringVar(&bucket, "bucket", "", "folder")
	cmd.Flags().BoolVar(&read, "read", false, "read the metadata too")
	return cmd
}

func list(bucket string, read bool) error {
	entries, err := os.ReadDir(bucket)
	if err != nil {
		return fmt.Errorf("list blocks: %w", err)
	}
	var g errgroup.Group
	g.SetLimit(4 * runtime.GOMAXPROCS(0))
	for _, e := range entries {
		g.Go(func() (err error) {
			name := filepath.Join(bucket, e.Name(), block.MetaFilename)
			if read {
				_, err = os.ReadFile(name)
			} else {
				_, err = os.Stat(name)
			}
			return err
		})
	}
	return g.Wait()
}

// listFloor prints what listing costs, with or without reading the metadata.
func listFloor(ctx context.Context, out io.Writer, bucket string, read bool) error {
	program, err := self()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, program, "list", "--bucket="+bucket, fmt.Sprintf("--read=%t", read)) //nolint:gosec // itself
	begin := time.Now()
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("floor: %w\n%s", err, text)
	}
	took, cpu := time.Since(begin), cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime()
	fmt.Fprintf(out, "  %-20s %.2f s, %.2f CPU-s\n", map[bool]string{false: "floor: listing", true: "floor: and reading"}[read], took.Seconds(), cpu.Seconds())
	return nil
}
