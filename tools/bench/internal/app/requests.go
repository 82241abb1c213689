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
	"github.com/promontory-io/promontory/tools/bench/internal/rawstream"
)

// requestsConfig sizes the history in an S3 server.
type requestsConfig struct {
	*Config
	blocks, series, metrics int
	peers                   string
}

func newRequestsCommand(common *Config) *cobra.Command {
	cfg := &requestsConfig{Config: common}
	cmd := &cobra.Command{
		Use:   "store-gateway-requests",
		Short: "What a store-gateway asks of a real S3 server for queries, cold and warm, and while it is idle",
		RunE:  func(cmd *cobra.Command, _ []string) error { return cfg.run(cmd.Context(), cmd.OutOrStdout()) },
	}
	fs := cmd.Flags()
	fs.IntVar(&cfg.blocks, "blocks", 12, "blocks of two hours, one after the other")
	fs.IntVar(&cfg.series, "series", 5000, "series in each block")
	fs.IntVar(&cfg.metrics, "metrics", 50, "names of metrics that they are spread over")
	fs.StringVar(&cfg.peers, "peers", ".bin", "folder of versitygw")
	return cmd
}

// s3Bucket is the name of the bucket.
const s3Bucket = "history"

// generate makes the blocks unless they are there, and returns the folder that the S3 server is to serve.
func (c *requestsConfig) generate() (string, error) {
	dir, err := filepath.Abs(filepath.Join(c.Dir, fmt.Sprintf("requests-%d-%d-%d", c.blocks, c.series, c.metrics)))
	if err != nil {
		return "", fmt.Errorf("folder: %w", err)
	}
	served := filepath.Join(dir, "s3")
	return served, once(dir, func() error {
		for i := range c.blocks {
			if _, err := blocks.Write(filepath.Join(served, s3Bucket), blocks.Spec{
				ID: blocks.ID(i), MinTime: minTime + int64(i)*7_200_000, Series: c.series, Metrics: c.metrics, Chunks: 4, Samples: 120, Step: 15_000,
				External: map[string]string{"cluster": "eu1"},
			}); err != nil {
				return err
			}
		}
		return nil
	})
}

func (c *requestsConfig) run(ctx context.Context, out io.Writer) (err error) {
	served, err := c.generate()
	if err != nil {
		return err
	}
	dir := filepath.Dir(served)
	group := procs.New(procs.Config{LogDir: filepath.Join(dir, "logs")})
	defer func() { err = errors.Join(err, group.Stop()) }()
	bucket, err := s3(ctx, group, c.peers, served, s3Bucket)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "store-gateway, requests to S3: %d blocks of %d series, %d metrics\n", c.blocks, c.series, c.metrics)
	for _, kind := range []struct {
		name, title string
		args        []string
	}{
		{"plain", "index cache in memory", nil},
		{"cached", "the same and a caching bucket in memory", []string{"--store.caching-bucket.config={type: IN-MEMORY, config: {max_size: 512MB, max_item_size: 8MB}}"}},
		{"recursive", "block discovery recursive", []string{"--block-discovery-strategy=recursive"}},
	} {
		data, err := os.MkdirTemp(dir, "store-gateway-")
		if err != nil {
			return fmt.Errorf("data folder: %w", err)
		}
		defer os.RemoveAll(data) //nolint:errcheck // scratch
		g, err := c.startGateway(ctx, group, kind.name, bucket, data, append(kind.args, "--sync-block-duration=3s")...)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, " %s\n", kind.title)
		err = c.measure(ctx, out, g, kind.name == "cached", kind.name != "recursive")
		if err = errors.Join(err, g.conn.Close()); err != nil {
			return err
		}
	}
	return nil
}

func (c *requestsConfig) measure(ctx context.Context, out io.Writer, g *gateway, cached, queries bool) error {
	started, err := g.asked(ctx)
	if err != nil {
		return err
	}
	for _, cause := range []string{"sync", "index_header"} {
		n, ops := started.since(asked{}, cause)
		fmt.Fprintf(out, "  start, %-24s %6d requests (%s)\n", map[string]string{"sync": "metadata", "index_header": "index headers"}[cause], n, ops)
	}
	// Rounds in quick succession all come from a cache, which says nothing of an hour.
	if !cached {
		if err := idle(ctx, out, g); err != nil || !queries {
			return err
		}
	}
	name := func(typ thanos.LabelMatcher_Type, value string) *thanos.LabelMatcher {
		return &thanos.LabelMatcher{Type: typ, Name: "__name__", Value: value}
	}
	metric := name(thanos.LabelMatcher_EQ, blocks.MetricName(7))
	for _, q := range []struct {
		name     string
		matchers []*thanos.LabelMatcher
	}{
		{"one namespace of a metric", []*thanos.LabelMatcher{metric, {Name: "namespace", Value: "ns-3"}}},
		{"one metric", []*thanos.LabelMatcher{metric}},
		{"everything", []*thanos.LabelMatcher{name(thanos.LabelMatcher_RE, ".+")}},
	} {
		for _, when := range []string{"cold", "warm"} {
			if err := c.series1(ctx, out, g, q.name+", "+when, q.matchers); err != nil {
				return err
			}
		}
	}
	return nil
}

// series1 makes one Series call over the whole history.
func (c *requestsConfig) series1(ctx context.Context, out io.Writer, g *gateway, label string, ms []*thanos.LabelMatcher) error {
	before, err := g.asked(ctx)
	if err != nil {
		return err
	}
	var st rawstream.Stats
	u, err := measure(g.process, func() (err error) {
		st, err = rawstream.Series(ctx, g.conn, &thanos.SeriesRequest{
			MinTime: minTime, MaxTime: minTime + int64(c.blocks)*7_200_000, ResponseBatchSize: 64, Matchers: ms,
		}, nil)
		return err
	})
	if err != nil {
		return fmt.Errorf("%s: %w", label, err)
	}
	after, err := g.asked(ctx)
	if err != nil {
		return err
	}
	n, ops := after.since(before, "series")
	fmt.Fprintf(out, "  %-31s %6d requests (%s), %.1f MB in %.3f s\n", label, n, ops, float64(st.Bytes)/1e6, u.wall.Seconds())
	return nil
}

// roundsAnHour is how often the bucket is looked through by default.
const roundsAnHour = 4

// idle prints what a round of the sync costs while nothing is asked and nothing changes.
func idle(ctx context.Context, out io.Writer, g *gateway) error {
	before, err := g.awaitRound(ctx) // what is new is known then
	if err != nil {
		return err
	}
	var after asked
	u, err := measure(g.process, func() (err error) {
		after, err = g.awaitRound(ctx)
		return err
	})
	if err != nil {
		return err
	}
	rounds := after.tasks["sync"] - before.tasks["sync"]
	n := (after.done["sync"] - before.done["sync"]) / rounds
	fmt.Fprintf(out, "  idle round                      %6d requests, %d an hour by default; %.2f CPU-s\n", n, roundsAnHour*n, u.cpu.Seconds()/float64(rounds))
	return nil
}
