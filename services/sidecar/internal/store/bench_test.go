package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/test/bufconn"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/promontory-io/promontory/libs/promapi/promclient"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/prometheus_copy"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/services/sidecar/internal/remoteread"
	"github.com/promontory-io/promontory/services/sidecar/internal/upstream"
)

// discard is a message whose content nobody looks at.
type discard struct{ size int }

type discardCodec struct{ encoding.CodecV2 }

func (c discardCodec) Unmarshal(data mem.BufferSlice, v any) error {
	if d, ok := v.(*discard); ok {
		d.size = data.Len()
		return nil
	}
	return c.CodecV2.Unmarshal(data, v)
}

// recordedRead is the body of a streamed remote read, made once.
func recordedRead(b *testing.B, series, chunksEach int) []byte {
	b.Helper()
	c := chunkenc.NewXORChunk()
	app, err := c.Appender()
	require.NoError(b, err)
	for i := range int64(120) {
		app.Append(1_763_632_800_000+i*15_000, float64(i*i%17))
	}
	var body []byte
	for i := range series {
		s := &prometheuscopy.ChunkedSeries{}
		// As Prometheus sends it: with its external labels.
		labels.FromStrings("__name__", "http_requests_total", "cluster", "eu1", "code", "200", "instance", fmt.Sprintf("10.0.%03d.%03d:9090", i/250, i%250),
			"job", "api", "replica", "a").Range(func(l labels.Label) {
			s.Labels = append(s.Labels, &prometheuscopy.Label{Name: l.Name, Value: l.Value})
		})
		for k := range int64(chunksEach) {
			t := 1_763_632_800_000 + k*1_800_000
			s.Chunks = append(s.Chunks, &prometheuscopy.Chunk{MinTimeMs: t, MaxTimeMs: t + 1_785_000, Type: prometheuscopy.Chunk_XOR, Data: c.Bytes()})
		}
		data, err := (&prometheuscopy.ChunkedReadResponse{ChunkedSeries: []*prometheuscopy.ChunkedSeries{s}}).MarshalVT()
		require.NoError(b, err)
		body = binary.AppendUvarint(body, uint64(len(data)))
		body = binary.BigEndian.AppendUint32(body, crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli)))
		body = append(body, data...)
	}
	return body
}

// BenchmarkSeries goes from frames of remote read over HTTP to frames of the Store API over gRPC; what is
// streamed, and what has to be sorted.
func BenchmarkSeries(b *testing.B) {
	const series, chunksEach = 5000, 8
	body := recordedRead(b, series, chunksEach)
	for name, names := range map[string]string{"streamed": `["__name__","code"]`, "sorted": `["__name__","replica"]`} {
		b.Run(name, func(b *testing.B) {
			web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch r.URL.Path {
				case "/api/v1/read":
					w.Header().Set("Content-Type", "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse")
					w.Write(body)
				case "/api/v1/labels":
					fmt.Fprintf(w, `{"status":"success","data":%s}`, names)
				default:
					fmt.Fprint(w, `{"status":"success","data":[{"replica":"x"}]}`)
				}
			}))
			defer web.Close()
			u, err := url.Parse(web.URL)
			require.NoError(b, err)
			source := &fakeSource{}
			source.set(external, "3.5.0", upstream.Unknown)
			lis := bufconn.Listen(1 << 20)
			srv := grpc.NewServer(storeapi.ServerOption())
			storeapi.Register(srv, New(Config{}, source, promclient.New(u, promclient.Options{HTTP: web.Client()}),
				remoteread.NewClient(u, web.Client(), ""), zap.NewNop(), nil), storeapi.ServerConfig{})
			served := make(chan error, 1)
			go func() { served <- srv.Serve(lis) }()
			conn, err := grpc.NewClient("passthrough:///store",
				grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }),
				grpc.WithTransportCredentials(insecure.NewCredentials()))
			require.NoError(b, err)
			defer func() {
				require.NoError(b, conn.Close())
				srv.Stop()
				require.NoError(b, <-served)
			}()
			req := &thanos.SeriesRequest{MaxTime: maxTime, Matchers: []*thanos.LabelMatcher{all}, WithoutReplicaLabels: []string{"replica"}, ResponseBatchSize: 64}
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				stream, err := conn.NewStream(b.Context(), &grpc.StreamDesc{ServerStreams: true}, thanos.Store_Series_FullMethodName,
					grpc.ForceCodecV2(discardCodec{encoding.GetCodecV2("proto")}))
				require.NoError(b, err)
				require.NoError(b, stream.SendMsg(req))
				require.NoError(b, stream.CloseSend())
				size := 0
				for err == nil {
					var d discard
					err = stream.RecvMsg(&d)
					size += d.size
				}
				if !errors.Is(err, io.EOF) || size < len(body)/2 {
					b.Fatal(size, err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*series*chunksEach), "ns/chunk")
		})
	}
}
