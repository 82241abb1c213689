package tracing

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
)

// otlpConfig is the config of type OTLP.
type otlpConfig struct {
	ClientType         string            `yaml:"client_type"`
	ServiceName        string            `yaml:"service_name"`
	ResourceAttributes map[string]string `yaml:"resource_attributes"`
	ReconnectionPeriod time.Duration     `yaml:"reconnection_period"`
	Compression        string            `yaml:"compression"`
	Insecure           bool              `yaml:"insecure"`
	Endpoint           string            `yaml:"endpoint"`
	URLPath            string            `yaml:"url_path"`
	Timeout            time.Duration     `yaml:"timeout"`
	RetryConfig        *retryConfig      `yaml:"retry_config"`
	Headers            map[string]string `yaml:"headers"`
	TLSConfig          tlsConfig         `yaml:"tls_config"`
	SamplerType        string            `yaml:"sampler_type"`
	SamplerParam       string            `yaml:"sampler_param"`
}

func (c otlpConfig) plan() (plan, error) {
	p := plan{serviceName: c.ServiceName, attributes: attributes(c.ResourceAttributes)}
	p.exporter = exporterConfig{
		endpoint:  c.Endpoint,
		urlPath:   c.URLPath,
		insecure:  c.Insecure,
		headers:   c.Headers,
		timeout:   c.Timeout,
		reconnect: c.ReconnectionPeriod,
		retry:     c.RetryConfig,
		tls:       c.TLSConfig,
	}
	// A URL is understood too: its scheme says what insecure says otherwise.
	if rest, ok := strings.CutPrefix(c.Endpoint, "http://"); ok {
		p.exporter.endpoint, p.exporter.insecure = strings.TrimSuffix(rest, "/"), true
	} else if rest, ok := strings.CutPrefix(c.Endpoint, "https://"); ok {
		p.exporter.endpoint = strings.TrimSuffix(rest, "/")
	}
	var errs []error
	switch strings.ToLower(c.ClientType) {
	case "", protocolGRPC:
		p.exporter.protocol = protocolGRPC
	case protocolHTTP:
		p.exporter.protocol = protocolHTTP
	default:
		errs = append(errs, fmt.Errorf("client_type: unknown client %q, want grpc or http", c.ClientType))
	}
	switch strings.ToLower(c.Compression) {
	case "", "none":
	case "gzip":
		p.exporter.gzip = true
	default:
		errs = append(errs, fmt.Errorf("compression: unknown compression %q, want gzip or none", c.Compression))
	}
	var err error
	if p.sampler, err = otlpSampler(c.SamplerType, c.SamplerParam); err != nil {
		errs = append(errs, err)
	}
	return p, errors.Join(errs...)
}

// attributes returns the pairs sorted by key.
func attributes(m map[string]string) []attribute.KeyValue {
	out := make([]attribute.KeyValue, 0, len(m))
	for k, v := range m {
		out = append(out, attribute.String(k, v))
	}
	slices.SortFunc(out, func(a, b attribute.KeyValue) int { return strings.Compare(string(a.Key), string(b.Key)) })
	return out
}
