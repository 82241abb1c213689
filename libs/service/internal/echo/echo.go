// Package echo is a gRPC service for tests of servers and clients: it says back what it hears.
package echo

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Methods of the service, as full names.
const (
	Unary  = "/test.Echo/Unary"
	Stream = "/test.Echo/Stream"
)

// Handler makes the answer to one message. It may panic.
type Handler func(ctx context.Context, text string) (string, error)

// Register adds the service to a registrar.
func (h Handler) Register(r grpc.ServiceRegistrar) {
	r.RegisterService(&grpc.ServiceDesc{
		ServiceName: "test.Echo",
		HandlerType: (*any)(nil),
		Methods:     []grpc.MethodDesc{{MethodName: "Unary", Handler: unary}},
		Streams: []grpc.StreamDesc{{
			StreamName: "Stream", Handler: stream, ServerStreams: true, ClientStreams: true,
		}},
		Metadata: "echo",
	}, h)
}

//nolint:revive // the order is gRPC's
func unary(srv any, ctx context.Context, dec func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
	in := new(wrapperspb.StringValue)
	if err := dec(in); err != nil {
		return nil, err
	}
	handle := func(ctx context.Context, req any) (any, error) {
		out, err := srv.(Handler)(ctx, req.(*wrapperspb.StringValue).GetValue())
		return wrapperspb.String(out), err
	}
	if intercept == nil {
		return handle(ctx, in)
	}
	return intercept(ctx, in, &grpc.UnaryServerInfo{Server: srv, FullMethod: Unary}, handle)
}

func stream(srv any, ss grpc.ServerStream) error {
	in := new(wrapperspb.StringValue)
	if err := ss.RecvMsg(in); err != nil {
		return err
	}
	out, err := srv.(Handler)(ss.Context(), in.GetValue())
	if err != nil {
		return err
	}
	return ss.SendMsg(wrapperspb.String(out))
}

// CallUnary calls the unary method.
func CallUnary(ctx context.Context, cc grpc.ClientConnInterface, text string, opts ...grpc.CallOption) (string, error) {
	out := new(wrapperspb.StringValue)
	err := cc.Invoke(ctx, Unary, wrapperspb.String(text), out, opts...)
	return out.GetValue(), err
}

// CallStream calls the streaming method with one message.
func CallStream(ctx context.Context, cc grpc.ClientConnInterface, text string, opts ...grpc.CallOption) (string, error) {
	ss, err := cc.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, Stream, opts...)
	if err != nil {
		return "", err
	}
	if err := ss.SendMsg(wrapperspb.String(text)); err != nil {
		return "", err
	}
	if err := ss.CloseSend(); err != nil {
		return "", err
	}
	out := new(wrapperspb.StringValue)
	if err := ss.RecvMsg(out); err != nil {
		return "", err
	}
	// The end of the stream carries the status.
	if err := ss.RecvMsg(new(wrapperspb.StringValue)); err != nil && err.Error() != "EOF" {
		return "", err
	}
	return out.GetValue(), nil
}
