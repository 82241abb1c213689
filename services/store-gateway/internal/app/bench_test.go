package app

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/blocktest"
	"github.com/promontory-io/promontory/libs/objstore/filesystem"
	"github.com/promontory-io/promontory/proto/gen/thanos"
)

const (
	benchStart  int64 = 1_763_600_000_000
	chunkMillis int64 = 30 * 60 * 1000
)

// bigBlock uploads a block of many series into a bucket: pods times 200 series with 8
// chunks of 120 random samples each. Few chunks are made; all series share them.
func bigBlock(tb testing.TB, bucketDir string, pods int, ext map[string]string) {
	tb.Helper()
	const perPod, perSeries = 200, 8
	rng := rand.New(rand.NewPCG(1, 2))
	templates := make([]chunks.Meta, 64*perSeries)
	for i := range templates {
		c := chunkenc.NewXORChunk()
		app, err := c.Appender()
		require.NoError(tb, err)
		start, v := benchStart+int64(i%perSeries)*chunkMillis, 1000.0
		for k := range int64(120) {
			v += float64(rng.IntN(4))
			app.Append(start+k*15_000, v+float64(rng.IntN(2))/8)
		}
		templates[i] = chunks.Meta{Chunk: c, MinTime: start, MaxTime: start + 119*15_000}
	}
	dir := filepath.Join(tb.TempDir(), ulid.Make().String())
	cw, err := chunks.NewWriter(filepath.Join(dir, block.ChunksDirname))
	require.NoError(tb, err)
	iw, err := index.NewWriter(tb.Context(), filepath.Join(dir, block.IndexFilename))
	require.NoError(tb, err)

	var series []labels.Labels
	symbols := map[string]struct{}{}
	for pod := range pods {
		for n := range perPod {
			series = append(series, labels.FromStrings("__name__", fmt.Sprintf("http_requests_total_%02d", n/20),
				"code", fmt.Sprint(200+n%20), "instance", fmt.Sprintf("10.0.%d.%d:9090", pod/250, pod%250),
				"job", fmt.Sprintf("app-%d", pod%17), "namespace", fmt.Sprintf("ns-%d", pod%7), "pod", fmt.Sprintf("app-%d-%x", pod%17, pod*7919)))
		}
	}
	labelsOf := func(l labels.Label) { symbols[l.Name], symbols[l.Value] = struct{}{}, struct{}{} }
	for _, s := range series {
		s.Range(labelsOf)
	}
	sortLabels(series)
	for _, s := range sortedKeys(symbols) {
		require.NoError(tb, iw.AddSymbol(s))
	}
	metas := make([]chunks.Meta, perSeries)
	for i, s := range series {
		for c := range metas {
			metas[c] = templates[(i%64)*perSeries+c]
		}
		require.NoError(tb, cw.WriteChunks(metas...))
		require.NoError(tb, iw.AddSeries(storage.SeriesRef(i), s, metas...))
	}
	require.NoError(tb, cw.Close())
	require.NoError(tb, iw.Close())
	meta := &block.Meta{BlockMeta: tsdb.BlockMeta{
		ULID: ulid.MustParse(filepath.Base(dir)), MinTime: benchStart, MaxTime: benchStart + perSeries*chunkMillis, Version: 1,
	}}
	meta.Stats.NumSeries, meta.Stats.NumChunks = uint64(len(series)), uint64(len(series)*perSeries)
	meta.Stats.NumSamples = 120 * meta.Stats.NumChunks
	meta.Compaction.Level, meta.Compaction.Sources = 1, []ulid.ULID{meta.ULID}
	meta.Thanos.Labels = ext
	require.NoError(tb, block.WriteMetaDir(dir, meta))
	bkt, err := filesystem.New(bucketDir)
	require.NoError(tb, err)
	blocktest.UploadDir(tb, bkt, dir)
	require.NoError(tb, os.RemoveAll(dir))
}

// rawCodec receives frames without looking into them.
type rawCodec struct{ encoding.CodecV2 }

func (c rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	if n, ok := v.(*rawFrame); ok {
		n.size = data.Len()
		if n.keep {
			n.data = data.Materialize()
		}
		return nil
	}
	return c.CodecV2.Unmarshal(data, v)
}

func (c rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	if f, ok := v.(*rawFrame); ok {
		return mem.BufferSlice{mem.SliceBuffer(f.data)}, nil
	}
	return c.CodecV2.Marshal(v)
}

type rawFrame struct {
	data []byte
	size int
	keep bool
}

func newRawCodec() rawCodec { return rawCodec{encoding.GetCodecV2("proto")} }

// drain reads a Series answer as bytes.
func drain(tb testing.TB, conn *grpc.ClientConn, req *thanos.SeriesRequest, each func([]byte)) (size int64) {
	tb.Helper()
	stream, err := conn.NewStream(tb.Context(), &grpc.StreamDesc{ServerStreams: true}, thanos.Store_Series_FullMethodName, grpc.ForceCodecV2(newRawCodec()))
	require.NoError(tb, err)
	require.NoError(tb, stream.SendMsg(req))
	require.NoError(tb, stream.CloseSend())
	for {
		f := rawFrame{keep: each != nil}
		err := stream.RecvMsg(&f)
		if errors.Is(err, io.EOF) {
			return size
		}
		require.NoError(tb, err)
		size += int64(f.size)
		if each != nil {
			each(f.data)
		}
	}
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkSeries reads all series of two blocks with different external labels, over gRPC,
// beside a server that streams the same frames from memory. CPU time is that of
// both ends.
func BenchmarkSeries(b *testing.B) {
	const pods = 500 // 100,000 series in each block
	dir := b.TempDir()
	bigBlock(b, dir, pods, map[string]string{"cluster": "eu1", "replica": "r0"})
	bigBlock(b, dir, pods, map[string]string{"cluster": "eu1", "replica": "r1"})
	g := start(b, filesystemYAML(dir), nil)
	g.waitReady(b)
	for _, tc := range []struct {
		name string
		req  *thanos.SeriesRequest
	}{
		{"batch=64", &thanos.SeriesRequest{ResponseBatchSize: 64}},
		{"batch=64,without replica", &thanos.SeriesRequest{ResponseBatchSize: 64, WithoutReplicaLabels: []string{"replica"}}},
		{"single", &thanos.SeriesRequest{}},
		{"labels only", &thanos.SeriesRequest{ResponseBatchSize: 64, SkipChunks: true}},
	} {
		req := tc.req
		req.MinTime, req.MaxTime = benchStart, benchStart+8*chunkMillis
		req.Matchers = []*thanos.LabelMatcher{{Type: thanos.LabelMatcher_RE, Name: "__name__", Value: "http.+"}}
		measure := func(b *testing.B, conn *grpc.ClientConn) {
			var size int64
			b.ReportAllocs()
			b.ResetTimer()
			before := cpuTime()
			for b.Loop() {
				size = drain(b, conn, req, nil)
			}
			b.ReportMetric(float64((cpuTime()-before).Microseconds())/1e6/float64(b.N), "cpu-s/op")
			b.ReportMetric(float64(size)/1e6, "MB/op")
		}
		b.Run(tc.name, func(b *testing.B) { measure(b, g.conn) })
		b.Run(tc.name+"/bare stream", func(b *testing.B) {
			var frames [][]byte
			drain(b, g.conn, req, func(f []byte) { frames = append(frames, f) })
			measure(b, bareServer(b, frames))
		})
	}
}

// bareServer streams frames from memory to everyone who asks for series.
func bareServer(b *testing.B, frames [][]byte) *grpc.ClientConn {
	b.Helper()
	srv := grpc.NewServer(grpc.ForceServerCodecV2(newRawCodec()), grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
		if err := s.RecvMsg(&rawFrame{}); err != nil {
			return err
		}
		for _, f := range frames {
			if err := s.SendMsg(&rawFrame{data: f}); err != nil {
				return err
			}
		}
		return nil
	}))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30)))
	require.NoError(b, err)
	b.Cleanup(func() {
		require.NoError(b, conn.Close())
		srv.Stop()
		require.NoError(b, <-done)
	})
	return conn
}
