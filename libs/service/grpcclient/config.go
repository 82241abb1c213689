package grpcclient

import (
	"errors"
	"fmt"

	"github.com/spf13/pflag"

	"github.com/promontory-io/promontory/libs/service/flags"
	"github.com/promontory-io/promontory/libs/service/grpcsnappy"
	"github.com/promontory-io/promontory/libs/service/tlsconfig"
)

// Words of --grpc-compression.
const (
	CompressionNone   = "none"
	CompressionSnappy = grpcsnappy.Name
)

// Config is how gRPC servers are called. Its YAML form is the client_config of an endpoint.
type Config struct {
	TLS tlsconfig.Client `yaml:"tls_config"`
	// ServerName is what the certificate of the server has to be made out to, where that is not
	// its address.
	ServerName string `yaml:"server_name"`
	// Compression is none or snappy; empty means none.
	Compression string `yaml:"compression"`
}

// DefaultConfig returns calls without TLS and compression.
func DefaultConfig() Config {
	return Config{TLS: tlsconfig.DefaultClient(), Compression: CompressionNone}
}

// BindFlags binds --grpc-client-tls-*, --grpc-client-server-name and --grpc-compression.
func (c *Config) BindFlags(fs *pflag.FlagSet) {
	c.TLS.BindFlags(fs, "grpc-client-tls")
	flags.String(fs, &c.ServerName, "grpc-client-server-name", "Name that the certificates of gRPC servers have to be made out to; empty means their address.")
	flags.Enum(fs, &c.Compression, "grpc-compression", "Compression of gRPC calls.", CompressionSnappy, CompressionNone)
}

// ValidateFlags is Validate for a Config that comes of flags: it names them.
func (c *Config) ValidateFlags() error {
	if err := c.Validate(); err != nil {
		return fmt.Errorf("--grpc-client-tls-*, --grpc-compression: %w", err)
	}
	return nil
}

// Validate returns all that is wrong with c, without looking at the files.
func (c *Config) Validate() error {
	errs := []error{c.TLS.Validate()}
	switch c.Compression {
	case "", CompressionNone, CompressionSnappy:
	default:
		errs = append(errs, fmt.Errorf("unknown compression %q, want none or snappy", c.Compression))
	}
	return errors.Join(errs...)
}
