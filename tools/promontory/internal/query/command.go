// Package query holds the command that asks a querier and prints the answer.
//
// An instant query makes one row a series; a range query one row a series with a line of blocks that shows its course.
// What the querier remarks, missing stores above all, goes to standard error, so that results can be piped.
package query

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"time"

	"github.com/prometheus/common/version"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/promontory-io/promontory/libs/promapi/httpclient"
	"github.com/promontory-io/promontory/libs/promapi/promclient"
	"github.com/promontory-io/promontory/libs/service/flags"
	"github.com/promontory-io/promontory/tools/promontory/internal/cli"
)

// config is all that can be said to a query.
type config struct {
	url        string
	http       flags.Content
	at         flags.When
	start, end flags.When
	step       time.Duration
	dedup      bool
	partial    bool
	resolution string
	engine     string
	timeout    time.Duration
	output     string
	strict     bool
}

// defaultPoints is into how many steps a range is cut that does not say its step.
const defaultPoints = 60

func unset() flags.When { return flags.At(time.Time{}) }

func defaultConfig() config {
	return config{at: unset(), start: unset(), end: unset(), dedup: true, partial: true, timeout: 2 * time.Minute, output: formatTable}
}

func (c *config) bindFlags(fs *pflag.FlagSet) {
	flags.String(fs, &c.url, "query", "URL of the querier, or of anything that answers as Prometheus does.")
	flags.BindContent(fs, &c.http, "query.http-config", "YAML with credentials and TLS for the querier.")
	flags.Time(fs, &c.at, "time", "When to evaluate an instant query: RFC 3339, or a duration relative to now such as -1h; now if it is not given.")
	flags.Time(fs, &c.start, "start", "Begin of a range; makes the query a range query.")
	flags.Time(fs, &c.end, "end", "End of a range; now if it is not given.")
	flags.Duration(fs, &c.step, "step", "Step of a range; a sixtieth of it if it is not given.")
	for _, name := range []string{"time", "start", "end", "step"} {
		fs.Lookup(name).DefValue = "" // the help text would show what stands for none as if it were a time
	}
	flags.Bool(fs, &c.dedup, "dedup", "Merge replicas.")
	flags.Bool(fs, &c.partial, "partial-response", "Take an answer from which something is missing, with a warning that names it.")
	flags.String(fs, &c.resolution, "max-source-resolution", "Coarsest data to read: 0s, 5m, 1h, auto. The querier chooses if it is not given.")
	flags.String(fs, &c.engine, "engine", "PromQL engine: prometheus or thanos. The querier chooses if it is not given.")
	flags.Duration(fs, &c.timeout, "timeout", "How long to wait for the answer.")
	flags.Enum(fs, &c.output, "output", "How to print the answer.", formatTable, formatJSON, formatTSV)
	flags.Bool(fs, &c.strict, "fail-on-warning", "Exit with status 1 where the answer has warnings.")
}

func (c *config) isRange() bool { return c.start != unset() || c.end != unset() }

func (c *config) validate() error {
	var errs []error
	add := func(bad bool, text string) {
		if bad {
			errs = append(errs, errors.New(text))
		}
	}
	u, err := url.Parse(c.url)
	add(err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https", fmt.Sprintf("--query: %q is no URL such as http://querier:10902", c.url))
	add(c.isRange() && c.start == unset(), "--end: a range needs --start too")
	add(c.isRange() && c.at != unset(), "--time: is of instant queries, --start and --end of ranges: give one or the other")
	add(!c.isRange() && c.step != 0, "--step: needs --start")
	add(c.step < 0, "--step: is negative")
	add(c.timeout <= 0, "--timeout: has to be positive")
	return errors.Join(errs...)
}

// NewCommand returns `query`.
func NewCommand() *cobra.Command {
	c := defaultConfig()
	cmd := &cobra.Command{
		Use: "query [flags] EXPRESSION", Short: "Ask a querier, and print the answer as a table or as a line of blocks",
		Long: `Evaluates a PromQL expression through the HTTP API of a querier. With --start it is evaluated over a range: the table
then shows the course of each series between its smallest and its largest value, with a gap where it has no sample.

Warnings, such as the names of stores that did not answer, go to standard error.`,
		Example: `  promontory query --query=http://querier:10902 'sum by (job) (up)'
  promontory query --query=http://querier:10902 --start=-6h 'sum by (job) (rate(http_requests_total[5m]))'
  promontory query --query=http://querier:10902 --start=2026-01-01T00:00:00Z --end=2026-02-01T00:00:00Z --step=1h --output=tsv up
  promontory query --query=http://querier:10902 --no-dedup --fail-on-warning --output=json 'up == 0'`,
		Args: cobra.ExactArgs(1),
	}
	fs := cli.SetUp(cmd, c.bindFlags)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := errors.Join(flags.Check(fs), c.validate()); err != nil {
			return err
		}
		return run(cmd.Context(), c, args[0], time.Now(), cmd.OutOrStdout(), cmd.ErrOrStderr())
	}
	return cmd
}

// run asks and prints.
func run(ctx context.Context, c config, expr string, now time.Time, out, notes io.Writer) error {
	client, done, err := newClient(&c)
	if err != nil {
		return err
	}
	defer done()
	ctx, cancel := context.WithTimeoutCause(ctx, c.timeout, fmt.Errorf("no answer within --timeout=%s", c.timeout))
	defer cancel()
	result, grid, err := ask(ctx, &c, client, expr, now)
	if err != nil {
		return fmt.Errorf("ask %s: %w", client.BaseURL().Redacted(), err)
	}
	if err := write(out, c.output, result, grid); err != nil {
		return fmt.Errorf("print the answer: %w", err)
	}
	for _, w := range result.Warnings {
		fmt.Fprintln(notes, "warning:", w)
	}
	for _, i := range result.Infos {
		fmt.Fprintln(notes, "info:", i)
	}
	if c.strict && len(result.Warnings) > 0 {
		return fmt.Errorf("the answer has %d warnings", len(result.Warnings))
	}
	return nil
}

// grid are the times of a range query, in Unix milliseconds, both ends inclusive. A step of 0 says that there is no range.
type grid struct{ start, end, step int64 }

func (g grid) points() int64 { return (g.end-g.start)/g.step + 1 }

func ask(ctx context.Context, c *config, client *promclient.Client, expr string, now time.Time) (promclient.Result, grid, error) {
	extra := url.Values{"dedup": {strconv.FormatBool(c.dedup)}, "partial_response": {strconv.FormatBool(c.partial)}}
	for name, value := range map[string]string{"max_source_resolution": c.resolution, "engine": c.engine} {
		if value != "" {
			extra.Set(name, value)
		}
	}
	if !c.isRange() {
		at := now
		if c.at != unset() {
			at = time.UnixMilli(c.at.Millis(now))
		}
		result, err := client.Query(ctx, expr, at, extra)
		return result, grid{}, err
	}
	g, err := c.grid(now)
	if err != nil {
		return promclient.Result{}, g, err
	}
	result, err := client.QueryRange(ctx, expr, time.UnixMilli(g.start), time.UnixMilli(g.end), time.Duration(g.step)*time.Millisecond, extra)
	return result, g, err
}

// grid returns the times that are asked for.
func (c *config) grid(now time.Time) (grid, error) {
	g := grid{start: c.start.Millis(now), end: now.UnixMilli(), step: c.step.Milliseconds()}
	if c.end != unset() {
		g.end = c.end.Millis(now)
	}
	if g.end < g.start {
		return g, fmt.Errorf("--start: %s is after the end, %s", utc(g.start), utc(g.end))
	}
	if g.step == 0 {
		// Whole seconds, so that the step can be said again.
		g.step = max(1000, (g.end-g.start)/defaultPoints/1000*1000)
	}
	return g, nil
}

func newClient(c *config) (*promclient.Client, func(), error) {
	base, err := url.Parse(c.url)
	if err != nil {
		return nil, nil, fmt.Errorf("--query: %w", err)
	}
	settings := httpclient.DefaultConfig()
	if c.http.IsSet() {
		text, err := c.http.Bytes()
		if err != nil {
			return nil, nil, err
		}
		if settings, err = httpclient.Parse(c.http.Source(), text); err != nil {
			return nil, nil, err
		}
	}
	client, err := httpclient.New(settings, "promontory/"+version.Version)
	if err != nil {
		return nil, nil, fmt.Errorf("--query.http-config: %w", err)
	}
	return promclient.New(base, promclient.Options{HTTP: client}), client.CloseIdleConnections, nil
}
