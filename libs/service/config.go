package service

import (
	"errors"
	"fmt"

	"github.com/spf13/pflag"

	"github.com/promontory-io/promontory/libs/service/flags"
	"github.com/promontory-io/promontory/libs/service/grpcserver"
	"github.com/promontory-io/promontory/libs/service/httpserver"
	"github.com/promontory-io/promontory/libs/service/logging"
)

// Config is what can be said to every service from outside.
type Config struct {
	// Component is the role that metrics and traces name: query, sidecar, store, …
	Component string
	Log       logging.Config
	HTTP      httpserver.Config
	// GRPC is used by services that call Process.GRPC.
	GRPC grpcserver.Config
	// WithoutGRPC leaves out the flags of the gRPC server, for services that have none.
	WithoutGRPC bool
	Tracing     flags.Content
	RequestLog  flags.Content
	// AutoMemLimit sets the soft memory limit of the Go runtime to MemLimitRatio of what the container
	// may use.
	AutoMemLimit  bool
	MemLimitRatio float64

	// What NewCommand learned of the command line.
	name      string
	warnings  []string
	effective map[string]string
}

// DefaultConfig returns the defaults for a component.
func DefaultConfig(component string) Config {
	return Config{
		Component:     component,
		Log:           logging.DefaultConfig(),
		HTTP:          httpserver.DefaultConfig(),
		GRPC:          grpcserver.DefaultConfig(),
		MemLimitRatio: 0.9,
	}
}

// BindFlags binds the flags of c: log, tracing, memory limit, HTTP, gRPC, request log.
func (c *Config) BindFlags(fs *pflag.FlagSet) {
	flags.Group(fs, "Process", func(fs *pflag.FlagSet) {
		c.Log.BindFlags(fs)
		flags.BindContent(fs, &c.Tracing, "tracing.config", "YAML that says where traces go.")
		flags.BindContent(fs, &c.RequestLog, "request.logging-config", "YAML that says which requests are logged.")
		flags.Bool(fs, &c.AutoMemLimit, "enable-auto-gomemlimit", "Set GOMEMLIMIT from the memory limit of the container.")
		flags.Float64(fs, &c.MemLimitRatio, "auto-gomemlimit.ratio", "Part of the container's memory limit that GOMEMLIMIT is set to, above 0 and up to 1.")
	})
	flags.Group(fs, "HTTP server", c.HTTP.BindFlags)
	if !c.WithoutGRPC {
		flags.Group(fs, "gRPC server", c.GRPC.BindFlags)
	}
}

// Validate returns all that is wrong with c.
func (c *Config) Validate() error {
	errs := []error{c.HTTP.Validate()}
	if !c.WithoutGRPC {
		errs = append(errs, c.GRPC.Validate())
	}
	// The comparison is written so that NaN fails it too.
	if !(c.MemLimitRatio > 0 && c.MemLimitRatio <= 1) {
		errs = append(errs, fmt.Errorf("--auto-gomemlimit.ratio: %v is not above 0 and up to 1", c.MemLimitRatio))
	}
	return errors.Join(errs...)
}
