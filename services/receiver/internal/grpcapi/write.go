package grpcapi

import (
	"context"
	"errors"
	"sync"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/promontory-io/promontory/libs/hashring"
	"github.com/promontory-io/promontory/libs/tenancy"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/services/receiver/internal/forward"
	"github.com/promontory-io/promontory/services/receiver/internal/tenants"
	"github.com/promontory-io/promontory/services/receiver/internal/verdict"
)

// writeDesc is the service WriteableStore with a request that stays bytes.
var writeDesc = grpc.ServiceDesc{ //nolint:gochecknoglobals // as generated code has it
	ServiceName: thanos.WriteableStore_ServiceDesc.ServiceName,
	HandlerType: (*remoteWriter)(nil),
	Methods:     []grpc.MethodDesc{{MethodName: "RemoteWrite", Handler: handleWrite}},
	Metadata:    thanos.WriteableStore_ServiceDesc.Metadata,
}

type remoteWriter interface {
	RemoteWrite(ctx context.Context, m *forward.Message) (*thanos.WriteResponse, error)
}

func handleWrite(srv any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) { //nolint:revive // the order is gRPC's
	m := new(forward.Message)
	if err := decode(m); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	call := func(ctx context.Context, req any) (any, error) {
		return srv.(remoteWriter).RemoteWrite(ctx, req.(*forward.Message))
	}
	if interceptor == nil {
		return call(ctx, m)
	}
	info := &grpc.UnaryServerInfo{Server: srv, FullMethod: thanos.WriteableStore_RemoteWrite_FullMethodName}
	return interceptor(ctx, m, info, call)
}

type writeServer struct {
	cfg  Config
	deps Deps
}

var _ remoteWriter = (*writeServer)(nil)

// RemoteWrite keeps what is meant for this node. What was not replicated yet, and whatever comes to a node
// that keeps nothing, goes to its owners.
func (s *writeServer) RemoteWrite(ctx context.Context, m *forward.Message) (*thanos.WriteResponse, error) {
	free := sync.OnceFunc(m.Free)
	if !s.deps.Ready() {
		free()
		return nil, status.Error(codes.Unavailable, "not ready")
	}
	role := forward.PeerRouter
	if !s.cfg.Router {
		role = forward.PeerIngester
	}
	_ = grpc.SetHeader(ctx, metadata.Pairs(forward.PeerHeader, role))
	var fs []verdict.Failure
	var err error
	if s.cfg.Ingester && (!s.cfg.Router || m.Replica > 0) {
		fs, err = s.keep(ctx, m)
		free()
	} else {
		fs, err = s.deps.Forwarder.Write(ctx, m.Parts, m.Replica, free)
	}
	if err != nil {
		return nil, status.Error(codeOf(err), err.Error())
	}
	if len(fs) > 0 {
		e := verdict.Error{Failures: fs}
		return nil, status.FromProto(&spb.Status{
			Code: int32(forward.CodeOf(e.Worst())), Message: e.Error(), Details: []*anypb.Any{verdict.Details(fs)},
		}).Err()
	}
	return &thanos.WriteResponse{}, nil
}

// keep writes all parts to their tenants.
func (s *writeServer) keep(ctx context.Context, m *forward.Message) (all []verdict.Failure, err error) {
	offset := uint32(0)
	for i := range m.Parts {
		p := &m.Parts[i]
		if len(p.Series) > 0 {
			fs, err := s.deps.Tenants.Append(ctx, p.Tenant, p.Series, nil)
			if err != nil {
				return nil, err
			}
			for _, f := range fs {
				f.Series += offset
				all = append(all, f)
			}
			offset += uint32(len(p.Series))
		}
		if t := s.deps.Tenants.Tenant(p.Tenant); t != nil {
			t.Describe(p.Metadata)
		}
	}
	return all, nil
}

// codeOf is the status code of an error about a whole write.
func codeOf(err error) codes.Code {
	switch {
	case errors.Is(err, tenants.ErrUnavailable), errors.Is(err, forward.ErrNoHashring):
		return codes.Unavailable
	case errors.Is(err, tenancy.ErrInvalid), errors.Is(err, forward.ErrBadReplica):
		return codes.InvalidArgument
	case errors.Is(err, context.Canceled):
		return codes.Canceled
	case errors.Is(err, context.DeadlineExceeded):
		return codes.DeadlineExceeded
	case errors.Is(err, hashring.ErrNoRing):
		return codes.Internal
	}
	return codes.Internal
}
