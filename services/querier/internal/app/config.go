// Package app puts the querier together: its configuration, its command, and the wiring of
// all other packages.
package app

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/pflag"

	"github.com/promontory-io/promontory/libs/dedup"
	"github.com/promontory-io/promontory/libs/discovery"
	"github.com/promontory-io/promontory/libs/promapi"
	"github.com/promontory-io/promontory/libs/service"
	"github.com/promontory-io/promontory/libs/service/flags"
	"github.com/promontory-io/promontory/libs/service/grpcclient"
	"github.com/promontory-io/promontory/libs/service/httpserver"
	"github.com/promontory-io/promontory/libs/service/requestctx"
	"github.com/promontory-io/promontory/services/querier/internal/deny"
	"github.com/promontory-io/promontory/services/querier/internal/endpoints"
	"github.com/promontory-io/promontory/services/querier/internal/engine"
	"github.com/promontory-io/promontory/services/querier/internal/health"
)

// Words of --grpc.proxy-strategy.
const (
	proxyEager = "eager"
	proxyLazy  = "lazy"
)

// FeatureExperimentalFunctions is the one value of --enable-feature with an effect.
const FeatureExperimentalFunctions = "promql-experimental-functions"

// Config is all that can be said to the querier from outside.
type Config struct {
	Common service.Config
	Web    httpserver.WebConfig
	// Client is how peers are called that no configuration of endpoints says otherwise about.
	Client    grpcclient.Config
	Query     QueryConfig
	Endpoints EndpointsConfig
	Tenancy   TenancyConfig
	Telemetry TelemetryConfig
	Partial   PartialConfig
	// Role is what the process is: a querier, or a query frontend alone.
	Role     string
	Frontend FrontendConfig
	// SelectorLabels are the querier's own external labels.
	SelectorLabels []flags.Label
	// SelectorRelabel picks databases behind the stores.
	SelectorRelabel flags.Content
	// AlertQueryURL is the address of the pages for links.
	AlertQueryURL string
	// SeriesLimit and SamplesLimit bound each answer of our own Store API; 0 is no limit.
	SeriesLimit, SamplesLimit uint64
}

// QueryConfig is how queries are evaluated.
type QueryConfig struct {
	Timeout         time.Duration
	Engine          string
	DisableFallback bool
	XFunctions      bool
	Mode            string
	// MaxConcurrent is how many queries run at once, MaxConcurrentSelects how many selects of one.
	MaxConcurrent, MaxConcurrentSelects int
	// LookbackDelta of 0 leaves it to the engine.
	LookbackDelta        time.Duration
	DynamicLookbackDelta bool
	DedupFunc            string
	ReplicaLabels        []string
	PartitionLabels      []string
	// OverlappingInterval is for distributed queries.
	OverlappingInterval        bool
	InstantMaxSourceResolution time.Duration
	MetadataRange              time.Duration
	AutoDownsampling           bool
	ActiveQueryPath            string
	Features                   []string
	DefaultEvaluationInterval  time.Duration
	DefaultStep                time.Duration
	ResponseTimeout            time.Duration
	// MaxBytes bounds the series that one query may receive, MemoryBudget all queries together. 0 is no bound for
	// the first, and a share of the memory of the process for the second.
	MaxBytes, MemoryBudget int64
	// SlowerThan is from when on a request is logged as slow; 0 logs none.
	SlowerThan time.Duration
	// Deny are selectors of which requests are refused.
	Deny []string
	// Breaker is when a store is not asked any more.
	Breaker              health.Config
	ProxyStrategy        string
	MaxBufferedResponses int
}

// PartialConfig tells which calls allow answers without a failed peer where the request does not say.
type PartialConfig struct {
	Query, Rules, Targets, Metadata, Exemplars, Status bool
}

// EndpointsConfig is where peers are found.
type EndpointsConfig struct {
	Addresses, Strict, Groups, StrictGroups []string
	SDConfig                                flags.Content
	SDConfigReload                          time.Duration
	Files                                   []string
	FilesInterval                           time.Duration
	DNSInterval                             time.Duration
	DNSResolver                             string
	UnhealthyTimeout                        time.Duration
	InfoTimeout                             time.Duration
	ConnMetricLabels                        []string
}

// TenancyConfig is how the tenant of a request is found and what it may see.
type TenancyConfig struct {
	Header           string
	DefaultTenant    string
	CertificateField string
	Enforce          bool
	Label            string
}

// TelemetryConfig is the buckets of the histograms of queries.
type TelemetryConfig struct {
	Durations, Samples, Series []float64
}

// DefaultConfig returns all defaults.
func DefaultConfig() Config {
	ep := endpoints.DefaultConfig()
	return Config{
		Common: service.DefaultConfig(endpoints.ComponentQuery),
		Role:   RoleQuerier, Frontend: defaultFrontend(),
		Client: grpcclient.DefaultConfig(),
		Query: QueryConfig{
			Timeout:                   2 * time.Minute,
			Engine:                    string(promapi.EnginePrometheus),
			Mode:                      engine.ModeLocal,
			MaxConcurrent:             20,
			MaxConcurrentSelects:      4,
			DynamicLookbackDelta:      true,
			DedupFunc:                 string(dedup.Exact),
			DefaultEvaluationInterval: time.Minute,
			DefaultStep:               time.Second,
			ProxyStrategy:             proxyEager,
			MaxBufferedResponses:      20,
			Breaker:                   health.DefaultConfig(),
		},
		Endpoints: EndpointsConfig{
			SDConfigReload:   5 * time.Minute,
			FilesInterval:    5 * time.Minute,
			DNSInterval:      30 * time.Second,
			DNSResolver:      string(discovery.ResolverMiekg),
			UnhealthyTimeout: ep.UnhealthyTimeout,
			InfoTimeout:      ep.InfoTimeout,
			ConnMetricLabels: ep.ConnMetricLabels,
		},
		Tenancy: TenancyConfig{Header: requestctx.TenantHeader, DefaultTenant: requestctx.DefaultTenant, Label: "tenant_id"},
		Telemetry: TelemetryConfig{
			Durations: []float64{0.1, 0.25, 0.75, 1.25, 1.75, 2.5, 3, 5, 10},
			Samples:   []float64{100, 1000, 10000, 100000, 1000000},
			Series:    []float64{10, 100, 1000, 10000, 100000},
		},
		Partial: PartialConfig{Query: true, Rules: true, Targets: true, Metadata: true, Exemplars: true, Status: true},
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
	if err := c.Client.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("--grpc-client-*: %w", err))
	}
	add(c.Query.Timeout > 0, "--query.timeout: %s is not positive", c.Query.Timeout)
	add(c.Query.MaxConcurrent > 0, "--query.max-concurrent: %d is not positive", c.Query.MaxConcurrent)
	add(c.Query.MaxConcurrentSelects > 0, "--query.max-concurrent-select: %d is not positive", c.Query.MaxConcurrentSelects)
	add(c.Query.LookbackDelta >= 0, "--query.lookback-delta: %s is negative", c.Query.LookbackDelta)
	add(c.Query.DefaultEvaluationInterval > 0, "--query.default-evaluation-interval: %s is not positive", c.Query.DefaultEvaluationInterval)
	add(c.Query.DefaultStep > 0, "--query.default-step: %s is not positive", c.Query.DefaultStep)
	add(c.Query.ResponseTimeout >= 0, "--store.response-timeout: %s is negative", c.Query.ResponseTimeout)
	if _, err := deny.Parse(c.Query.Deny); err != nil {
		errs = append(errs, fmt.Errorf("--query.deny: %w", err))
	}
	add(c.Query.SlowerThan >= 0, "--query.log-slower-than: %s is negative", c.Query.SlowerThan)
	add(c.Query.Breaker.Failures >= 0, "--store.breaker-failures: %d is negative", c.Query.Breaker.Failures)
	add(c.Query.Breaker.FirstPause > 0, "--store.breaker-pause: %s is not positive", c.Query.Breaker.FirstPause)
	add(c.Query.Breaker.MaxPause >= c.Query.Breaker.FirstPause, "--store.breaker-max-pause: %s is less than --store.breaker-pause, %s",
		c.Query.Breaker.MaxPause, c.Query.Breaker.FirstPause)
	add(c.Query.MetadataRange >= 0, "--query.metadata.default-time-range: %s is negative", c.Query.MetadataRange)
	add(c.Query.MaxBufferedResponses > 0, "--query.lazy-retrieval-max-buffered-responses: %d is not positive", c.Query.MaxBufferedResponses)
	add(c.Endpoints.InfoTimeout > 0, "--endpoint.info-timeout: %s is not positive", c.Endpoints.InfoTimeout)
	add(c.Endpoints.UnhealthyTimeout > 0, "--store.unhealthy-timeout: %s is not positive", c.Endpoints.UnhealthyTimeout)
	add(c.Endpoints.DNSInterval > 0, "--store.sd-dns-interval: %s is not positive", c.Endpoints.DNSInterval)
	add(c.Endpoints.SDConfigReload > 0, "--endpoint.sd-config-reload-interval: %s is not positive", c.Endpoints.SDConfigReload)
	add(c.Endpoints.FilesInterval > 0, "--store.sd-interval: %s is not positive", c.Endpoints.FilesInterval)
	if c.Web.PrefixHeader != "" && c.Web.ExternalPrefix != "" {
		errs = append(errs, errors.New("--web.prefix-header: cannot be used together with --web.external-prefix"))
	}
	for flag, list := range map[string][]string{"endpoint": c.Endpoints.Addresses, "endpoint-strict": c.Endpoints.Strict} {
		for _, addr := range list {
			if err := (discovery.Endpoint{Address: addr, Strict: flag == "endpoint-strict"}).Validate(); err != nil {
				errs = append(errs, fmt.Errorf("--%s=%s: %w", flag, addr, err))
			}
		}
	}
	for flag, list := range map[string][]string{"endpoint-group": c.Endpoints.Groups, "endpoint-group-strict": c.Endpoints.StrictGroups} {
		for _, addr := range list {
			if err := (discovery.Endpoint{Address: addr, Group: true}).Validate(); err != nil {
				errs = append(errs, fmt.Errorf("--%s=%s: %w", flag, addr, err))
			}
		}
	}
	for flag, buckets := range map[string][]float64{
		"query.telemetry.request-duration-seconds-quantiles": c.Telemetry.Durations,
		"query.telemetry.request-samples-quantiles":          c.Telemetry.Samples,
		"query.telemetry.request-series-seconds-quantiles":   c.Telemetry.Series,
	} {
		add(slices.IsSorted(buckets), "--%s: %v does not ascend", flag, buckets)
	}
	if err := c.Frontend.validate(c.Role == RoleFrontend); err != nil {
		errs = append(errs, err)
	}
	slices.SortFunc(errs, func(a, b error) int {
		switch {
		case a.Error() < b.Error():
			return -1
		case a.Error() > b.Error():
			return 1
		}
		return 0
	})
	return errors.Join(errs...)
}

// BindFlags gives names and help texts to all settings but the common ones.
func (c *Config) BindFlags(fs *pflag.FlagSet) {
	flags.Group(fs, "Endpoints", c.bindEndpoints)
	flags.Group(fs, "Queries", c.bindQuery)
	flags.Group(fs, "Partial responses", c.bindPartial)
	flags.Group(fs, "Query frontend", func(fs *pflag.FlagSet) {
		flags.Enum(fs, &c.Role, "mode", "What this process is: a querier, or a query frontend alone before one.", RoleQuerier, RoleFrontend)
		c.Frontend.bind(fs)
	})
	flags.Group(fs, "Tenancy", c.bindTenancy)
	flags.Group(fs, "Telemetry", c.bindTelemetry)
	flags.Group(fs, "gRPC client", func(fs *pflag.FlagSet) {
		c.Client.BindFlags(fs)
	})
	flags.Group(fs, "Web", func(fs *pflag.FlagSet) {
		c.Web.BindRoutePrefix(fs)
		c.Web.BindFlags(fs)
		flags.String(fs, &c.AlertQueryURL, "alert.query-url", "URL under which users reach the pages of this querier, for links.")
	})
	bindRemoved(fs)
}
