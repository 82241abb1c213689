// Package doctor holds the command that looks at a set-up and names the traps it is in.
//
// What running services tell, what argument lists say and what lies in the bucket are gathered first; what is wrong is
// then decided from these facts alone (pure). Each finding has its evidence and how to mend it.
package doctor

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/version"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/promontory-io/promontory/libs/block/fetch"
	"github.com/promontory-io/promontory/libs/objstore"
	"github.com/promontory-io/promontory/libs/promapi/httpclient"
	"github.com/promontory-io/promontory/libs/service/flags"
	"github.com/promontory-io/promontory/tools/promontory/internal/cli"
)

// Output formats.
const (
	formatTable = "table"
	formatJSON  = "json"
	formatTSV   = "tsv"
)

// config is all that can be said to a doctor.
type config struct {
	endpoints []string
	services  []string
	files     []string
	http      flags.Content
	bucket    flags.Content
	timeout   time.Duration
	output    string
	exitCode  bool
}

func (c *config) bindFlags(fs *pflag.FlagSet) {
	flags.Strings(fs, &c.endpoints, "endpoint", "HTTP address of a running service, such as http://querier:10902; repeat for each.")
	flags.Strings(fs, &c.services, "service", "Argument list of a service, such as 'compactor --retention.resolution-raw=30d', for one that does not run or does not show its flags; repeat for each.")
	flags.Strings(fs, &c.files, "services-file", "File with such argument lists, one a line; may be repeated.")
	flags.BindContent(fs, &c.http, "http-config", "YAML with credentials and TLS for the services.")
	flags.BindContent(fs, &c.bucket, "objstore.config", "YAML that describes the bucket.")
	flags.Duration(fs, &c.timeout, "timeout", "How long to wait for everything together.")
	flags.Enum(fs, &c.output, "output", "How to print the findings.", formatTable, formatJSON, formatTSV)
	flags.Bool(fs, &c.exitCode, "exit-code", "Exit with status 1 where there is a finding that is an error.")
}

func (c *config) validate() error {
	var errs []error
	if len(c.endpoints)+len(c.services)+len(c.files) == 0 && !c.bucket.IsSet() {
		errs = append(errs, errors.New("nothing to look at: give --endpoint, --service, --services-file or --objstore.config"))
	}
	for _, text := range c.endpoints {
		if u, err := url.Parse(text); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			errs = append(errs, fmt.Errorf("--endpoint: %q is no URL such as http://querier:10902", text))
		}
	}
	if c.timeout <= 0 {
		errs = append(errs, fmt.Errorf("--timeout: %s is not positive", c.timeout))
	}
	return errors.Join(errs...)
}

// NewCommand returns `doctor`.
func NewCommand() *cobra.Command {
	c := config{timeout: time.Minute, output: formatTable}
	cmd := &cobra.Command{
		Use: "doctor [flags]", Short: "Look at a set-up and name the traps it is in, with evidence and the mend",
		Long: `Asks running services for their flags and stores, reads argument lists of others and the meta.json files of the bucket, and
names what is wrong or will be: stores that do not answer, missing or equal external labels, replica labels that match nothing,
retention shorter than downsampling, two compactors, queriers that ask each other, timeouts in the wrong order, disabled
limits, clocks that differ, and deprecated flags. Nothing is changed.`,
		Example: `  promontory doctor --endpoint=http://querier:10902 --endpoint=http://ruler:10902 --objstore.config-file=bucket.yaml
  promontory doctor --endpoint=http://querier:10902 --service='compactor --wait --retention.resolution-raw=30d' --output=json --exit-code
  promontory doctor --services-file=argument-lists.txt`,
		Args: cobra.NoArgs,
	}
	fs := cli.SetUp(cmd, c.bindFlags)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := errors.Join(flags.Check(fs), c.validate()); err != nil {
			return err
		}
		return run(cmd.Context(), &c, cmd.OutOrStdout(), cmd.ErrOrStderr())
	}
	return cmd
}

func run(ctx context.Context, c *config, out, notes io.Writer) error {
	ctx, cancel := context.WithTimeoutCause(ctx, c.timeout, fmt.Errorf("not done within --timeout=%s", c.timeout))
	defer cancel()
	f, err := gather(ctx, c)
	if err != nil {
		return err
	}
	found := diagnose(f)
	if err := write(out, c.output, found); err != nil {
		return err
	}
	errorsFound := 0
	for _, one := range found {
		if one.Severity == severe {
			errorsFound++
		}
	}
	what := fmt.Sprintf("%d services", len(f.services))
	if f.bucketRead {
		what += " and the bucket"
	}
	fmt.Fprintf(notes, "%s looked at: %d findings, %d of them errors\n", what, len(found), errorsFound)
	if c.exitCode && errorsFound > 0 {
		return fmt.Errorf("%d findings are errors", errorsFound)
	}
	return nil
}

// askedAtOnce bounds how many services are asked at a time.
const askedAtOnce = 16

func gather(ctx context.Context, c *config) (*facts, error) {
	f := &facts{}
	lines := slices.Clone(c.services)
	for _, file := range c.files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("--services-file: %w", err)
		}
		for line := range strings.Lines(string(text)) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				lines = append(lines, line)
			}
		}
	}
	for _, line := range lines {
		s, err := configured(line)
		if err != nil {
			return nil, fmt.Errorf("--service: %w", err)
		}
		f.services = append(f.services, s)
	}
	client, err := newClient(c)
	if err != nil {
		return nil, err
	}
	defer client.CloseIdleConnections()
	asked := make([]*service, len(c.endpoints))
	var g errgroup.Group
	g.SetLimit(askedAtOnce)
	for i, text := range c.endpoints {
		base, err := url.Parse(text)
		if err != nil {
			return nil, fmt.Errorf("--endpoint: %w", err)
		}
		g.Go(func() error {
			asked[i] = ask(ctx, client, base, time.Now)
			return nil
		})
	}
	_ = g.Wait() // what failed is a finding
	f.services = slices.Concat(asked, f.services)
	if !c.bucket.IsSet() {
		return f, nil
	}
	return f, readBucket(ctx, c, f)
}

func newClient(c *config) (*http.Client, error) {
	settings := httpclient.DefaultConfig()
	if c.http.IsSet() {
		text, err := c.http.Bytes()
		if err != nil {
			return nil, err
		}
		if settings, err = httpclient.Parse(c.http.Source(), text); err != nil {
			return nil, err
		}
	}
	client, err := httpclient.New(settings, "promontory/"+version.Version)
	if err != nil {
		return nil, fmt.Errorf("--http-config: %w", err)
	}
	return client, nil
}

// readBucket learns the external labels of blocks.
func readBucket(ctx context.Context, c *config, f *facts) (err error) {
	text, err := c.bucket.Bytes()
	if err != nil {
		return err
	}
	logger := zap.NewNop() // what is amiss is a finding or an error
	bkt, err := objstore.New(text, "doctor", logger, nil, objstore.WithSource(c.bucket.Source()))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bkt.Close()) }()
	base, err := fetch.NewBase(logger, bkt, fetch.Config{}, nil)
	if err != nil {
		return err
	}
	result, err := base.NewFetcher(nil).Fetch(ctx)
	if err != nil {
		return fmt.Errorf("read the blocks of the bucket: %w", err)
	}
	groups := map[string]*blockGroup{}
	for id, m := range result.Metas {
		key := labelText(m.Thanos.Labels)
		if groups[key] == nil {
			groups[key] = &blockGroup{labels: m.Thanos.Labels, example: id.String()}
		}
		groups[key].blocks++
		groups[key].example = min(groups[key].example, id.String())
	}
	for _, g := range groups {
		f.blocks = append(f.blocks, *g)
	}
	f.bucketRead = true
	return nil
}

// write prints findings; JSON is one a line.
func write(w io.Writer, format string, found []finding) error {
	switch format {
	case formatJSON:
		encoder := json.NewEncoder(w)
		for _, f := range found {
			if err := encoder.Encode(f); err != nil {
				return err
			}
		}
		return nil
	case formatTSV:
		tsv := csv.NewWriter(w)
		tsv.Comma = '\t'
		rows := [][]string{{"SEVERITY", "TRAP", "WHERE", "EVIDENCE", "MEND"}}
		for _, f := range found {
			rows = append(rows, []string{f.Severity, f.Trap, f.Where, f.Evidence, f.Mend})
		}
		return tsv.WriteAll(rows)
	}
	// Sentences do not fit into columns.
	for _, f := range found {
		if _, err := fmt.Fprintf(w, "%s: %s\n  where:    %s\n  evidence: %s\n  mend:     %s\n", f.Severity, f.Trap, f.Where, f.Evidence, f.Mend); err != nil {
			return err
		}
	}
	return nil
}
