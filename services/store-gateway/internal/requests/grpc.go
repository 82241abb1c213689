package requests

import (
	"context"

	"google.golang.org/grpc"

	"github.com/promontory-io/promontory/proto/gen/thanos"
)

// causeOf returns what calls of a method are counted as; false for methods that ask nothing of the bucket.
func causeOf(method string) (Cause, bool) {
	switch method {
	case thanos.Store_Series_FullMethodName:
		return Series, true
	case thanos.Store_LabelNames_FullMethodName:
		return LabelNames, true
	case thanos.Store_LabelValues_FullMethodName:
		return LabelValues, true
	}
	return "", false
}

// UnaryInterceptor counts what label calls ask of the bucket.
func (c *Counter) UnaryInterceptor() grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		cause, ok := causeOf(info.FullMethod)
		if !ok {
			return handler(ctx, req)
		}
		ctx, done := c.For(ctx, cause)
		defer done()
		return handler(ctx, req)
	}
}

// StreamInterceptor counts what Series calls ask of the bucket.
func (c *Counter) StreamInterceptor() grpc.StreamServerInterceptor {
	return func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		cause, ok := causeOf(info.FullMethod)
		if !ok {
			return handler(srv, ss)
		}
		ctx, done := c.For(ss.Context(), cause)
		defer done()
		return handler(srv, &stream{ServerStream: ss, ctx: ctx})
	}
}

// stream is a stream with another context.
type stream struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // that is how streams have theirs
}

func (s *stream) Context() context.Context { return s.ctx }
