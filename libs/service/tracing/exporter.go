package tracing

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/oauth"
)

const (
	protocolGRPC = "grpc"
	protocolHTTP = "http"
)

// exporterConfig is an OTLP exporter of either protocol.
type exporterConfig struct {
	protocol  string
	endpoint  string // host:port; empty means the exporter's default
	urlPath   string // HTTP only
	insecure  bool
	gzip      bool
	headers   map[string]string
	timeout   time.Duration // 0 means the exporter's default
	reconnect time.Duration // gRPC only; 0 means the exporter's default
	retry     *retryConfig
	tls       tlsConfig
	// googleAuth signs calls with the credentials of the environment.
	googleAuth bool
}

// retryConfig is the retry_config of OTLP.
type retryConfig struct {
	Enabled         bool          `yaml:"retry_enabled"`
	InitialInterval time.Duration `yaml:"retry_initial_interval"`
	MaxInterval     time.Duration `yaml:"retry_max_interval"`
	MaxElapsedTime  time.Duration `yaml:"retry_max_elapsed_time"`
}

// tlsConfig is the tls_config of OTLP.
type tlsConfig struct {
	CAFile             string `yaml:"ca_file"`
	CertFile           string `yaml:"cert_file"`
	KeyFile            string `yaml:"key_file"`
	ServerName         string `yaml:"server_name"`
	InsecureSkipVerify bool   `yaml:"insecure_skip_verify"`
}

func (c tlsConfig) load() (*tls.Config, error) {
	out := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         c.ServerName,
		InsecureSkipVerify: c.InsecureSkipVerify, //nolint:gosec // asked for by its key
	}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("tls_config.ca_file: %w", err)
		}
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("tls_config.ca_file: no PEM certificate in %s", c.CAFile)
		}
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		return nil, errors.New("tls_config: cert_file and key_file: give both or none")
	}
	if c.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("tls_config: %w", err)
		}
		out.Certificates = []tls.Certificate{pair}
	}
	return out, nil
}

func (c exporterConfig) open(ctx context.Context) (sdktrace.SpanExporter, error) {
	tlsCfg, err := c.tls.load()
	if err != nil {
		return nil, err
	}
	if c.protocol == protocolHTTP {
		return otlptracehttp.New(ctx, c.httpOptions(tlsCfg)...)
	}
	opts, err := c.grpcOptions(ctx, tlsCfg)
	if err != nil {
		return nil, err
	}
	return otlptracegrpc.New(ctx, opts...)
}

func (c exporterConfig) httpOptions(tlsCfg *tls.Config) []otlptracehttp.Option {
	var opts []otlptracehttp.Option
	if c.endpoint != "" {
		opts = append(opts, otlptracehttp.WithEndpoint(c.endpoint))
	}
	if c.urlPath != "" {
		opts = append(opts, otlptracehttp.WithURLPath(c.urlPath))
	}
	if c.insecure {
		opts = append(opts, otlptracehttp.WithInsecure())
	} else {
		opts = append(opts, otlptracehttp.WithTLSClientConfig(tlsCfg))
	}
	if c.gzip {
		opts = append(opts, otlptracehttp.WithCompression(otlptracehttp.GzipCompression))
	}
	if len(c.headers) > 0 {
		opts = append(opts, otlptracehttp.WithHeaders(c.headers))
	}
	if c.timeout > 0 {
		opts = append(opts, otlptracehttp.WithTimeout(c.timeout))
	}
	if c.retry != nil {
		opts = append(opts, otlptracehttp.WithRetry(otlptracehttp.RetryConfig(*c.retry)))
	}
	return opts
}

func (c exporterConfig) grpcOptions(ctx context.Context, tlsCfg *tls.Config) ([]otlptracegrpc.Option, error) {
	var opts []otlptracegrpc.Option
	if c.endpoint != "" {
		opts = append(opts, otlptracegrpc.WithEndpoint(c.endpoint))
	}
	if c.insecure {
		opts = append(opts, otlptracegrpc.WithInsecure())
	} else {
		opts = append(opts, otlptracegrpc.WithTLSCredentials(credentials.NewTLS(tlsCfg)))
	}
	if c.gzip {
		opts = append(opts, otlptracegrpc.WithCompressor("gzip"))
	}
	if len(c.headers) > 0 {
		opts = append(opts, otlptracegrpc.WithHeaders(c.headers))
	}
	if c.timeout > 0 {
		opts = append(opts, otlptracegrpc.WithTimeout(c.timeout))
	}
	if c.reconnect > 0 {
		opts = append(opts, otlptracegrpc.WithReconnectionPeriod(c.reconnect))
	}
	if c.retry != nil {
		opts = append(opts, otlptracegrpc.WithRetry(otlptracegrpc.RetryConfig(*c.retry)))
	}
	if c.googleAuth {
		auth, err := oauth.NewApplicationDefault(ctx, "https://www.googleapis.com/auth/trace.append")
		if err != nil {
			return nil, fmt.Errorf("Google credentials: %w", err)
		}
		opts = append(opts, otlptracegrpc.WithDialOption(grpc.WithPerRPCCredentials(auth)))
	}
	return opts, nil
}
