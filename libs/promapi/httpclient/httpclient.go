// Package httpclient makes HTTP clients from the http_config YAML that the sidecar, the ruler and the
// Alertmanager settings share.
//
// Secrets and certificates given as files are read again when they are used, so they can be rotated
// without a restart. Nothing is followed across hosts with credentials.
package httpclient

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/prometheus/common/config"
	"go.yaml.in/yaml/v3"

	"github.com/promontory-io/promontory/libs/discovery/strictyaml"
)

// Config is the http_config section.
type Config struct {
	BasicAuth       BasicAuth     `yaml:"basic_auth"`
	BearerToken     config.Secret `yaml:"bearer_token"`
	BearerTokenFile string        `yaml:"bearer_token_file"`
	// ProxyURL is the proxy for all requests. Without it there is none: what the environment says is
	// usually meant for the object store, while these peers are near.
	ProxyURL  string    `yaml:"proxy_url"`
	TLS       TLS       `yaml:"tls_config"`
	Transport Transport `yaml:"transport_config"`
}

// BasicAuth is a user with a password given directly or in a file.
type BasicAuth struct {
	Username     string        `yaml:"username"`
	Password     config.Secret `yaml:"password"`
	PasswordFile string        `yaml:"password_file"`
}

// TLS is how a server is verified and what certificate it is shown.
type TLS struct {
	CAFile             string `yaml:"ca_file"`
	CertFile           string `yaml:"cert_file"`
	KeyFile            string `yaml:"key_file"`
	ServerName         string `yaml:"server_name"`
	InsecureSkipVerify bool   `yaml:"insecure_skip_verify"`
}

// Transport tunes connections.
type Transport struct {
	MaxIdleConns          int      `yaml:"max_idle_conns"`
	MaxIdleConnsPerHost   int      `yaml:"max_idle_conns_per_host"`
	IdleConnTimeout       Duration `yaml:"idle_conn_timeout"`
	ResponseHeaderTimeout Duration `yaml:"response_header_timeout"`
	ExpectContinueTimeout Duration `yaml:"expect_continue_timeout"`
	MaxConnsPerHost       int      `yaml:"max_conns_per_host"`
	DisableCompression    bool     `yaml:"disable_compression"`
	TLSHandshakeTimeout   Duration `yaml:"tls_handshake_timeout"`
	DialerTimeout         Duration `yaml:"dialer_timeout"`
}

// Duration is whole nanoseconds in YAML, the way Thanos wants it; text such as 90s is accepted too.
type Duration time.Duration

// UnmarshalYAML reads either form.
func (d *Duration) UnmarshalYAML(n *yaml.Node) error {
	if ns, err := strconv.ParseInt(n.Value, 10, 64); err == nil && n.Kind == yaml.ScalarNode {
		*d = Duration(ns)
		return nil
	}
	v, err := time.ParseDuration(n.Value)
	if err != nil || n.Kind != yaml.ScalarNode {
		return fmt.Errorf("line %d: %q is neither nanoseconds nor a duration such as 90s", n.Line, n.Value)
	}
	*d = Duration(v)
	return nil
}

// DefaultConfig returns the settings of an empty section.
func DefaultConfig() Config {
	return Config{Transport: Transport{
		MaxIdleConns:          100,
		MaxIdleConnsPerHost:   2,
		IdleConnTimeout:       Duration(90 * time.Second),
		ExpectContinueTimeout: Duration(10 * time.Second),
		TLSHandshakeTimeout:   Duration(10 * time.Second),
		DialerTimeout:         Duration(5 * time.Second),
	}}
}

// UnmarshalYAML gives keys that are not there their defaults. It takes the older form of the method because only
// that keeps unknown keys errors.
func (c *Config) UnmarshalYAML(unmarshal func(any) error) error {
	*c = DefaultConfig()
	type plain Config
	return unmarshal((*plain)(c))
}

// Parse reads an http_config section; name is what errors call it.
func Parse(name string, content []byte) (Config, error) {
	c := DefaultConfig()
	if err := strictyaml.Decode(name, content, &c); err != nil {
		return Config{}, err
	}
	if err := c.Validate(); err != nil {
		return Config{}, fmt.Errorf("%s: %w", name, err)
	}
	return c, nil
}

// Validate returns everything that is wrong with the settings.
func (c Config) Validate() error {
	var errs []error
	if c.BasicAuth.Password != "" && c.BasicAuth.PasswordFile != "" {
		errs = append(errs, errors.New("basic_auth: only one of password and password_file may be given"))
	}
	if c.BearerToken != "" && c.BearerTokenFile != "" {
		errs = append(errs, errors.New("only one of bearer_token and bearer_token_file may be given"))
	}
	if c.BasicAuth != (BasicAuth{}) && (c.BearerToken != "" || c.BearerTokenFile != "") {
		errs = append(errs, errors.New("only one of basic_auth and bearer_token or bearer_token_file may be given"))
	}
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		errs = append(errs, errors.New("tls_config: cert_file and key_file must be given together"))
	}
	if c.ProxyURL != "" {
		if u, err := url.Parse(c.ProxyURL); err != nil {
			errs = append(errs, fmt.Errorf("proxy_url: %w", err))
		} else if u.Scheme == "" || u.Host == "" {
			errs = append(errs, fmt.Errorf("proxy_url: %q is not an absolute URL", c.ProxyURL))
		}
	}
	return errors.Join(append(errs, c.Transport.validate()...)...)
}

func (t Transport) validate() (errs []error) {
	for _, v := range []struct {
		key   string
		value int64
	}{
		{"max_idle_conns", int64(t.MaxIdleConns)},
		{"max_idle_conns_per_host", int64(t.MaxIdleConnsPerHost)},
		{"idle_conn_timeout", int64(t.IdleConnTimeout)},
		{"response_header_timeout", int64(t.ResponseHeaderTimeout)},
		{"expect_continue_timeout", int64(t.ExpectContinueTimeout)},
		{"max_conns_per_host", int64(t.MaxConnsPerHost)},
		{"tls_handshake_timeout", int64(t.TLSHandshakeTimeout)},
		{"dialer_timeout", int64(t.DialerTimeout)},
	} {
		if v.value < 0 {
			errs = append(errs, fmt.Errorf("transport_config: %s must not be negative", v.key))
		}
	}
	return errs
}

// New returns a client with these settings that introduces itself as userAgent; empty leaves Go's own.
// The certificate files are read once here, so that a wrong path is an error at the start.
// The client has no overall timeout: the context of each request sets it.
func New(c Config, userAgent string) (*http.Client, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	rt, err := c.roundTripper()
	if err != nil {
		return nil, err
	}
	if userAgent != "" {
		rt = config.NewUserAgentRoundTripper(userAgent, rt)
	}
	return &http.Client{Transport: rt}, nil
}

func (c Config) roundTripper() (http.RoundTripper, error) {
	rt, err := c.tlsRoundTripper()
	if err != nil {
		return nil, err
	}
	switch {
	case c.BearerTokenFile != "":
		rt = config.NewAuthorizationCredentialsRoundTripper("Bearer", config.NewFileSecret(c.BearerTokenFile), rt)
	case c.BearerToken != "":
		rt = config.NewAuthorizationCredentialsRoundTripper("Bearer", config.NewInlineSecret(string(c.BearerToken)), rt)
	case c.BasicAuth != BasicAuth{}:
		password := config.SecretReader(config.NewInlineSecret(string(c.BasicAuth.Password)))
		if c.BasicAuth.PasswordFile != "" {
			password = config.NewFileSecret(c.BasicAuth.PasswordFile)
		}
		rt = config.NewBasicAuthRoundTripper(config.NewInlineSecret(c.BasicAuth.Username), password, rt)
	}
	return rt, nil
}

func (c Config) tlsRoundTripper() (http.RoundTripper, error) {
	tlsConfig, err := config.NewTLSConfig(&config.TLSConfig{
		CAFile:             c.TLS.CAFile,
		CertFile:           c.TLS.CertFile,
		KeyFile:            c.TLS.KeyFile,
		ServerName:         c.TLS.ServerName,
		InsecureSkipVerify: c.TLS.InsecureSkipVerify,
	})
	if err != nil {
		return nil, fmt.Errorf("tls_config: %w", err)
	}
	if c.TLS.CAFile == "" {
		// Go asks for the client certificate at each handshake, so only a CA that may change needs more than a transport.
		return c.transport(tlsConfig)
	}
	settings := config.TLSRoundTripperSettings{CA: config.NewFileSecret(c.TLS.CAFile)}
	if c.TLS.CertFile != "" {
		settings.Cert = config.NewFileSecret(c.TLS.CertFile)
		settings.Key = config.NewFileSecret(c.TLS.KeyFile)
	}
	rt, err := config.NewTLSRoundTripper(tlsConfig, settings, c.transport)
	if err != nil {
		return nil, fmt.Errorf("tls_config: %w", err)
	}
	return rt, nil
}

func (c Config) transport(tlsConfig *tls.Config) (http.RoundTripper, error) {
	var proxy func(*http.Request) (*url.URL, error)
	if c.ProxyURL != "" {
		u, err := url.Parse(c.ProxyURL)
		if err != nil {
			return nil, fmt.Errorf("proxy_url: %w", err)
		}
		proxy = http.ProxyURL(u)
	}
	dialer := &net.Dialer{Timeout: time.Duration(c.Transport.DialerTimeout), KeepAlive: 30 * time.Second}
	return &http.Transport{
		Proxy:                 proxy,
		DialContext:           dialer.DialContext,
		TLSClientConfig:       tlsConfig,
		MaxIdleConns:          c.Transport.MaxIdleConns,
		MaxIdleConnsPerHost:   c.Transport.MaxIdleConnsPerHost,
		MaxConnsPerHost:       c.Transport.MaxConnsPerHost,
		IdleConnTimeout:       time.Duration(c.Transport.IdleConnTimeout),
		ResponseHeaderTimeout: time.Duration(c.Transport.ResponseHeaderTimeout),
		ExpectContinueTimeout: time.Duration(c.Transport.ExpectContinueTimeout),
		TLSHandshakeTimeout:   time.Duration(c.Transport.TLSHandshakeTimeout),
		DisableCompression:    c.Transport.DisableCompression,
		ForceAttemptHTTP2:     true,
	}, nil
}
