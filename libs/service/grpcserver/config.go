package grpcserver

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/pflag"

	"github.com/promontory-io/promontory/libs/service/flags"
	"github.com/promontory-io/promontory/libs/service/tlsconfig"
)

// Config is where and how a process answers gRPC.
type Config struct {
	// Address is host:port; port 0 takes any free one.
	Address string
	// GracePeriod is how long calls in flight may take when the server stops.
	GracePeriod time.Duration
	// TLS is off unless it has a certificate and a key.
	TLS tlsconfig.Server
	// MaxConnectionAge is when a client is asked to connect anew, so that load spreads over new
	// servers.
	MaxConnectionAge time.Duration
}

// DefaultConfig returns 0.0.0.0:10901 without TLS, a grace period of two minutes and connections
// of an hour.
func DefaultConfig() Config {
	return Config{
		Address:          "0.0.0.0:10901",
		GracePeriod:      2 * time.Minute,
		TLS:              tlsconfig.DefaultServer(),
		MaxConnectionAge: time.Hour,
	}
}

// BindFlags binds --grpc-address, --grpc-grace-period, --grpc-server-tls-* and
// --grpc-server-max-connection-age.
func (c *Config) BindFlags(fs *pflag.FlagSet) {
	flags.String(fs, &c.Address, "grpc-address", "Address host:port to serve gRPC on.")
	flags.Duration(fs, &c.GracePeriod, "grpc-grace-period", "Time that gRPC calls in flight have to end when the process stops.")
	c.TLS.BindFlags(fs, "grpc-server-tls")
	flags.Duration(fs, &c.MaxConnectionAge, "grpc-server-max-connection-age", "Age after which a client is asked to connect anew; 0 for never.")
}

// Validate returns all that is wrong with c.
func (c *Config) Validate() error {
	errs := []error{c.TLS.Validate("grpc-server-tls")}
	if c.Address == "" {
		errs = append(errs, errors.New("--grpc-address: empty"))
	}
	if c.GracePeriod < 0 {
		errs = append(errs, fmt.Errorf("--grpc-grace-period: %s is negative", c.GracePeriod))
	}
	if c.MaxConnectionAge < 0 {
		errs = append(errs, fmt.Errorf("--grpc-server-max-connection-age: %s is negative", c.MaxConnectionAge))
	}
	return errors.Join(errs...)
}
