// Package app is the bench command: one sub-command for each thing that is measured.
// Every figure is of whole processes, read from the kernel, with the floor measured in
// the same run.
package app

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/promontory-io/promontory/libs/procs"
	"github.com/promontory-io/promontory/tools/bench/internal/procstat"
	"github.com/promontory-io/promontory/tools/bench/internal/rawstream"
)

// Config is what all sub-commands share.
type Config struct {
	// Bin is the folder of the programs.
	Bin string
	// Dir holds data and logs; it is kept, so that generated blocks serve again.
	Dir string
}

// NewCommand returns the root command.
func NewCommand() *cobra.Command {
	cfg := &Config{}
	cmd := &cobra.Command{
		Use: "bench", Short: "Measure services against their floors",
		SilenceUsage: true, SilenceErrors: true,
	}
	cmd.PersistentFlags().StringVar(&cfg.Bin, "bin", "bin", "folder of the programs")
	cmd.PersistentFlags().StringVar(&cfg.Dir, "dir", filepath.Join(".data", "bench"), "folder for data and logs")
	cmd.AddCommand(newSeriesCommand(cfg), newLabelsCommand(cfg), newRequestsCommand(cfg), newStartCommand(cfg),
		newCompactorCommand(cfg), newReceiveCommand(cfg), newQuerierCommand(cfg), newBareCommand(), newListCommand())
	return cmd
}

// newBareCommand runs the bare server as a process of its own.
func newBareCommand() *cobra.Command {
	var frames, addr string
	cmd := &cobra.Command{
		Use: "bare", Short: "Serve recorded frames from memory", Hidden: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := rawstream.ReadFrames(frames)
			if err != nil {
				return err
			}
			lis, err := net.Listen("tcp", addr)
			if err != nil {
				return fmt.Errorf("listen: %w", err)
			}
			srv := rawstream.NewBareServer(list)
			go func() { <-cmd.Context().Done(); srv.Stop() }()
			return srv.Serve(lis)
		},
	}
	cmd.Flags().StringVar(&frames, "frames", "", "file of frames")
	cmd.Flags().StringVar(&addr, "address", "127.0.0.1:0", "address to listen on")
	return cmd
}

// usage is what a process cost during something.
type usage struct {
	cpu, wall time.Duration
	peak      int64
}

func (u usage) String() string {
	return fmt.Sprintf("%.2f CPU-s, %.2f s, peak %d MB", u.cpu.Seconds(), u.wall.Seconds(), u.peak>>20)
}

// measure runs f and returns what process p cost meanwhile.
func measure(p *procs.Process, f func() error) (u usage, err error) {
	if err := procstat.ResetPeak(p.PID()); err != nil {
		return u, err
	}
	before, err := procstat.CPU(p.PID())
	if err != nil {
		return u, err
	}
	begin := time.Now()
	if err := f(); err != nil {
		return u, err
	}
	u.wall = time.Since(begin)
	after, err := procstat.CPU(p.PID())
	if err != nil {
		return u, err
	}
	u.cpu = after - before
	u.peak, err = procstat.PeakMemory(p.PID())
	return u, err
}

// self is this program, for the floors that it serves itself.
func self() (string, error) {
	path, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find own program: %w", err)
	}
	return path, nil
}
