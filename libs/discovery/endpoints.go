package discovery

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/promontory-io/promontory/libs/discovery/strictyaml"
)

// EndpointsConfig is the YAML that lists the endpoints of a querier.
type EndpointsConfig struct {
	// DefaultClient is how endpoints without settings of their own are dialled.
	DefaultClient ClientConfig `yaml:"default_client_config"`
	Endpoints     []Endpoint   `yaml:"endpoints"`
}

// Endpoint is one entry of the list.
type Endpoint struct {
	// Address may carry a DNS prefix.
	Address string `yaml:"address"`
	// Strict keeps a static endpoint in use even if its health check fails.
	Strict bool `yaml:"strict"`
	// Group makes all addresses found one logical endpoint, over which calls are balanced.
	Group bool `yaml:"group"`
	// ServiceConfig is a gRPC service config in JSON; for groups only.
	ServiceConfig string `yaml:"service_config"`
	// Client replaces the default as a whole; nil means the default.
	Client *ClientConfig `yaml:"client_config"`
}

// ClientConfig is how an endpoint is dialled.
type ClientConfig struct {
	TLS ClientTLS `yaml:"tls_config"`
	// ServerName is the name the server's certificate must be for; empty means that of the address.
	ServerName string `yaml:"server_name"`
	// Compression is "none", "snappy" or empty, which is none.
	Compression string `yaml:"compression"`
}

// ClientTLS is the TLS part of a [ClientConfig]; without Enabled the rest has no effect.
type ClientTLS struct {
	Enabled            bool   `yaml:"enabled"`
	InsecureSkipVerify bool   `yaml:"insecure_skip_verify"`
	CertFile           string `yaml:"cert_file"`
	KeyFile            string `yaml:"key_file"`
	CAFile             string `yaml:"ca_file"`
	// MinVersion is 1.0, 1.1, 1.2, 1.3 or empty, which leaves it to the dialler.
	MinVersion string `yaml:"min_version"`
}

// ClientFor returns how e is dialled.
func (c *EndpointsConfig) ClientFor(e Endpoint) ClientConfig {
	if e.Client != nil {
		return *e.Client
	}
	return c.DefaultClient
}

// ParseEndpoints reads the YAML. name is what errors call it; each of them also names a line. All problems are reported at once.
func ParseEndpoints(name string, content []byte) (*EndpointsConfig, error) {
	c := &EndpointsConfig{}
	if err := strictyaml.Decode(name, content, c); err != nil {
		return nil, err
	}
	var errs []error
	if err := c.DefaultClient.validate(); err != nil {
		errs = append(errs, fmt.Errorf("%s: default_client_config: %w", name, err))
	}
	lines := strictyaml.Lines(content, "endpoints")
	for i, e := range c.Endpoints {
		where := name
		if i < len(lines) {
			where = fmt.Sprintf("%s:%d", name, lines[i])
		}
		for _, err := range e.problems() {
			errs = append(errs, fmt.Errorf("%s: endpoint %d (%s): %w", where, i, e.Address, err))
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return c, nil
}

// Validate returns everything that is wrong with the endpoint, for those made from flags.
func (e Endpoint) Validate() error { return errors.Join(e.problems()...) }

func (e Endpoint) problems() (errs []error) {
	if err := ValidateAddress(e.Address); err != nil {
		errs = append(errs, err)
	}
	if e.Strict && !e.Group && IsDynamic(e.Address) {
		errs = append(errs, errors.New("strict is for static addresses: what DNS finds may change at any time"))
	}
	if e.ServiceConfig != "" {
		if !e.Group {
			errs = append(errs, errors.New("service_config is for groups only"))
		} else if !json.Valid([]byte(e.ServiceConfig)) {
			errs = append(errs, errors.New("service_config is not JSON"))
		}
	}
	if e.Client != nil {
		if err := e.Client.validate(); err != nil {
			errs = append(errs, fmt.Errorf("client_config: %w", err))
		}
	}
	return errs
}

func (c ClientConfig) validate() error {
	var errs []error
	switch c.Compression {
	case "", "none", "snappy":
	default:
		errs = append(errs, fmt.Errorf("unknown compression %q, want none or snappy", c.Compression))
	}
	switch c.TLS.MinVersion {
	case "", "1.0", "1.1", "1.2", "1.3":
	default:
		errs = append(errs, fmt.Errorf("tls_config: unknown min_version %q, want 1.0, 1.1, 1.2 or 1.3", c.TLS.MinVersion))
	}
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		errs = append(errs, errors.New("tls_config: cert_file and key_file must be given together"))
	}
	return errors.Join(errs...)
}
