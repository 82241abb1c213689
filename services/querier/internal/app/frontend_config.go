package app

import (
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/spf13/pflag"

	"github.com/promontory-io/promontory/libs/service/flags"
	"github.com/promontory-io/promontory/libs/service/requestctx"
)

// Words of --mode.
const (
	RoleQuerier  = "querier"
	RoleFrontend = "frontend"
)

// FrontendWord is the first argument that stands for --mode=frontend.
const FrontendWord = "query-frontend"

// FrontendConfig is the query frontend, as a part of the querier or alone.
type FrontendConfig struct {
	// Enabled puts it before the querier in this process.
	Enabled bool
	// DownstreamURL is the querier behind a frontend alone, DownstreamConfig how it is reached.
	DownstreamURL    string
	DownstreamConfig flags.Content

	Align, RequestDownsampled          bool
	SplitInterval                      time.Duration
	MinSplitInterval, MaxSplitInterval time.Duration
	HorizontalShards, VerticalShards   int
	RangeTries, InstantTries           int
	MaxLength                          time.Duration
	RangeParallelism                   int
	RangeMaxFreshness                  time.Duration
	RangePartialResponse               bool
	RangeCache                         flags.Content

	LabelsSplitInterval   time.Duration
	LabelsTries           int
	LabelsParallelism     int
	LabelsMaxFreshness    time.Duration
	LabelsPartialResponse bool
	LabelsDefaultRange    time.Duration
	LabelsCache           flags.Content

	CacheCompression  string
	CompressResponses bool
	SlowerThan        time.Duration
	ForceStats        bool
	OrgHeaders        []string
	ForwardHeaders    []string
	UserHeader        string
	XFunctions        bool

	TenantHeader, DefaultTenant, CertificateField string

	// MaxConcurrent is how many requests the querier gets at once, MaxOutstanding how many of a tenant may wait.
	MaxConcurrent, MaxOutstanding int
	// MaxResponseBytes bounds what the querier answers to the parts of one request together.
	MaxResponseBytes int64
}

// defaultFrontend returns all defaults.
func defaultFrontend() FrontendConfig {
	return FrontendConfig{
		DownstreamURL: "http://localhost:9090",
		Align:         true, RequestDownsampled: true,
		SplitInterval: 24 * time.Hour, RangeTries: 5, InstantTries: 5,
		RangeParallelism: 14, RangeMaxFreshness: time.Minute, RangePartialResponse: true,
		LabelsSplitInterval: 24 * time.Hour, LabelsTries: 5, LabelsParallelism: 14,
		LabelsMaxFreshness: time.Minute, LabelsPartialResponse: true, LabelsDefaultRange: 24 * time.Hour,
		TenantHeader: requestctx.TenantHeader, DefaultTenant: requestctx.DefaultTenant,
		MaxConcurrent: 64, MaxOutstanding: 1024, MaxResponseBytes: 1 << 30,
	}
}

// validate returns all that is wrong.
func (c *FrontendConfig) validate(alone bool) error {
	var errs []error
	add := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	for name, d := range map[string]time.Duration{
		"query-range.split-interval": c.SplitInterval, "query-range.min-split-interval": c.MinSplitInterval,
		"query-range.max-split-interval": c.MaxSplitInterval, "query-range.max-query-length": c.MaxLength,
		"query-range.response-cache-max-freshness": c.RangeMaxFreshness, "labels.response-cache-max-freshness": c.LabelsMaxFreshness,
		"labels.split-interval": c.LabelsSplitInterval, "labels.default-time-range": c.LabelsDefaultRange,
	} {
		add(d >= 0, "--%s: %s is negative", name, d)
	}
	for name, n := range map[string]int{
		"query-range.horizontal-shards": c.HorizontalShards, "query-frontend.vertical-shards": c.VerticalShards,
		"query-range.max-retries-per-request": c.RangeTries, "query.max-retries-per-request": c.InstantTries, "labels.max-retries-per-request": c.LabelsTries,
		"query-frontend.max-concurrent": c.MaxConcurrent, "query-frontend.max-outstanding-per-tenant": c.MaxOutstanding,
	} {
		add(n >= 0, "--%s: %d is negative", name, n)
	}
	add(c.RangeParallelism > 0, "--query-range.max-query-parallelism: %d is not positive", c.RangeParallelism)
	add(c.LabelsParallelism > 0, "--labels.max-query-parallelism: %d is not positive", c.LabelsParallelism)
	add(c.MaxResponseBytes >= 0, "--query-frontend.max-response-bytes: %d is negative", c.MaxResponseBytes)
	dynamic := c.MinSplitInterval > 0 || c.MaxSplitInterval > 0 || c.HorizontalShards > 0
	add(!dynamic || c.SplitInterval == 0, "--query-range.split-interval=%s: cannot be used together with --query-range.min-split-interval, "+
		"--query-range.max-split-interval and --query-range.horizontal-shards: set it to 0", c.SplitInterval)
	add(!dynamic || c.MinSplitInterval > 0 && c.MaxSplitInterval >= c.MinSplitInterval && c.HorizontalShards > 0,
		"--query-range.min-split-interval, --query-range.max-split-interval, --query-range.horizontal-shards: "+
			"all three must be positive to split dynamically, and the longest interval not below the shortest")
	if alone {
		u, err := url.Parse(c.DownstreamURL)
		add(err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "", "--query-frontend.downstream-url: %q is no http or https address", c.DownstreamURL)
	}
	return errors.Join(errs...)
}

// bind gives names and help texts to the settings.
func (c *FrontendConfig) bind(fs *pflag.FlagSet) {
	flags.Bool(fs, &c.Enabled, "query-frontend.enabled", "Split, cache, retry and queue queries in this querier, as a query frontend before it would.")
	flags.String(fs, &c.DownstreamURL, "query-frontend.downstream-url", "Address of the querier behind a frontend that runs alone.")
	flags.String(fs, &c.DownstreamURL, "downstream-url", "Shorter name of --query-frontend.downstream-url.")
	flags.BindContent(fs, &c.DownstreamConfig, "query-frontend.downstream-tripper-config", "YAML that says how that querier is reached.")
	flags.Bool(fs, &c.CompressResponses, "query-frontend.compress-responses", "Compress the answers of a frontend that runs alone, for clients that take it.")
	flags.Duration(fs, &c.SlowerThan, "query-frontend.log-queries-longer-than", "Log requests that take longer; 0 logs none, a negative duration all.")
	flags.Bool(fs, &c.ForceStats, "query-frontend.force-query-stats", "Ask for statistics of every query, for the log of slow ones and the header Server-Timing.")
	flags.Strings(fs, &c.OrgHeaders, "query-frontend.org-id-header", "Header that names the organisation of a request, which has cached answers of its own. The first that is set counts. May be repeated.")
	flags.Strings(fs, &c.ForwardHeaders, "query-frontend.forward-header", "Header that goes on to the querier. Answers are cached for each of its values on their own. May be repeated.")
	flags.Int(fs, &c.VerticalShards, "query-frontend.vertical-shards", "Into how many requests an aggregation is divided by series where it can be; below 2 it is not.")
	flags.String(fs, &c.UserHeader, "query-frontend.slow-query-logs-user-header", "Header that names the user in the log of slow queries; empty takes the user of basic authentication.")
	flags.Bool(fs, &c.XFunctions, "query-frontend.enable-x-functions", "Know the functions xrate, xincrease and xdelta.")
	flags.Enum(fs, &c.CacheCompression, "cache-compression-type", "How cached answers are compressed.", "", "snappy")
	flags.Int(fs, &c.MaxConcurrent, "query-frontend.max-concurrent", "How many requests the frontend sends to the querier at once; further ones wait, and tenants take turns. 0 is any number.")
	flags.Int(fs, &c.MaxOutstanding, "query-frontend.max-outstanding-per-tenant", "How many requests of one tenant may wait; further ones are refused with status 429. 0 is any number.")
	flags.Bytes(fs, &c.MaxResponseBytes, "query-frontend.max-response-bytes", "How large the answers to all parts of one request may be together; 0 is any size.")
	flags.String(fs, &c.TenantHeader, "query-frontend.tenant-header", "Header that names the tenant of a request.")
	flags.String(fs, &c.DefaultTenant, "query-frontend.default-tenant-id", "Tenant of requests that name none.")
	flags.Enum(fs, &c.CertificateField, "query-frontend.tenant-certificate-field", "Field of the client's certificate that names the tenant, in place of the header.",
		"", "organization", "organizationalUnit", "commonName")
	flags.Hide(fs, "query-frontend.tenant-header", "query-frontend.default-tenant-id", "query-frontend.tenant-certificate-field")
	c.bindRange(fs)
	c.bindLabels(fs)
}

func (c *FrontendConfig) bindRange(fs *pflag.FlagSet) {
	flags.Bool(fs, &c.Align, "query-range.align-range-with-step", "Round the ends of range queries down to multiples of the step, so that they can be cached better.")
	flags.Bool(fs, &c.RequestDownsampled, "query-range.request-downsampled", "Ask again for coarser data where the beginning of an answer is missing and the request leaves the resolution open.")
	flags.Duration(fs, &c.SplitInterval, "query-range.split-interval", "Length of the parts into which range queries are split; 0 does not split, or dynamically.")
	flags.Duration(fs, &c.MinSplitInterval, "query-range.min-split-interval", "Shortest part of a range query that is split dynamically.")
	flags.Duration(fs, &c.MaxSplitInterval, "query-range.max-split-interval", "Longest part of a range query that is split dynamically.")
	flags.Int(fs, &c.HorizontalShards, "query-range.horizontal-shards", "Into how many parts a range query is split dynamically.")
	flags.Int(fs, &c.RangeTries, "query-range.max-retries-per-request", "How often a part of a range query is tried while the querier fails.")
	flags.Int(fs, &c.InstantTries, "query.max-retries-per-request", "How often an instant query is tried while the querier fails.")
	flags.Duration(fs, &c.MaxLength, "query-range.max-query-length", "Longest range of a query; 0 is any.")
	flags.Int(fs, &c.RangeParallelism, "query-range.max-query-parallelism", "How many parts of one range query run at once.")
	flags.Duration(fs, &c.RangeMaxFreshness, "query-range.response-cache-max-freshness", "How old samples have to be to be cached.")
	flags.Bool(fs, &c.RangePartialResponse, "query-range.partial-response", "Allow answers without the stores that fail, where the request does not say.")
	flags.BindContent(fs, &c.RangeCache, "query-range.response-cache-config", "YAML of the cache for answers to range queries.")
}

func (c *FrontendConfig) bindLabels(fs *pflag.FlagSet) {
	flags.Duration(fs, &c.LabelsSplitInterval, "labels.split-interval", "Length of the parts into which calls for labels and series are split; 0 does not split.")
	flags.Int(fs, &c.LabelsTries, "labels.max-retries-per-request", "How often a part of such a call is tried while the querier fails.")
	flags.Int(fs, &c.LabelsParallelism, "labels.max-query-parallelism", "How many parts of one such call run at once.")
	flags.Duration(fs, &c.LabelsMaxFreshness, "labels.response-cache-max-freshness", "How long ago a part has to end to be cached.")
	flags.Bool(fs, &c.LabelsPartialResponse, "labels.partial-response", "Allow answers without the stores that fail, where the request does not say.")
	flags.Duration(fs, &c.LabelsDefaultRange, "labels.default-time-range", "How far back such calls look that do not say; 0 leaves it to the querier.")
	flags.BindContent(fs, &c.LabelsCache, "labels.response-cache-config", "YAML of the cache for answers to such calls.")
}
