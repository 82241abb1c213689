package storeapi

import (
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // the codec to fall back on
	"google.golang.org/grpc/mem"
)

// vtMessage is what vtprotobuf generates for our messages.
type vtMessage interface {
	SizeVT() int
	MarshalToSizedBufferVT([]byte) (int, error)
	UnmarshalVT([]byte) error
}

// codec speaks protobuf: our frames as they are, generated messages by their
// own methods, everything else (health, reflection) by gRPC's codec.
type codec struct {
	fallback encoding.CodecV2
}

var _ encoding.CodecV2 = codec{}

func newCodec() codec { return codec{fallback: encoding.GetCodecV2("proto")} }

// Name is proto, so that content types are those of every other peer.
func (codec) Name() string { return "proto" }

func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	switch m := v.(type) {
	case *outFrame:
		return m.take(), nil
	case vtMessage:
		size := m.SizeVT()
		pool := mem.DefaultBufferPool()
		buf := pool.Get(size)
		n, err := m.MarshalToSizedBufferVT((*buf)[:size])
		if err != nil {
			pool.Put(buf)
			return nil, fmt.Errorf("marshal %T: %w", v, err)
		}
		*buf = (*buf)[:n]
		return mem.BufferSlice{mem.NewBuffer(buf, pool)}, nil
	}
	return c.fallback.Marshal(v)
}

func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	switch m := v.(type) {
	case *inFrame:
		// The transport's buffers go back to their pool; the frame's memory
		// belongs to the series decoded from it.
		m.data = make([]byte, data.Len())
		data.CopyTo(m.data)
		return nil
	case vtMessage:
		buf := data.MaterializeToBuffer(mem.DefaultBufferPool())
		defer buf.Free()
		if err := m.UnmarshalVT(buf.ReadOnlyData()); err != nil {
			return fmt.Errorf("unmarshal %T: %w", v, err)
		}
		return nil
	}
	return c.fallback.Unmarshal(data, v)
}

// ServerOption makes a gRPC server use this package's codec. Every server that
// registers a Store needs it.
func ServerOption() grpc.ServerOption { return grpc.ForceServerCodecV2(newCodec()) }

// DialOption makes a client connection use this package's codec. Every
// connection given to [NewClient] needs it.
func DialOption() grpc.DialOption {
	return grpc.WithDefaultCallOptions(grpc.ForceCodecV2(newCodec()))
}

// inFrame receives the bytes of one SeriesResponse.
type inFrame struct {
	data []byte
}
