// Package app puts bucket-web together: its configuration, its command, and the wiring of all other
// packages.
package app

import (
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/spf13/pflag"

	"github.com/promontory-io/promontory/libs/service"
	"github.com/promontory-io/promontory/libs/service/flags"
	"github.com/promontory-io/promontory/libs/service/httpserver"
)

// component is what bucket-web calls itself in metrics and traces.
const component = "bucket"

// Config is all that can be said to bucket-web from outside.
type Config struct {
	Common service.Config
	Web    httpserver.WebConfig
	Bucket flags.Content
	// Refresh is how often the bucket is looked at, Timeout how long a look, and a request, may take.
	Refresh, Timeout time.Duration
	// Label is the external label that pages group blocks by.
	Label string
	// DisableAdmin refuses to set and take off marks.
	DisableAdmin     bool
	MinTime, MaxTime flags.When
	SelectorRelabel  flags.Content
	// CompactorURL is where the compactor's API is, with its prefix; empty if it is not to be asked.
	CompactorURL string
}

// DefaultConfig returns all defaults.
func DefaultConfig() Config {
	common := service.DefaultConfig(component)
	common.WithoutGRPC = true
	return Config{
		Common: common, Refresh: 30 * time.Minute, Timeout: 5 * time.Minute,
		MinTime: flags.At(time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)),
		MaxTime: flags.At(time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)),
	}
}

// BindFlags gives names and help texts to all settings but the common ones.
func (c *Config) BindFlags(fs *pflag.FlagSet) {
	flags.Group(fs, "Bucket", func(fs *pflag.FlagSet) {
		flags.BindContent(fs, &c.Bucket, "objstore.config", "YAML that says where the bucket is.", flags.Required())
		flags.Duration(fs, &c.Refresh, "refresh", "How often the bucket is looked at.")
		flags.Duration(fs, &c.Timeout, "timeout", "Longest time that such a look may take, and that a request may ask the bucket for.")
		flags.Time(fs, &c.MinTime, "min-time", "Show no blocks that end before this time: RFC 3339, or a duration relative to now.")
		flags.Time(fs, &c.MaxTime, "max-time", "Show no blocks that begin after this time: RFC 3339, or a duration relative to now.")
		flags.BindContent(fs, &c.SelectorRelabel, "selector.relabel-config", "YAML with relabel rules that pick the blocks to show, by their external labels and __block_id; actions keep, drop and hashmod.")
	})
	flags.Group(fs, "Web", func(fs *pflag.FlagSet) {
		c.Web.BindRoutePrefix(fs)
		c.Web.BindFlags(fs)
		flags.String(fs, &c.Label, "label", "External label that pages group blocks by.")
		flags.Bool(fs, &c.DisableAdmin, "disable-admin-operations", "Do not let pages and API set or take off marks.")
		flags.String(fs, &c.CompactorURL, "compactor.url", "Address of the compactor's HTTP API: its work is then shown among the blocks.")
	})
}

// Validate returns all problems at once; content of files is checked when it is loaded.
func (c *Config) Validate() error {
	var errs []error
	add := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	add(c.Refresh > 0, "--refresh: %s is not positive", c.Refresh)
	add(c.Timeout > 0, "--timeout: %s is not positive", c.Timeout)
	now := time.Now()
	add(c.MinTime.Millis(now) <= c.MaxTime.Millis(now), "--min-time: %s is after --max-time %s", c.MinTime, c.MaxTime)
	add(c.Web.PrefixHeader == "" || c.Web.ExternalPrefix == "", "--web.prefix-header: cannot be used together with --web.external-prefix")
	if _, err := c.compactor(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// compactor returns nil where no address is given.
func (c *Config) compactor() (*url.URL, error) {
	if c.CompactorURL == "" {
		return nil, nil
	}
	u, err := url.Parse(c.CompactorURL)
	if err != nil {
		return nil, fmt.Errorf("--compactor.url: %w", err)
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("--compactor.url: %s is no address of a web server, such as http://compactor:10902", u.Redacted())
	}
	return u, nil
}
