// Package grpcclient calls the gRPC servers of other processes with everything such a call
// needs: TLS, keepalive, limits, compression, metrics, tracing, and the tenant and request id of
// the context it is made in.
package grpcclient

import (
	"context"
	"fmt"
	"math"
	"time"

	grpcprom "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/version"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"

	"github.com/promontory-io/promontory/libs/service/grpcsnappy"
	"github.com/promontory-io/promontory/libs/service/requestctx"
	"github.com/promontory-io/promontory/libs/service/tracing"
)

const (
	pingInterval = 10 * time.Second
	pingTimeout  = 5 * time.Second
)

// Options is what a dialer needs of its process.
type Options struct {
	// Registerer takes the grpc_client_* metrics; nil works. One registry holds one Dialer.
	Registerer prometheus.Registerer
	// Tracing makes a span for each call; nil makes none.
	Tracing *tracing.Tracing
}

// Dialer makes connections that share their metrics. It is safe for concurrent use.
type Dialer struct {
	metrics *grpcprom.ClientMetrics
	tracing *tracing.Tracing
}

// New returns a dialer.
func New(opts Options) *Dialer {
	d := &Dialer{
		metrics: grpcprom.NewClientMetrics(grpcprom.WithClientHandlingTimeHistogram(
			grpcprom.WithHistogramOpts(&prometheus.HistogramOpts{
				Buckets:                         []float64{0.001, 0.01, 0.1, 0.3, 0.6, 1, 3, 6, 9, 20, 30, 60, 90, 120},
				NativeHistogramBucketFactor:     1.1,
				NativeHistogramMaxBucketNumber:  100,
				NativeHistogramMinResetDuration: time.Hour,
			}),
		)),
		tracing: opts.Tracing,
	}
	if opts.Registerer != nil {
		opts.Registerer.MustRegister(d.metrics)
	}
	return d
}

// DialOptions returns the options that calls made under cfg need. TLS files are read at once, and
// again when they change.
func (d *Dialer) DialOptions(cfg Config) ([]grpc.DialOption, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	creds := insecure.NewCredentials()
	tlsCfg, err := cfg.TLS.Config(cfg.ServerName)
	if err != nil {
		return nil, err
	}
	if tlsCfg != nil {
		creds = credentials.NewTLS(tlsCfg)
	}
	call := []grpc.CallOption{grpc.MaxCallRecvMsgSize(math.MaxInt32), grpc.MaxCallSendMsgSize(math.MaxInt32)}
	if cfg.Compression == CompressionSnappy {
		call = append(call, grpc.UseCompressor(grpcsnappy.Name))
	}
	exemplar := grpcprom.WithExemplarFromContext(tracing.Exemplar)
	return []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithDefaultCallOptions(call...),
		grpc.WithUserAgent("Thanos/" + version.Version),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingInterval, Timeout: pingTimeout}),
		grpc.WithStatsHandler(d.tracing.ClientHandler()),
		grpc.WithChainUnaryInterceptor(d.metrics.UnaryClientInterceptor(exemplar), propagateUnary),
		grpc.WithChainStreamInterceptor(d.metrics.StreamClientInterceptor(exemplar), propagateStream),
	}, nil
}

// NewClient returns a connection to target, which is made when it is first needed. Extra options
// go after ours.
func (d *Dialer) NewClient(target string, cfg Config, extra ...grpc.DialOption) (*grpc.ClientConn, error) {
	opts, err := d.DialOptions(cfg)
	if err != nil {
		return nil, fmt.Errorf("gRPC client for %s: %w", target, err)
	}
	conn, err := grpc.NewClient(target, append(opts, extra...)...)
	if err != nil {
		return nil, fmt.Errorf("gRPC client for %s: %w", target, err)
	}
	return conn, nil
}

func propagateUnary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	return invoke(toMetadata(ctx), method, req, reply, cc, opts...)
}

func propagateStream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, stream grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return stream(toMetadata(ctx), desc, cc, method, opts...)
}

// toMetadata sends along what ctx knows of the request. What the caller has put into the outgoing
// metadata already is left alone.
func toMetadata(ctx context.Context) context.Context {
	have, _ := metadata.FromOutgoingContext(ctx)
	var kv []string
	if tenant, ok := requestctx.Tenant(ctx); ok && len(have.Get(requestctx.TenantMetadata)) == 0 {
		kv = append(kv, requestctx.TenantMetadata, tenant)
	}
	if id, ok := requestctx.RequestID(ctx); ok && len(have.Get(requestctx.RequestIDMetadata)) == 0 {
		kv = append(kv, requestctx.RequestIDMetadata, id)
	}
	if len(kv) == 0 {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, kv...)
}
