// Package fakepeer is a peer of a querier for tests: a gRPC server on loopback whose answers, good
// and bad, are said by the test.
package fakepeer

import (
	"context"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/promontory-io/promontory/libs/chunks"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/proto/gen/thanos/info"
	"github.com/promontory-io/promontory/services/querier/internal/endpoints"
)

// Store is a store over series in memory. Its fields are set before it is used.
type Store struct {
	// External are its external labels.
	External labels.Labels
	// Series have their own labels only, sorted by them.
	Series []storeapi.Series
	// Warnings are sent before the series.
	Warnings []string
	// FailAfter, if Err is set, is how many series are sent before it.
	FailAfter int
	Err       error
	// HangAfter, if Hang is set, is how many series are sent before nothing comes any more.
	HangAfter int
	Hang      bool
	// Ignore makes the store ignore shards and replica labels, as one that does not support them.
	Ignore bool
	// Cut makes the store cut chunks to the range of the request, as Prometheus' remote read does.
	Cut bool
	// Requests, if set, gets each Series request.
	Requests chan *thanos.SeriesRequest
}

var _ storeapi.Store = (*storeServer)(nil)

type storeServer struct {
	*Store
}

func (s *storeServer) Series(ctx context.Context, req *thanos.SeriesRequest, ms []*labels.Matcher, w *storeapi.Writer) error {
	if s.Requests != nil {
		select {
		case s.Requests <- req:
		default:
		}
	}
	rest, ok := storeapi.MatchExternal(s.External, ms)
	if !ok {
		return nil
	}
	if len(rest) == 0 {
		return storeapi.Invalidf("no matchers left")
	}
	for _, text := range s.Warnings {
		if err := w.Warning(text); err != nil {
			return err
		}
	}
	remove, shard := req.GetWithoutReplicaLabels(), storeapi.NewShard(req.GetShardInfo())
	if s.Ignore {
		remove, shard = nil, nil
	}
	out := s.matching(req, rest, remove)
	for i := range out {
		if err := s.trouble(ctx, i, w); err != nil {
			return err
		}
		if !shard.Has(out[i].Labels) {
			continue
		}
		if s.Cut {
			if err := cut(&out[i], req.GetMinTime(), req.GetMaxTime()); err != nil {
				return err
			}
		}
		if err := w.Series(out[i].Labels, out[i].Chunks); err != nil {
			return err
		}
	}
	return s.trouble(ctx, len(out), w)
}

func (s *storeServer) trouble(ctx context.Context, sent int, w *storeapi.Writer) error {
	if s.Hang && sent == s.HangAfter {
		if err := w.Flush(); err != nil {
			return err
		}
		<-ctx.Done()
		return ctx.Err()
	}
	if s.Err != nil && sent == s.FailAfter {
		if err := w.Flush(); err != nil {
			return err
		}
		return s.Err
	}
	return nil
}

func (s *storeServer) matching(req *thanos.SeriesRequest, ms []*labels.Matcher, remove []string) []storeapi.Series {
	ext := storeapi.NewExtender(s.External, remove)
	var out []storeapi.Series
	for _, sr := range s.Store.Series {
		if slices.ContainsFunc(ms, func(m *labels.Matcher) bool { return !m.Matches(sr.Labels.Get(m.Name)) }) {
			continue
		}
		chks := slices.DeleteFunc(slices.Clone(sr.Chunks), func(c chunks.AggrChunk) bool {
			return c.MaxTime < req.GetMinTime() || c.MinTime > req.GetMaxTime()
		})
		if len(chks) == 0 {
			continue
		}
		if req.GetSkipChunks() {
			chks = nil
		}
		out = append(out, storeapi.Series{Labels: ext.Extend(sr.Labels), Chunks: chks})
	}
	slices.SortStableFunc(out, func(a, b storeapi.Series) int { return labels.Compare(a.Labels, b.Labels) })
	return out
}

// cut leaves of the chunks of a series, which are floats, what is between mint and maxt.
func cut(sr *storeapi.Series, mint, maxt int64) error {
	var out []chunks.AggrChunk
	for _, c := range sr.Chunks {
		if c.MinTime < mint || c.MaxTime > maxt {
			old, err := chunkenc.FromData(chunkenc.EncXOR, c.Raw.Data)
			if err != nil {
				return err
			}
			part := chunkenc.NewXORChunk()
			app, err := part.Appender()
			if err != nil {
				return err
			}
			c.MinTime, c.MaxTime = maxt, mint
			for it := old.Iterator(nil); it.Next() != chunkenc.ValNone; {
				if t, v := it.At(); t >= mint && t <= maxt {
					app.Append(t, v)
					c.MinTime, c.MaxTime = min(c.MinTime, t), max(c.MaxTime, t)
				}
			}
			c.Raw = chunks.Chunk{Encoding: chunkenc.EncXOR, Data: part.Bytes()}
		}
		if c.MinTime <= c.MaxTime {
			out = append(out, c)
		}
	}
	sr.Chunks = out
	return nil
}

func (s *storeServer) LabelNames(ctx context.Context, req *thanos.LabelNamesRequest, ms []*labels.Matcher) (*thanos.LabelNamesResponse, error) {
	if s.Hang {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if s.Err != nil {
		return nil, s.Err
	}
	var names []string
	for _, sr := range s.all(req.GetStart(), req.GetEnd(), ms, req.GetWithoutReplicaLabels()) {
		sr.Labels.Range(func(l labels.Label) { names = append(names, l.Name) })
	}
	return &thanos.LabelNamesResponse{Names: storeapi.Union(names), Warnings: s.Warnings}, nil
}

func (s *storeServer) LabelValues(ctx context.Context, req *thanos.LabelValuesRequest, ms []*labels.Matcher) (*thanos.LabelValuesResponse, error) {
	if s.Hang {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if s.Err != nil {
		return nil, s.Err
	}
	var values []string
	for _, sr := range s.all(req.GetStart(), req.GetEnd(), ms, req.GetWithoutReplicaLabels()) {
		if v := sr.Labels.Get(req.GetLabel()); v != "" {
			values = append(values, v)
		}
	}
	return &thanos.LabelValuesResponse{Values: storeapi.Union(values), Warnings: s.Warnings}, nil
}

func (s *storeServer) all(mint, maxt int64, ms []*labels.Matcher, remove []string) []storeapi.Series {
	rest, ok := storeapi.MatchExternal(s.External, ms)
	if !ok {
		return nil
	}
	if s.Ignore {
		remove = nil
	}
	return s.matching(&thanos.SeriesRequest{MinTime: mint, MaxTime: maxt, SkipChunks: true}, rest, remove)
}

// Peer is a server.
type Peer struct {
	// Info is the answer to Info; nil makes the call fail with InfoErr, or be unknown to the peer without that.
	Info    *info.InfoResponse
	InfoErr error
	// Register adds services.
	Register []func(grpc.ServiceRegistrar)
	// Replay is what to answer to other calls, by full method: the frames, byte for byte.
	Replay map[string][][]byte
	// Called, if set, is told about each of these calls with its request.
	Called func(method string, request []byte)
}

// replay answers a call that no service serves.
func (p *Peer) replay(_ any, stream grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(stream)
	frames, ok := p.Replay[method]
	if !ok {
		return status.Errorf(codes.Unimplemented, "unknown method %s", method)
	}
	var req rawMessage
	if err := stream.RecvMsg(&req); err != nil {
		return err
	}
	if p.Called != nil {
		p.Called(method, req)
	}
	for _, f := range frames {
		m := rawMessage(f)
		if err := stream.SendMsg(&m); err != nil {
			return err
		}
	}
	return nil
}

type infoServer struct {
	info.UnimplementedInfoServer
	peer *Peer
}

func (s infoServer) Info(context.Context, *info.InfoRequest) (*info.InfoResponse, error) {
	if s.peer.Info == nil {
		return nil, s.peer.InfoErr
	}
	return s.peer.Info, nil
}

// Start serves p on loopback until the test ends and returns its address.
func Start(t testing.TB, p *Peer) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	_, stop := Serve(t, p, l)
	t.Cleanup(stop)
	return l.Addr().String()
}

// Serve serves p on l. The returned function stops it and may be called more than once.
func Serve(t testing.TB, p *Peer, l net.Listener) (addr string, stop func()) {
	t.Helper()
	srv := grpc.NewServer(storeapi.ServerOption(), grpc.UnknownServiceHandler(p.replay))
	if p.Info != nil || p.InfoErr != nil {
		info.RegisterInfoServer(srv, infoServer{peer: p})
	}
	for _, r := range p.Register {
		r(srv)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(l)
	}()
	return l.Addr().String(), func() {
		srv.Stop()
		<-done
	}
}

// Dial returns a connection that ends with the test.
func Dial(t testing.TB, addr string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+addr, storeapi.DialOption(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// RegisterStore serves the Store API of s.
func RegisterStore(s *Store) func(grpc.ServiceRegistrar) {
	return func(r grpc.ServiceRegistrar) { storeapi.Register(r, &storeServer{s}, storeapi.ServerConfig{}) }
}

// Raw serves a Store API whose Series sends what frames returns, byte for byte.
func Raw(frames func() [][]byte) func(grpc.ServiceRegistrar) {
	return func(r grpc.ServiceRegistrar) { thanos.RegisterStoreServer(r, rawServer{frames: frames}) }
}

type rawServer struct {
	thanos.UnimplementedStoreServer
	frames func() [][]byte
}

// rawMessage is marshalled as it is by the server's codec.
type rawMessage []byte

func (m rawMessage) SizeVT() int { return len(m) }
func (m rawMessage) MarshalToSizedBufferVT(b []byte) (int, error) {
	return copy(b, m), nil
}

// UnmarshalVT keeps the bytes as they are.
func (m *rawMessage) UnmarshalVT(b []byte) error {
	*m = slices.Clone(b)
	return nil
}

func (s rawServer) Series(_ *thanos.SeriesRequest, stream grpc.ServerStreamingServer[thanos.SeriesResponse]) error {
	for _, f := range s.frames() {
		m := rawMessage(f)
		if err := stream.SendMsg(&m); err != nil {
			return fmt.Errorf("send: %w", err)
		}
	}
	return nil
}

// StartStore serves s and returns the endpoint as a set would list it.
func StartStore(t testing.TB, s *Store) endpoints.Endpoint {
	t.Helper()
	return Endpoint(t, Start(t, &Peer{Register: []func(grpc.ServiceRegistrar){RegisterStore(s)}}), s)
}

// Endpoint is the endpoint of s at addr.
func Endpoint(t testing.TB, addr string, s *Store) endpoints.Endpoint {
	t.Helper()
	conn := Dial(t, addr)
	e := endpoints.Endpoint{
		Addr: addr, Conn: conn, ComponentType: endpoints.ComponentStore, LastCheck: time.Unix(1, 0),
		Store: &endpoints.StoreInfo{
			TimeRange: endpoints.TimeRange{MinTime: 0, MaxTime: 1 << 50}, Client: storeapi.NewClient(conn),
			SupportsSharding: !s.Ignore, SupportsWithoutReplicaLabels: !s.Ignore,
		},
	}
	if !s.External.IsEmpty() {
		e.LabelSets = []labels.Labels{s.External}
	}
	return e
}

// Sample is one sample.
type Sample struct {
	T int64
	V float64
}

// Series makes one series with a chunk for each list of samples.
func Series(t testing.TB, lset labels.Labels, lists ...[]Sample) storeapi.Series {
	t.Helper()
	out := storeapi.Series{Labels: lset}
	for _, samples := range lists {
		c := chunkenc.NewXORChunk()
		app, err := c.Appender()
		require.NoError(t, err)
		for _, s := range samples {
			app.Append(s.T, s.V)
		}
		out.Chunks = append(out.Chunks, chunks.AggrChunk{
			MinTime: samples[0].T, MaxTime: samples[len(samples)-1].T,
			Raw: chunks.Chunk{Encoding: chunkenc.EncXOR, Data: c.Bytes()},
		})
	}
	return out
}

// Ramp returns n samples from t on, step apart, each one higher than the one before.
func Ramp(t, step int64, n int, from float64) []Sample {
	out := make([]Sample, n)
	for i := range out {
		out[i] = Sample{T: t + int64(i)*step, V: from + float64(i)}
	}
	return out
}
