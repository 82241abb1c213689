package tracing

import (
	"context"
	"strings"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
)

var forceMetadata = strings.ToLower(ForceHeader)

// ServerHandler returns the handler that makes a span for each call a server answers.
func (t *Tracing) ServerHandler() stats.Handler {
	return serverHandler{otelgrpc.NewServerHandler(
		otelgrpc.WithTracerProvider(t.Provider()), otelgrpc.WithPropagators(t.Propagator()), noMetrics)}
}

// ClientHandler returns the handler that makes a span for each call a client makes.
func (t *Tracing) ClientHandler() stats.Handler {
	return clientHandler{otelgrpc.NewClientHandler(
		otelgrpc.WithTracerProvider(t.Provider()), otelgrpc.WithPropagators(t.Propagator()), noMetrics)}
}

// serverHandler forces sampling of calls that ask for it, before their span is made.
type serverHandler struct{ stats.Handler }

func (h serverHandler) TagRPC(ctx context.Context, info *stats.RPCTagInfo) context.Context {
	if md, ok := metadata.FromIncomingContext(ctx); ok {
		if v := md.Get(forceMetadata); len(v) > 0 && v[0] != "" {
			ctx = Force(ctx)
		}
	}
	return h.Handler.TagRPC(ctx, info)
}

// clientHandler hands the wish to be sampled on to the server.
type clientHandler struct{ stats.Handler }

func (h clientHandler) TagRPC(ctx context.Context, info *stats.RPCTagInfo) context.Context {
	if forced(ctx) {
		ctx = metadata.AppendToOutgoingContext(ctx, forceMetadata, "true")
	}
	return h.Handler.TagRPC(ctx, info)
}
