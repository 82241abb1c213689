package grpcserver

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	grpcprom "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	middleware "github.com/grpc-ecosystem/go-grpc-middleware/v2"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/promontory-io/promontory/libs/service/requestctx"
	"github.com/promontory-io/promontory/libs/service/requestlog"
)

// interceptors makes the chain that every call goes through. Metrics come first, so that they see
// whatever the others make of a call; recovery comes last, so that a panic is an error to all.
type interceptors struct {
	logger  *zap.Logger
	metrics *metrics
	policy  *requestlog.Policy
}

func (i interceptors) unary() []grpc.UnaryServerInterceptor {
	return []grpc.UnaryServerInterceptor{
		i.metrics.server.UnaryServerInterceptor(exemplar),
		func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			return next(fromMetadata(ctx), req)
		},
		i.logUnary,
		recovery.UnaryServerInterceptor(recovery.WithRecoveryHandlerContext(i.recovered)),
	}
}

func (i interceptors) stream() []grpc.StreamServerInterceptor {
	return []grpc.StreamServerInterceptor{
		i.metrics.server.StreamServerInterceptor(exemplar),
		func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			return next(srv, &middleware.WrappedServerStream{ServerStream: ss, WrappedContext: fromMetadata(ss.Context())})
		},
		i.logStream,
		recovery.StreamServerInterceptor(recovery.WithRecoveryHandlerContext(i.recovered)),
	}
}

// fromMetadata puts the tenant and the request id that came with a call into its context. Missing
// ones are made up: the default tenant, a fresh id.
func fromMetadata(ctx context.Context) context.Context {
	tenant, id := requestctx.DefaultTenant, ""
	if md, ok := metadata.FromIncomingContext(ctx); ok {
		if v := md.Get(requestctx.TenantMetadata); len(v) > 0 && v[0] != "" {
			tenant = v[0]
		}
		if v := md.Get(requestctx.RequestIDMetadata); len(v) > 0 {
			id = v[0]
		}
	}
	if id == "" {
		id = requestctx.NewRequestID()
	}
	return requestctx.WithRequestID(requestctx.WithTenant(ctx, tenant), id)
}

func (i interceptors) recovered(ctx context.Context, p any) error {
	i.metrics.panics.Inc()
	method, _ := grpc.Method(ctx)
	id, _ := requestctx.RequestID(ctx)
	i.logger.Error("recovered from panic",
		zap.String("method", method), zap.String("request_id", id),
		zap.String("panic", fmt.Sprint(p)), zap.ByteString("stack", debug.Stack()))
	return status.Errorf(codes.Internal, "panic: %v", p)
}

func (i interceptors) logUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	d := i.policy.GRPC(info.FullMethod)
	if d.Off() {
		return next(ctx, req)
	}
	start := i.begin(ctx, d, info.FullMethod)
	resp, err := next(ctx, req)
	i.end(ctx, d, info.FullMethod, start, err)
	return resp, err
}

func (i interceptors) logStream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	d := i.policy.GRPC(info.FullMethod)
	if d.Off() {
		return next(srv, ss)
	}
	start := i.begin(ss.Context(), d, info.FullMethod)
	err := next(srv, ss)
	i.end(ss.Context(), d, info.FullMethod, start, err)
	return err
}

func (i interceptors) begin(ctx context.Context, d requestlog.Decision, method string) time.Time {
	if level, ok := d.StartLevel(); ok {
		if ce := i.logger.Check(level, "started call"); ce != nil {
			ce.Write(callFields(ctx, method)...)
		}
	}
	return time.Now()
}

func (i interceptors) end(ctx context.Context, d requestlog.Decision, method string, start time.Time, err error) {
	// The same reading of context errors as in the metrics.
	code := grpcprom.FromError(err).Code()
	level, ok := d.EndLevel(requestlog.GRPCFailed(code))
	if !ok {
		return
	}
	if ce := i.logger.Check(level, "finished call"); ce != nil {
		ce.Write(append(callFields(ctx, method),
			zap.Stringer("code", code), zap.Duration("took", time.Since(start)), zap.Error(err))...)
	}
}

func callFields(ctx context.Context, method string) []zap.Field {
	id, _ := requestctx.RequestID(ctx)
	return []zap.Field{
		zap.String("method", method),
		zap.String("request_id", id),
		zap.String("tenant", requestctx.TenantOrDefault(ctx)),
	}
}
