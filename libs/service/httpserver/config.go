package httpserver

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/exporter-toolkit/web"
	"github.com/spf13/pflag"

	"github.com/promontory-io/promontory/libs/service/flags"
)

// Config is where and how a process answers HTTP.
type Config struct {
	// Address is host:port; port 0 takes any free one.
	Address string
	// GracePeriod is how long requests in flight may take when the server stops.
	GracePeriod time.Duration
	// WebConfigFile is a Prometheus web config file (TLS, basic auth); empty means plain HTTP.
	WebConfigFile string
}

// DefaultConfig returns 0.0.0.0:10902 with a grace period of two minutes.
func DefaultConfig() Config {
	return Config{Address: "0.0.0.0:10902", GracePeriod: 2 * time.Minute}
}

// BindFlags binds --http-address, --http-grace-period and --http.config.
func (c *Config) BindFlags(fs *pflag.FlagSet) {
	flags.String(fs, &c.Address, "http-address", "Address host:port to serve HTTP on.")
	flags.Duration(fs, &c.GracePeriod, "http-grace-period", "Time that HTTP requests in flight have to end when the process stops.")
	flags.String(fs, &c.WebConfigFile, "http.config", "Path to a Prometheus web configuration file: TLS and basic authentication of all HTTP endpoints.")
}

// Validate returns all that is wrong with c, the web config file included.
func (c *Config) Validate() error {
	var errs []error
	if c.Address == "" {
		errs = append(errs, errors.New("--http-address: empty"))
	}
	if c.GracePeriod < 0 {
		errs = append(errs, fmt.Errorf("--http-grace-period: %s is negative", c.GracePeriod))
	}
	if c.WebConfigFile != "" {
		if err := web.Validate(c.WebConfigFile); err != nil {
			errs = append(errs, fmt.Errorf("--http.config: %s: %w", c.WebConfigFile, err))
		}
	}
	return errors.Join(errs...)
}
