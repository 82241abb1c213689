package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/promontory-io/promontory/libs/procs"
	"github.com/promontory-io/promontory/tools/bench/internal/procstat"
	"github.com/promontory-io/promontory/tools/bench/internal/receive"
)

// receiveConfig sizes the load on receivers.
type receiveConfig struct {
	*Config
	load         receive.Config
	peers        string
	rounds, warm int
	only         []string
	profile      string
}

func newReceiveCommand(common *Config) *cobra.Command {
	cfg := &receiveConfig{Config: common}
	cmd := &cobra.Command{
		Use:   "receive",
		Short: "Remote write to one receiver, to a router with three ingesters, and to a real Prometheus in the same run",
		RunE:  func(cmd *cobra.Command, _ []string) error { return cfg.run(cmd.Context(), cmd.OutOrStdout()) },
	}
	fs := cmd.Flags()
	fs.StringVar(&cfg.peers, "peers", ".bin", "folder of prometheus")
	fs.IntVar(&cfg.load.Series, "series", 50_000, "series, of six labels")
	fs.IntVar(&cfg.load.PerRequest, "per-request", 2000, "series in a request")
	fs.IntVar(&cfg.load.Concurrency, "concurrency", 4, "requests under way at once")
	fs.Float64Var(&cfg.load.Churn, "churn", 0.1, "part of the series that each round of the churn row replaces")
	fs.IntVar(&cfg.rounds, "rounds", 40, "measured rounds, each a sample of every series")
	fs.IntVar(&cfg.warm, "warm", 4, "rounds before that; the first makes the series")
	fs.StringSliceVar(&cfg.only, "only", nil, "targets: prometheus, node, cluster (default all)")
	fs.StringVar(&cfg.profile, "profile", "", "folder for CPU profiles of all processes, of the steady row")
	return cmd
}

// target is something that takes writes, made of processes.
type target struct {
	name, title, url string
	specs            []procs.Spec
	// http is the address of the profiles of each process, in the order of specs.
	http []string
}

// rows are what is measured of each target.
var rows = []string{"steady", "churn"} //nolint:gochecknoglobals // a constant list

func (c *receiveConfig) run(ctx context.Context, out io.Writer) error {
	dir, err := filepath.Abs(filepath.Join(c.Dir, "receive"))
	if err != nil {
		return fmt.Errorf("folder: %w", err)
	}
	fmt.Fprintf(out, "receive: %d series of 6 labels, %d a request, %d at once, %d rounds\n", c.load.Series, c.load.PerRequest, c.load.Concurrency, c.rounds)
	var yardstick []float64
	for _, build := range []func(string) (target, error){c.prometheus, c.node, c.cluster} {
		t, err := build(dir)
		if err != nil {
			return err
		}
		if !c.wanted(t.name) {
			continue
		}
		totals, err := c.measure(ctx, out, dir, t, yardstick)
		if err != nil {
			return fmt.Errorf("%s: %w", t.title, err)
		}
		if t.name == "prometheus" {
			yardstick = totals
		}
	}
	return nil
}

func (c *receiveConfig) wanted(name string) bool {
	for _, n := range c.only {
		if n == name {
			return true
		}
	}
	return len(c.only) == 0
}

// measure prints both rows of a target and returns what all its processes spent on a million samples in
// each.
func (c *receiveConfig) measure(ctx context.Context, out io.Writer, dir string, t target, yardstick []float64) (totals []float64, err error) {
	group := procs.New(procs.Config{LogDir: filepath.Join(dir, "logs")})
	defer func() { err = errors.Join(err, group.Stop()) }()
	if err := group.Start(ctx, t.specs...); err != nil {
		return nil, err
	}
	span := time.Duration(c.warm+c.rounds) * receive.Interval
	begin := time.Now().Add(-time.Duration(len(rows)) * span)
	for i, row := range rows {
		load := c.load
		if row == "steady" {
			load.Churn = 0
		}
		l := receive.New(load, begin.Add(time.Duration(i)*span))
		if _, err := l.Rounds(ctx, t.url, c.warm); err != nil {
			return nil, err
		}
		finish := func() error { return nil }
		if c.profile != "" && row == "steady" {
			finish = c.profiles(ctx, t)
		}
		total, err := c.row(ctx, out, group, t, l, row, yardstick)
		if err := errors.Join(err, finish()); err != nil {
			return nil, err
		}
		totals = append(totals, total)
	}
	return totals, nil
}

// row sends the measured rounds and prints what each process spent on them.
func (c *receiveConfig) row(ctx context.Context, out io.Writer, group *procs.Group, t target, l *receive.Load, row string, yardstick []float64) (total float64, err error) {
	before := make([]time.Duration, len(t.specs))
	for i, s := range t.specs {
		if before[i], err = procstat.CPU(group.Process(s.Name).PID()); err != nil {
			return 0, err
		}
	}
	r, err := l.Rounds(ctx, t.url, c.rounds)
	if err != nil {
		return 0, err
	}
	millions := float64(r.Samples) / 1e6
	each := ""
	for i, s := range t.specs {
		pid := group.Process(s.Name).PID()
		after, err := procstat.CPU(pid)
		if err != nil {
			return 0, err
		}
		peak, err := procstat.PeakMemory(pid)
		if err != nil {
			return 0, err
		}
		spent := (after - before[i]).Seconds() / millions
		total += spent
		each += fmt.Sprintf("; %s %.2f, peak %d MB", s.Name, spent, peak>>20)
	}
	ratio := ""
	for i, name := range rows {
		if name == row && i < len(yardstick) {
			ratio = fmt.Sprintf(" (%.2f × Prometheus)", total/yardstick[i])
		}
	}
	fmt.Fprintf(out, "%-28s %-7s %.2f CPU-s per million samples%s, p50 %.1f ms, p99 %.1f ms%s\n", t.title, row, total, ratio,
		r.P50.Seconds()*1000, r.P99.Seconds()*1000, each)
	return total, nil
}
