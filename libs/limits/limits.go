// Package limits reads what tenants may write: in one request, at once, and how many active series they may have.
// Whoever holds tenants to it is the receiver.
package limits

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/promontory-io/promontory/libs/discovery/strictyaml"
	"github.com/promontory-io/promontory/libs/promapi/httpclient"
)

// DefaultLimitQuery counts active series with a Prometheus that watches the cluster.
const DefaultLimitQuery = "sum(prometheus_tsdb_head_series) by (tenant)"

// Config is the YAML document.
type Config struct {
	Write Write `yaml:"write"`
}

// Write are limits of writes.
type Write struct {
	Global  Global            `yaml:"global"`
	Default Tenant            `yaml:"default"`
	Tenants map[string]Tenant `yaml:"tenants"`
}

// Global are limits of the process.
type Global struct {
	// MaxConcurrency is how many requests are handled at once; further ones wait. 0 is any number.
	MaxConcurrency int64 `yaml:"max_concurrency"`
	// MetaMonitoringURL is that of a Prometheus API that knows the active series. Without it the nodes
	// of the cluster are asked.
	MetaMonitoringURL        string             `yaml:"meta_monitoring_url"`
	MetaMonitoringHTTPClient *httpclient.Config `yaml:"meta_monitoring_http_client"`
	MetaMonitoringLimitQuery string             `yaml:"meta_monitoring_limit_query"`
}

// Tenant are limits of a tenant. 0 is no limit; what is not there is inherited from the default.
type Tenant struct {
	Request Request `yaml:"request"`
	// HeadSeriesLimit is how many active series there may be, counted over all nodes, so that each
	// replica counts.
	HeadSeriesLimit *uint64 `yaml:"head_series_limit"`
}

// Request are limits of one request, before relabelling.
type Request struct {
	SizeBytesLimit *int64 `yaml:"size_bytes_limit"`
	SeriesLimit    *int64 `yaml:"series_limit"`
	// SamplesLimit counts float samples and histograms.
	SamplesLimit *int64 `yaml:"samples_limit"`
}

// Effective is what holds for one tenant; 0 is no limit.
type Effective struct {
	SizeBytes, Series, Samples int64
	HeadSeries                 uint64
}

// Parse reads a document. Errors name source and line.
func Parse(source string, data []byte) (*Config, error) {
	c := &Config{}
	if err := strictyaml.Decode(source, data, c); err != nil {
		return nil, err
	}
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("%s: %w", source, err)
	}
	return c, nil
}

func (c *Config) validate() error {
	var errs []error
	if c.Write.Global.MaxConcurrency < 0 {
		errs = append(errs, fmt.Errorf("write.global.max_concurrency: %d is negative", c.Write.Global.MaxConcurrency))
	}
	check := func(path string, t Tenant) {
		for _, l := range []struct {
			key   string
			value *int64
		}{
			{"size_bytes_limit", t.Request.SizeBytesLimit}, {"series_limit", t.Request.SeriesLimit}, {"samples_limit", t.Request.SamplesLimit},
		} {
			if l.value != nil && *l.value < 0 {
				errs = append(errs, fmt.Errorf("%s.request.%s: %d is negative", path, l.key, *l.value))
			}
		}
	}
	check("write.default", c.Write.Default)
	for _, name := range slices.Sorted(maps.Keys(c.Write.Tenants)) {
		check("write.tenants."+name, c.Write.Tenants[name])
	}
	return errors.Join(errs...)
}

// For are the limits of a tenant.
func (c *Config) For(tenant string) Effective {
	own, def := c.Write.Tenants[tenant], c.Write.Default
	return Effective{
		SizeBytes:  first(own.Request.SizeBytesLimit, def.Request.SizeBytesLimit),
		Series:     first(own.Request.SeriesLimit, def.Request.SeriesLimit),
		Samples:    first(own.Request.SamplesLimit, def.Request.SamplesLimit),
		HeadSeries: first(own.HeadSeriesLimit, def.HeadSeriesLimit),
	}
}

func first[T any](values ...*T) (zero T) {
	for _, v := range values {
		if v != nil {
			return *v
		}
	}
	return zero
}

// HeadLimits reports whether anybody's active series are limited.
func (c *Config) HeadLimits() bool {
	if first(c.Write.Default.HeadSeriesLimit) > 0 {
		return true
	}
	for _, t := range c.Write.Tenants {
		if first(t.HeadSeriesLimit) > 0 {
			return true
		}
	}
	return false
}
