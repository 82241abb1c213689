// Package rawstream moves the frames of a Series call without looking into them: a
// client that counts or keeps them, and the bare server that sends kept frames from
// memory, which is the floor for any store.
package rawstream

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // the codec for messages that are not frames
	"google.golang.org/grpc/mem"

	"github.com/promontory-io/promontory/proto/gen/thanos"
)

// codec passes *[]byte through and leaves everything else to gRPC.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2("proto")} }

func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if b, ok := v.(*[]byte); ok {
		return mem.BufferSlice{mem.SliceBuffer(*b)}, nil
	}
	return c.CodecV2.Marshal(v)
}

func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	if b, ok := v.(*[]byte); ok {
		*b = append((*b)[:0], make([]byte, data.Len())...)
		data.CopyTo(*b)
		return nil
	}
	return c.CodecV2.Unmarshal(data, v)
}

// Dial connects to a store.
func Dial(addr string) (*grpc.ClientConn, error) {
	return grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(newCodec()), grpc.MaxCallRecvMsgSize(1<<31-1)))
}

// Stats is what a call brought.
type Stats struct {
	Frames, Bytes int64
}

// Series calls Series and gives each frame to keep, if it is not nil. The frame's
// memory is reused afterwards.
func Series(ctx context.Context, conn *grpc.ClientConn, req *thanos.SeriesRequest, keep func([]byte) error, opts ...grpc.CallOption) (st Stats, err error) {
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, thanos.Store_Series_FullMethodName, opts...)
	if err != nil {
		return st, fmt.Errorf("open stream: %w", err)
	}
	if err := stream.SendMsg(req); err != nil {
		return st, fmt.Errorf("send request: %w", err)
	}
	if err := stream.CloseSend(); err != nil {
		return st, fmt.Errorf("close request: %w", err)
	}
	var frame []byte
	for {
		err := stream.RecvMsg(&frame)
		if errors.Is(err, io.EOF) {
			return st, nil
		}
		if err != nil {
			return st, fmt.Errorf("receive frame %d: %w", st.Frames, err)
		}
		st.Frames++
		st.Bytes += int64(len(frame))
		if keep != nil {
			if err := keep(frame); err != nil {
				return st, err
			}
		}
	}
}

// AppendFrame writes a frame to a file of frames.
func AppendFrame(w *bufio.Writer, frame []byte) error {
	var head [4]byte
	binary.BigEndian.PutUint32(head[:], uint32(len(frame)))
	if _, err := w.Write(head[:]); err != nil {
		return err
	}
	_, err := w.Write(frame)
	return err
}

// ReadFrames reads a file of frames into memory.
func ReadFrames(path string) (frames [][]byte, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read frames: %w", err)
	}
	for len(data) >= 4 {
		n := int(binary.BigEndian.Uint32(data))
		if len(data) < 4+n {
			return nil, fmt.Errorf("read frames: %s ends within a frame", path)
		}
		frames, data = append(frames, data[4:4+n]), data[4+n:]
	}
	return frames, nil
}

// bare answers every Series call with the same frames.
type bare struct {
	thanos.UnimplementedStoreServer
	frames [][]byte
}

func (b *bare) Series(_ *thanos.SeriesRequest, stream grpc.ServerStreamingServer[thanos.SeriesResponse]) error {
	for i := range b.frames {
		if err := stream.SendMsg(&b.frames[i]); err != nil {
			return err
		}
	}
	return nil
}

// NewBareServer returns the server that only sends frames.
func NewBareServer(frames [][]byte) *grpc.Server {
	srv := grpc.NewServer(grpc.ForceServerCodecV2(newCodec()), grpc.MaxSendMsgSize(1<<31-1))
	thanos.RegisterStoreServer(srv, &bare{frames: frames})
	return srv
}
