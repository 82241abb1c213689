package tlsconfig

import (
	"crypto/tls"
	"errors"
	"fmt"

	"github.com/spf13/pflag"

	"github.com/promontory-io/promontory/libs/service/flags"
)

// Client is how a client speaks TLS. Its YAML form is the tls_config of an endpoint.
type Client struct {
	Enabled            bool   `yaml:"enabled"`
	InsecureSkipVerify bool   `yaml:"insecure_skip_verify"`
	CertFile           string `yaml:"cert_file"`
	KeyFile            string `yaml:"key_file"`
	CAFile             string `yaml:"ca_file"`
	// MinVersion is 1.0, 1.1, 1.2 or 1.3; empty means 1.3.
	MinVersion string `yaml:"min_version"`
}

// DefaultClient returns the settings of a client without TLS.
func DefaultClient() Client { return Client{MinVersion: "1.3"} }

// BindFlags binds --<prefix>-secure, -skip-verify, -cert, -key, -ca and -min-version.
func (c *Client) BindFlags(fs *pflag.FlagSet, prefix string) {
	flags.Bool(fs, &c.Enabled, prefix+"-secure", "Use TLS when talking to gRPC servers.")
	flags.Bool(fs, &c.InsecureSkipVerify, prefix+"-skip-verify", "Do not verify the certificate of the server.")
	flags.String(fs, &c.CertFile, prefix+"-cert", "TLS certificate to identify with, a PEM file.")
	flags.String(fs, &c.KeyFile, prefix+"-key", "TLS key of that certificate, a PEM file.")
	flags.String(fs, &c.CAFile, prefix+"-ca", "CA that server certificates have to be signed by, a PEM file; empty means those of the system.")
	flags.Enum(fs, &c.MinVersion, prefix+"-min-version", "Lowest TLS version that is accepted.", versionWords()...)
}

// Validate returns all that is wrong with the settings, without looking at the files.
func (c *Client) Validate() error {
	var errs []error
	if (c.CertFile == "") != (c.KeyFile == "") {
		errs = append(errs, errors.New("certificate and key: give both or none"))
	}
	if _, ok := versions[c.minVersion()]; !ok {
		errs = append(errs, fmt.Errorf("unknown TLS version %q", c.MinVersion))
	}
	return errors.Join(errs...)
}

func (c *Client) minVersion() string {
	if c.MinVersion == "" {
		return "1.3"
	}
	return c.MinVersion
}

// Config reads the files and returns the settings for crypto/tls, nil when the client does not
// speak TLS. ServerName is what the certificate of the server has to be made out to, where that is
// not the address.
func (c *Client) Config(serverName string) (*tls.Config, error) {
	if !c.Enabled {
		return nil, nil
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	cfg := &tls.Config{
		MinVersion:         versions[c.minVersion()],
		ServerName:         serverName,
		InsecureSkipVerify: c.InsecureSkipVerify, //nolint:gosec // asked for by its flag
	}
	if c.CAFile != "" {
		pool, err := readCA(c.CAFile)
		if err != nil {
			return nil, err
		}
		cfg.RootCAs = pool
	}
	if c.CertFile != "" {
		pair, err := newReloader(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, err
		}
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return pair.certificate()
		}
	}
	return cfg, nil
}
