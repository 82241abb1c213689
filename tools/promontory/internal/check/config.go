package check

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/relabel"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/block/fetch"
	"github.com/promontory-io/promontory/libs/cache/cachebucket"
	"github.com/promontory-io/promontory/libs/cache/indexcache"
	"github.com/promontory-io/promontory/libs/discovery"
	"github.com/promontory-io/promontory/libs/hashring"
	"github.com/promontory-io/promontory/libs/limits"
	"github.com/promontory-io/promontory/libs/objstore"
	"github.com/promontory-io/promontory/libs/promapi/httpclient"
	"github.com/promontory-io/promontory/libs/rulefile"
	"github.com/promontory-io/promontory/libs/service/flags"
	"github.com/promontory-io/promontory/libs/service/httpserver"
	"github.com/promontory-io/promontory/libs/service/requestlog"
	"github.com/promontory-io/promontory/libs/service/tracing"
	"github.com/promontory-io/promontory/tools/promontory/internal/bucket"
	"github.com/promontory-io/promontory/tools/promontory/internal/cli"
)

// configParser reads a configuration file as the services do; its error names the file and, where there is one, the line.
type configParser struct {
	flag, usage string
	parse       func(file string, content []byte) error
}

func configParsers() []configParser {
	return []configParser{
		{"objstore", "Bucket, as for --objstore.config-file.", func(file string, content []byte) error {
			bkt, err := objstore.New(content, "check", zap.NewNop(), nil, objstore.WithSource(file))
			if err != nil {
				return err
			}
			return bkt.Close()
		}},
		{"relabel", "Relabel rules, as for --receive.relabel-config-file, --alert.relabel-config-file and --rewrite.to-relabel-config-file.", parseRelabel},
		{"selector-relabel", "Relabel rules that select blocks, as for --selector.relabel-config-file.", parseSelectorRelabel},
		{"endpoints", "Endpoints of a querier, as for --endpoint.sd-config-file.", parsed(discovery.ParseEndpoints)},
		{"sd-files", "Targets in Prometheus' file_sd format, as for --store.sd-files and --query.sd-files.", parsed(discovery.ParseTargets)},
		{"index-cache", "Index cache, as for --index-cache.config-file.", parsed(indexcache.ParseConfig)},
		{"caching-bucket", "Caching bucket, as for --store.caching-bucket.config-file.", func(file string, content []byte) error {
			_, err := cachebucket.ParseConfig(file, file, content)
			return err
		}},
		{"http-client", "HTTP client, as for --prometheus.http-client-file.", parsed(httpclient.Parse)},
		{"hashrings", "Hashrings of a receiver, as for --receive.hashrings-file.", parseHashrings},
		{"limits", "Limits of tenants, as for --receive.limits-config-file.", parsed(limits.Parse)},
		{"rules", "Rules, as for --rule-file; check rules tells more of them.", parsed(rulefile.Parse)},
		{"deletions", "What a rewrite deletes, as for --rewrite.to-delete-config-file.", bucket.CheckDeletions},
		{"tracing", "Where traces go, as for --tracing.config-file.", func(file string, _ []byte) error {
			content := flags.FileContent("tracing.config", file)
			return tracing.Check(&content)
		}},
		{"request-logging", "Which requests are logged, as for --request.logging-config-file.", func(file string, _ []byte) error {
			content := flags.FileContent("request.logging-config", file)
			_, err := requestlog.Load(&content)
			return err
		}},
		{"web", "TLS and authentication of HTTP servers, as for --http.config.", func(file string, _ []byte) error {
			config := httpserver.DefaultConfig()
			config.WebConfigFile = file
			return config.Validate()
		}},
	}
}

// parsed makes a check of a function that returns what it has read, which nobody wants here.
func parsed[T any](parse func(file string, content []byte) (T, error)) func(string, []byte) error {
	return func(file string, content []byte) error {
		_, err := parse(file, content)
		return err
	}
}

func parseSelectorRelabel(file string, content []byte) error {
	if err := parseRelabel(file, content); err != nil {
		return err
	}
	if _, err := fetch.ParseRelabelShard(content); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

// parseHashrings builds the rings too, for one replica: that there are nodes for more is not in the file.
func parseHashrings(file string, content []byte) error {
	rings, err := hashring.Parse(content)
	if err == nil {
		_, err = hashring.New(rings, hashring.Settings{Algorithm: hashring.AlgorithmHashmod, Replicas: 1})
	}
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

func parseRelabel(file string, content []byte) error {
	var rules []*relabel.Config
	if err := flags.DecodeYAML(file, content, &rules); err != nil {
		return err
	}
	var errs []error
	for i, r := range rules {
		if r == nil {
			errs = append(errs, fmt.Errorf("%s: rule %d is empty", file, i+1))
			continue
		}
		if err := r.Validate(model.UTF8Validation); err != nil {
			errs = append(errs, fmt.Errorf("%s: rule %d: %w", file, i+1, err))
		}
	}
	return errors.Join(errs...)
}

// newConfig returns the command that checks configuration files.
func newConfig() *cobra.Command {
	parsers := configParsers()
	patterns := make([][]string, len(parsers))
	cmd := &cobra.Command{
		Use: "config [flags]", Short: "Check configuration files as strictly as the services read them",
		Long: `Reads configuration files as the services do: a key that nobody knows is an error. What is wrong is named with its file
and, where there is one, its line. Nothing is connected to.

The exit status is 0 when all is well, 1 when a file is wrong, and 2 when a check could not be made.`,
		Example: `  promontory check config --objstore=bucket.yaml --index-cache=index-cache.yaml
  promontory check config --relabel='relabel/*.yaml' --endpoints=endpoints.yaml
  promontory check config --hashrings=hashrings.json --limits=limits.yaml --tracing=tracing.yaml --web=web.yaml`,
		Args: cobra.NoArgs,
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return unusable{err} })
	fs := cli.SetUp(cmd, func(fs *pflag.FlagSet) {
		for i, p := range parsers {
			flags.Strings(fs, &patterns[i], p.flag, p.usage+" A path or a pattern; repeat for several.")
		}
	})
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := flags.Check(fs); err != nil {
			return unusable{err}
		}
		return runConfig(parsers, patterns, cmd.OutOrStdout(), cmd.ErrOrStderr())
	}
	return cmd
}

func runConfig(parsers []configParser, patterns [][]string, out, notes io.Writer) error {
	var missing []error
	checked, failed := 0, 0
	for i, p := range parsers {
		files, err := expand("--"+p.flag+": ", patterns[i])
		missing = append(missing, err)
		for _, file := range files {
			checked++
			content, err := os.ReadFile(file)
			if err == nil {
				err = p.parse(file, content)
			}
			if err != nil {
				failed++
				fmt.Fprintln(out, err)
				continue
			}
			fmt.Fprintf(out, "%s: is a good %s configuration\n", file, p.flag)
		}
	}
	if checked > 0 {
		fmt.Fprintf(notes, "%d files checked, %d with problems\n", checked, failed)
	}
	err := errors.Join(missing...)
	switch {
	case failed > 0:
		return Failure{errors.Join(fmt.Errorf("%d of %d configuration files have problems", failed, checked), err)}
	case err != nil:
		return unusable{err}
	case checked == 0:
		return unusable{errors.New("nothing to check: give a file with one of the flags")}
	}
	return nil
}

// bucketConfig is what can be said to the check of a bucket.
type bucketConfig struct {
	bucket  flags.Content
	write   bool
	timeout time.Duration
}

// newBucket returns the command that checks whether a bucket can be used.
func newBucket() *cobra.Command {
	c := bucketConfig{timeout: time.Minute}
	cmd := &cobra.Command{
		Use: "bucket [flags]", Short: "Check that a bucket can be listed, and written to",
		Long: `Reads the configuration of a bucket, and lists what is in it. With --write a small object is written, read back and deleted.

What is in the blocks is for promontory bucket verify.`,
		Example: `  promontory check bucket --objstore.config-file=bucket.yaml
  promontory check bucket --objstore.config-file=bucket.yaml --write`,
		Args: cobra.NoArgs,
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return unusable{err} })
	fs := cli.SetUp(cmd, func(fs *pflag.FlagSet) {
		flags.BindContent(fs, &c.bucket, "objstore.config", "YAML that describes the bucket.", flags.Required())
		flags.Bool(fs, &c.write, "write", "Write, read and delete an object too.")
		flags.Duration(fs, &c.timeout, "timeout", "How long to wait for the bucket.")
	})
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := flags.Check(fs); err != nil {
			return unusable{err}
		}
		return runBucket(cmd.Context(), &c, cmd.OutOrStdout())
	}
	return cmd
}

func runBucket(ctx context.Context, c *bucketConfig, out io.Writer) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.timeout, fmt.Errorf("no answer within --timeout=%s", c.timeout))
	defer cancel()
	text, err := c.bucket.Bytes()
	if err != nil {
		return unusable{err}
	}
	bkt, err := objstore.New(text, "check", zap.NewNop(), nil, objstore.WithSource(c.bucket.Source()))
	if err != nil {
		return Failure{err}
	}
	defer func() { err = errors.Join(err, bkt.Close()) }()
	if err := objstore.CheckReachable(ctx, bkt); err != nil {
		return Failure{err}
	}
	fmt.Fprintf(out, "bucket %q of type %s can be listed\n", bkt.Name(), bkt.Provider())
	if !c.write {
		return nil
	}
	if err := probe(ctx, bkt); err != nil {
		return Failure{fmt.Errorf("bucket %q of type %s: %w", bkt.Name(), bkt.Provider(), err)}
	}
	fmt.Fprintln(out, "an object can be written, read and deleted")
	return nil
}
