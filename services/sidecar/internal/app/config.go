// Package app puts the sidecar together: its configuration, its command, and the wiring of all
// other packages.
package app

import (
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/spf13/pflag"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/ship"
	"github.com/promontory-io/promontory/libs/service"
	"github.com/promontory-io/promontory/libs/service/flags"
	"github.com/promontory-io/promontory/services/sidecar/internal/reload"
)

// Config is all that can be said to the sidecar from outside.
type Config struct {
	Common     service.Config
	Prometheus PrometheusConfig
	// TSDBPath is the folder with Prometheus' data.
	TSDBPath string
	Reloader ReloaderConfig
	// Bucket says where blocks go; unset for no uploads.
	Bucket   flags.Content
	HashFunc string
	Shipper  ShipperConfig
	// SeriesLimit and SamplesLimit bound one Series answer; 0 is no bound.
	SeriesLimit, SamplesLimit uint64
	// MinTime is the oldest time to serve.
	MinTime flags.When
}

// PrometheusConfig says where Prometheus is and how it is asked.
type PrometheusConfig struct {
	URL string
	// ReadyTimeout is how long Prometheus may take at the start.
	ReadyTimeout time.Duration
	// ConfigInterval is how often its configuration is read, ConfigTimeout how long that may take.
	ConfigInterval, ConfigTimeout time.Duration
	// Client is an http_config.
	Client flags.Content
}

// ReloaderConfig says which files make Prometheus reload, and how.
type ReloaderConfig struct {
	Files reload.Config
	// Method is reload.MethodHTTP or reload.MethodSignal.
	Method string
	// ProcessName is whom to send the signal to.
	ProcessName string
}

// ShipperConfig says how blocks are uploaded.
type ShipperConfig struct {
	// UploadCompacted uploads blocks too that Prometheus has compacted.
	UploadCompacted bool
	// IgnoreUnequal starts although Prometheus compacts its blocks.
	IgnoreUnequal bool
	// AllowOutOfOrder goes on with newer blocks where an older one fails.
	AllowOutOfOrder bool
	// SkipCorrupted passes over unreadable blocks.
	SkipCorrupted bool
	MetaFileName  string
	// Concurrency is how many files of a block are uploaded at once; 0 is one.
	Concurrency int
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{
		Common: service.DefaultConfig("sidecar"),
		Prometheus: PrometheusConfig{
			URL: "http://localhost:9090", ReadyTimeout: 10 * time.Minute,
			ConfigInterval: 30 * time.Second, ConfigTimeout: 30 * time.Second,
		},
		TSDBPath: "./data",
		Reloader: ReloaderConfig{
			Files:  reload.Config{WatchInterval: 3 * time.Minute, RetryInterval: 5 * time.Second},
			Method: reload.MethodHTTP, ProcessName: "prometheus",
		},
		Shipper: ShipperConfig{MetaFileName: ship.DefaultMetaFileName},
		MinTime: flags.At(time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)),
	}
}

// BindFlags gives names and help texts.
func (c *Config) BindFlags(fs *pflag.FlagSet) {
	flags.Group(fs, "Prometheus", c.bindPrometheus)
	flags.Group(fs, "Reloader", c.bindReloader)
	flags.Group(fs, "Uploads", c.bindUploads)
	flags.Group(fs, "Store API", func(fs *pflag.FlagSet) {
		flags.Time(fs, &c.MinTime, "min-time", "Oldest time to serve, as a time or as a duration relative to now.")
		flags.Uint64(fs, &c.SeriesLimit, "store.limits.request-series", "How many series one Series call may fetch; 0 for any number.")
		flags.Uint64(fs, &c.SamplesLimit, "store.limits.request-samples", "How many samples one Series call may fetch, a chunk counted as 120; 0 for any number.")
	})
	bindRemoved(fs)
}

func (c *Config) bindPrometheus(fs *pflag.FlagSet) {
	p := &c.Prometheus
	flags.String(fs, &p.URL, "prometheus.url", "URL of Prometheus' HTTP API.")
	flags.Duration(fs, &p.ReadyTimeout, "prometheus.ready_timeout", "How long Prometheus may take to answer at the start; the sidecar ends when it takes longer.")
	flags.Duration(fs, &p.ConfigInterval, "prometheus.get_config_interval", "How often Prometheus is asked for its configuration.")
	flags.Duration(fs, &p.ConfigTimeout, "prometheus.get_config_timeout", "How long that may take.")
	flags.BindContent(fs, &p.Client, "prometheus.http-client", "YAML that says how Prometheus is asked: credentials, TLS, connections.")
	flags.String(fs, &c.TSDBPath, "tsdb.path", "Folder with Prometheus' data.")
}

func (c *Config) bindReloader(fs *pflag.FlagSet) {
	r := &c.Reloader
	flags.String(fs, &r.Files.ConfigFile, "reloader.config-file", "Configuration file whose changes make Prometheus reload.")
	flags.String(fs, &r.Files.OutputFile, "reloader.config-envsubst-file", "File that this configuration is written to with $(NAME) replaced by environment variables.")
	flags.Strings(fs, &r.Files.RuleDirs, "reloader.rule-dir", "Folder of rule files whose changes make Prometheus reload. May be repeated.")
	flags.Duration(fs, &r.Files.WatchInterval, "reloader.watch-interval", "How often these files are read, besides when they change.")
	flags.Duration(fs, &r.Files.RetryInterval, "reloader.retry-interval", "Pause after a reload that failed.")
	flags.Enum(fs, &r.Method, "reloader.method", "How Prometheus is made to reload.", reload.MethodHTTP, reload.MethodSignal)
	flags.String(fs, &r.ProcessName, "reloader.process-name", "Name of the executable that the signal goes to.")
}

func (c *Config) bindUploads(fs *pflag.FlagSet) {
	s := &c.Shipper
	flags.BindContent(fs, &c.Bucket, "objstore.config", "YAML that says where the bucket for blocks is. Without it nothing is uploaded.")
	flags.Enum(fs, &c.HashFunc, "hash-func", "How files of uploaded blocks are hashed.", string(block.HashNone), string(block.HashSHA256))
	flags.Bool(fs, &s.UploadCompacted, "shipper.upload-compacted", "Upload blocks too that Prometheus has compacted; for the first upload of what it had before.")
	flags.Bool(fs, &s.IgnoreUnequal, "shipper.ignore-unequal-block-size", "Upload although Prometheus compacts its blocks: what it compacts first is lost to the bucket.")
	flags.Bool(fs, &s.AllowOutOfOrder, "shipper.allow-out-of-order-uploads", "Go on with newer blocks where an older one cannot be uploaded.")
	flags.Bool(fs, &s.SkipCorrupted, "shipper.skip-corrupted-blocks", "Pass over blocks that cannot be read.")
	flags.String(fs, &s.MetaFileName, "shipper.meta-file-name", "Name of the file in --tsdb.path that lists the blocks that were uploaded.")
	flags.Int(fs, &s.Concurrency, "shipper.upload-concurrency", "How many files of a block are uploaded at once; 0 for one after the other.")
	flags.Hide(fs, "shipper.ignore-unequal-block-size", "shipper.allow-out-of-order-uploads", "shipper.skip-corrupted-blocks")
}

// bindRemoved binds what older manifests may still carry.
func bindRemoved(fs *pflag.FlagSet) {
	flags.RemovedEverywhere(fs)
	flags.Removed(fs, "receive.connection-pool-size", "use transport_config of --prometheus.http-client")
	flags.Removed(fs, "receive.connection-pool-size-per-host", "use transport_config of --prometheus.http-client")
}

// Validate returns all problems at once.
func (c *Config) Validate() error {
	var errs []error
	if _, err := c.Prometheus.url(); err != nil {
		errs = append(errs, err)
	}
	for _, d := range []struct {
		flag  string
		value time.Duration
	}{
		{"prometheus.ready_timeout", c.Prometheus.ReadyTimeout},
		{"prometheus.get_config_interval", c.Prometheus.ConfigInterval},
		{"prometheus.get_config_timeout", c.Prometheus.ConfigTimeout},
		{"reloader.retry-interval", c.Reloader.Files.RetryInterval},
	} {
		if d.value <= 0 {
			errs = append(errs, fmt.Errorf("--%s: %s is not above 0", d.flag, d.value))
		}
	}
	if c.Reloader.Files.WatchInterval < 0 {
		errs = append(errs, fmt.Errorf("--reloader.watch-interval: %s is negative", c.Reloader.Files.WatchInterval))
	}
	if c.Reloader.Files.OutputFile != "" && c.Reloader.Files.ConfigFile == "" {
		errs = append(errs, errors.New("--reloader.config-envsubst-file: needs --reloader.config-file, which it is made of"))
	}
	if c.Shipper.MetaFileName == "" {
		errs = append(errs, errors.New("--shipper.meta-file-name: empty"))
	}
	if c.Shipper.Concurrency < 0 {
		errs = append(errs, fmt.Errorf("--shipper.upload-concurrency: %d is negative", c.Shipper.Concurrency))
	}
	return errors.Join(errs...)
}

func (p *PrometheusConfig) url() (*url.URL, error) {
	u, err := url.Parse(p.URL)
	if err != nil {
		return nil, fmt.Errorf("--prometheus.url: %w", err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("--prometheus.url: %q is no URL such as http://localhost:9090", u.Redacted())
	}
	return u, nil
}
