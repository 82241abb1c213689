// Package app puts the ruler together: its configuration, its command, and the wiring of all other
// packages.
package app

import (
	"errors"
	"fmt"
	"net/url"
	"text/template"
	"time"

	"github.com/promontory-io/promontory/libs/block/ship"
	"github.com/promontory-io/promontory/libs/discovery"
	"github.com/promontory-io/promontory/libs/service"
	"github.com/promontory-io/promontory/libs/service/flags"
	"github.com/promontory-io/promontory/libs/service/httpserver"
	"github.com/promontory-io/promontory/services/ruler/internal/peers"
)

// Methods of queries over HTTP.
const (
	methodGet  = "GET"
	methodPost = "POST"
)

// featureExperimentalFunctions is the one value of --enable-feature with an effect.
const featureExperimentalFunctions = "promql-experimental-functions"

// Config is all that can be said to the ruler from outside.
type Config struct {
	Common service.Config
	Web    httpserver.WebConfig
	// Labels are the external labels.
	Labels    []flags.Label
	DataDir   string
	RuleFiles []string
	Rules     RulesConfig
	TSDB      TSDBConfig
	// RemoteWrite makes the ruler stateless.
	RemoteWrite   flags.Content
	Query         QueryConfig
	Alertmanagers AlertmanagersConfig
	Alert         AlertConfig
	// Bucket says where blocks go; unset for no uploads.
	Bucket   flags.Content
	HashFunc string
	Shipper  ShipperConfig
	// SeriesLimit and SamplesLimit bound one Series answer; 0 is no bound.
	SeriesLimit, SamplesLimit uint64
}

// RulesConfig is how rules are evaluated.
type RulesConfig struct {
	Interval, QueryOffset                     time.Duration
	ResendDelay, OutageTolerance, GracePeriod time.Duration
	// IgnoredLabels are those that series of alerts have and alerts do not.
	IgnoredLabels []string
	Concurrency   int64
	Features      []string
	XFunctions    bool
}

// TSDBConfig is how the database is kept.
type TSDBConfig struct {
	BlockDuration, Retention   time.Duration
	WALCompression, NoLockfile bool
}

// QueryConfig is where and how queriers are asked.
type QueryConfig struct {
	Addresses            []string
	Config               flags.Content
	Files                []string
	FilesInterval        time.Duration
	DNSInterval          time.Duration
	DNSResolver          string
	Method               string
	DefaultStep          time.Duration
	OnlyPrometheusParams bool
	GRPCEndpoints        []string
}

// AlertmanagersConfig is where Alertmanagers are.
type AlertmanagersConfig struct {
	URLs        []string
	Config      flags.Content
	SendTimeout time.Duration
	DNSInterval time.Duration
}

// AlertConfig is what alerts look like to them.
type AlertConfig struct {
	QueryURL      string
	QueryTemplate string
	LabelDrop     []string
	Relabel       flags.Content
}

// ShipperConfig says how blocks are uploaded.
type ShipperConfig struct {
	UploadCompacted, AllowOutOfOrder, SkipCorrupted bool
	MetaFileName                                    string
	Concurrency                                     int
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{
		Common:  service.DefaultConfig("rule"),
		DataDir: "data/", RuleFiles: []string{"rules/"},
		Rules: RulesConfig{
			Interval: time.Minute, ResendDelay: time.Minute, OutageTolerance: time.Hour, GracePeriod: 10 * time.Minute, Concurrency: 1,
		},
		TSDB: TSDBConfig{BlockDuration: 2 * time.Hour, Retention: 48 * time.Hour, WALCompression: true},
		Query: QueryConfig{
			FilesInterval: 5 * time.Minute, DNSInterval: 30 * time.Second, DNSResolver: string(discovery.ResolverGo),
			Method: methodPost, DefaultStep: time.Second,
		},
		Alertmanagers: AlertmanagersConfig{SendTimeout: 10 * time.Second, DNSInterval: 30 * time.Second},
		Alert:         AlertConfig{QueryTemplate: "/graph?g0.expr={{.Expr}}&g0.tab=1"},
		Shipper:       ShipperConfig{MetaFileName: ship.DefaultMetaFileName},
	}
}

// Validate returns all problems at once; content of files is checked when it is loaded.
func (c *Config) Validate() error {
	var errs []error
	add := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	for _, d := range []struct {
		flag  string
		value time.Duration
	}{
		{"eval-interval", c.Rules.Interval},
		{"tsdb.block-duration", c.TSDB.BlockDuration},
		{"tsdb.retention", c.TSDB.Retention},
		{"query.sd-interval", c.Query.FilesInterval},
		{"query.sd-dns-interval", c.Query.DNSInterval},
		{"query.default-step", c.Query.DefaultStep},
		{"alertmanagers.send-timeout", c.Alertmanagers.SendTimeout},
		{"alertmanagers.sd-dns-interval", c.Alertmanagers.DNSInterval},
	} {
		add(d.value > 0, "--%s: %s is not above 0", d.flag, d.value)
	}
	for _, d := range []struct {
		flag  string
		value time.Duration
	}{
		{"resend-delay", c.Rules.ResendDelay},
		{"rule-query-offset", c.Rules.QueryOffset},
		{"for-outage-tolerance", c.Rules.OutageTolerance},
		{"for-grace-period", c.Rules.GracePeriod},
	} {
		add(d.value >= 0, "--%s: %s is negative", d.flag, d.value)
	}
	add(c.Rules.Concurrency > 0, "--rule-concurrent-evaluation: %d is not above 0", c.Rules.Concurrency)
	add(c.Shipper.Concurrency >= 0, "--shipper.upload-concurrency: %d is negative", c.Shipper.Concurrency)
	add(c.Shipper.MetaFileName != "", "--shipper.meta-file-name: empty")
	add(c.DataDir != "", "--data-dir: empty")
	errs = append(errs, c.validatePeers()...)
	if c.Bucket.IsSet() {
		add(len(c.Labels) > 0, "--label: needed with --objstore.config, blocks without external labels cannot be told apart")
		add(!c.RemoteWrite.IsSet(), "--objstore.config: has nothing to upload with --remote-write.config, which makes the ruler stateless")
	}
	if _, err := url.Parse(c.Alert.QueryURL); err != nil {
		errs = append(errs, fmt.Errorf("--alert.query-url: %w", err))
	}
	if _, err := template.New("alert.query-template").Option("missingkey=error").Parse(c.Alert.QueryTemplate); err != nil {
		errs = append(errs, fmt.Errorf("--alert.query-template: %w", err))
	} else if _, err := newLinks(c.Alert); err != nil {
		errs = append(errs, err)
	}
	if c.Web.PrefixHeader != "" && c.Web.ExternalPrefix != "" {
		errs = append(errs, errors.New("--web.prefix-header: cannot be used together with --web.external-prefix"))
	}
	return errors.Join(errs...)
}

func (c *Config) validatePeers() (errs []error) {
	q := &c.Query
	flagged := len(q.Addresses) > 0 || len(q.Files) > 0
	switch {
	case flagged && q.Config.IsSet():
		errs = append(errs, errors.New("--query and --query.sd-files: cannot be used together with --query.config"))
	case !flagged && !q.Config.IsSet() && len(q.GRPCEndpoints) == 0:
		errs = append(errs, errors.New("no querier to ask: give --query, --query.sd-files, --query.config or --grpc-query-endpoint"))
	}
	if len(c.Alertmanagers.URLs) > 0 && c.Alertmanagers.Config.IsSet() {
		errs = append(errs, errors.New("--alertmanagers.url: cannot be used together with --alertmanagers.config"))
	}
	for _, a := range q.Addresses {
		if _, err := peers.ParseAddress(a); err != nil {
			errs = append(errs, fmt.Errorf("--query=%s: %w", a, err))
		}
	}
	for _, a := range q.GRPCEndpoints {
		if err := discovery.ValidateAddress(a); err != nil {
			errs = append(errs, fmt.Errorf("--grpc-query-endpoint=%s: %w", a, err))
		}
	}
	for _, a := range c.Alertmanagers.URLs {
		if _, err := parseAlertmanager(a); err != nil {
			errs = append(errs, fmt.Errorf("--alertmanagers.url: %w", err))
		}
	}
	return errs
}
