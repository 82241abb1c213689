package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/promontory-io/promontory/libs/procs"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/tools/bench/internal/blocks"
)

// labelsConfig sizes the block.
type labelsConfig struct {
	*Config
	series, metrics, runs int
	args                  []string
}

func newLabelsCommand(common *Config) *cobra.Command {
	cfg := &labelsConfig{Config: common}
	cmd := &cobra.Command{
		Use:   "store-gateway-labels",
		Short: "LabelValues on a block of very many series: without matchers, with the name of a metric, with others",
		RunE:  func(cmd *cobra.Command, _ []string) error { return cfg.run(cmd.Context(), cmd.OutOrStdout()) },
	}
	fs := cmd.Flags()
	fs.IntVar(&cfg.series, "series", 1_000_000, "series in the block")
	fs.IntVar(&cfg.metrics, "metrics", 200, "names of metrics that they are spread over")
	fs.IntVar(&cfg.runs, "runs", 3, "calls of each kind")
	fs.StringArrayVar(&cfg.args, "arg", nil, "argument for the store-gateway")
	return cmd
}

// labelQuery is one way to ask for the values of a label.
type labelQuery struct {
	name, label string
	matchers    []*thanos.LabelMatcher
}

func labelQueries() []labelQuery {
	metric := &thanos.LabelMatcher{Name: "__name__", Value: blocks.MetricName(7)}
	namespace := &thanos.LabelMatcher{Name: "namespace", Value: "ns-3"}
	return []labelQuery{
		{"pod, no match[]", "pod", nil},
		{"pod, of a metric", "pod", []*thanos.LabelMatcher{metric}},
		{"pod, of a namespace", "pod", []*thanos.LabelMatcher{namespace}},
		{"pod, of a metric in a namespace", "pod", []*thanos.LabelMatcher{metric, namespace}},
		{"__name__, no match[]", "__name__", nil},
		{"__name__, of a namespace", "__name__", []*thanos.LabelMatcher{namespace}},
	}
}

// bucket makes the block unless it is there.
func (c *labelsConfig) bucket() (string, error) {
	dir, err := filepath.Abs(filepath.Join(c.Dir, fmt.Sprintf("labels-%d-%d", c.series, c.metrics)))
	if err != nil {
		return "", fmt.Errorf("folder: %w", err)
	}
	bucket := filepath.Join(dir, "bucket")
	return bucket, once(dir, func() error {
		// Chunks are not looked at: one sample in each.
		_, err := blocks.Write(bucket, blocks.Spec{
			ID: blocks.ID(0), MinTime: minTime, Series: c.series, Metrics: c.metrics, Chunks: 1, Samples: 1, Step: 7_200_000,
			External: map[string]string{"cluster": "eu1"},
		})
		return err
	})
}

func (c *labelsConfig) run(ctx context.Context, out io.Writer) (err error) {
	bucket, err := c.bucket()
	if err != nil {
		return err
	}
	dir := filepath.Dir(bucket)
	data, err := os.MkdirTemp(dir, "store-gateway-")
	if err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	defer os.RemoveAll(data) //nolint:errcheck // scratch
	group := procs.New(procs.Config{LogDir: filepath.Join(dir, "logs")})
	defer func() { err = errors.Join(err, group.Stop()) }()
	g, err := c.startGateway(ctx, group, "store-gateway", filesystem(bucket), data, c.args...)
	if err != nil {
		return err
	}
	defer g.conn.Close() //nolint:errcheck // read side
	fmt.Fprintf(out, "store-gateway, LabelValues on a block of %d series, %d metrics\n", c.series, c.metrics)
	for _, q := range labelQueries() {
		for i := range c.runs {
			if err := c.ask(ctx, out, g, q, map[bool]string{true: "cold", false: "warm"}[i == 0]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *labelsConfig) ask(ctx context.Context, out io.Writer, g *gateway, q labelQuery, label string) error {
	before, err := g.asked(ctx)
	if err != nil {
		return err
	}
	var values int
	u, err := measure(g.process, func() error {
		resp, err := thanos.NewStoreClient(g.conn).LabelValues(ctx, &thanos.LabelValuesRequest{
			Label: q.label, Start: minTime, End: minTime + 7_200_000, Matchers: q.matchers,
		})
		values = len(resp.GetValues())
		return err
	})
	if err != nil {
		return fmt.Errorf("%s: %w", q.name, err)
	}
	after, err := g.asked(ctx)
	if err != nil {
		return err
	}
	n, _ := after.since(before, "label_values")
	fmt.Fprintf(out, "  %-32s %s: %.3f s, %.2f CPU-s, peak %d MB, %d requests, %d values\n",
		q.name, label, u.wall.Seconds(), u.cpu.Seconds(), u.peak>>20, n, values)
	return nil
}
