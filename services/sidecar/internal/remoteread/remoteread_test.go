package remoteread

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/golang/snappy"
	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/prometheus_copy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// xor is a chunk of n samples from t on.
func xor(tb testing.TB, t int64, n int) []byte {
	tb.Helper()
	c := chunkenc.NewXORChunk()
	app, err := c.Appender()
	require.NoError(tb, err)
	for i := range n {
		app.Append(t+int64(i)*1000, float64(i))
	}
	return c.Bytes()
}

func wireLabels(lset labels.Labels) (out []*prometheuscopy.Label) {
	lset.Range(func(l labels.Label) { out = append(out, &prometheuscopy.Label{Name: l.Name, Value: l.Value}) })
	return out
}

func chunked(lset labels.Labels, cs ...*prometheuscopy.Chunk) *prometheuscopy.ChunkedSeries {
	return &prometheuscopy.ChunkedSeries{Labels: wireLabels(lset), Chunks: cs}
}

// frame is what a server sends for some series.
func frame(tb testing.TB, series ...*prometheuscopy.ChunkedSeries) []byte {
	tb.Helper()
	data, err := (&prometheuscopy.ChunkedReadResponse{ChunkedSeries: series, QueryIndex: 0}).MarshalVT()
	require.NoError(tb, err)
	out := binary.AppendUvarint(nil, uint64(len(data)))
	out = binary.BigEndian.AppendUint32(out, crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli)))
	return append(out, data...)
}

// serve answers remote reads with handler.
func serve(tb testing.TB, handler http.HandlerFunc) *Client {
	tb.Helper()
	srv := httptest.NewServer(handler)
	tb.Cleanup(srv.Close)
	tb.Cleanup(srv.Client().CloseIdleConnections)
	u, err := url.Parse(srv.URL + "/prefix")
	require.NoError(tb, err)
	return NewClient(u, srv.Client(), "test/1")
}

const streamType = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse"

func streamed(body []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", streamType)
		w.Write(body)
	}
}

// over is a stream over bytes, as if a server had sent them.
func over(body []byte) *Stream {
	return newStream("http://prometheus", io.NopCloser(bytes.NewReader(body)))
}

// drain copies all that a stream yields.
func drain(s *Stream) (out []storeapi.Series) {
	for s.Next() {
		out = append(out, *s.At())
	}
	return out
}

func TestStreamYieldsSeriesWithTheChunksAsTheyCame(t *testing.T) {
	t.Parallel()
	up := labels.FromStrings("__name__", "up", "job", "a")
	a, b, c := xor(t, 1000, 3), xor(t, 10_000, 120), []byte{1, 2, 3}
	body := frame(t, chunked(up, &prometheuscopy.Chunk{MinTimeMs: 1000, MaxTimeMs: 3000, Type: prometheuscopy.Chunk_XOR, Data: a}))
	body = append(body, frame(t, chunked(up, &prometheuscopy.Chunk{MinTimeMs: 10_000, MaxTimeMs: 129_000, Type: prometheuscopy.Chunk_XOR, Data: b}))...)
	body = append(body, frame(t)...)
	body = append(body, frame(t,
		chunked(labels.FromStrings("__name__", "x"),
			&prometheuscopy.Chunk{MinTimeMs: -5, MaxTimeMs: -1, Type: prometheuscopy.Chunk_HISTOGRAM, Data: c},
			&prometheuscopy.Chunk{Type: prometheuscopy.Chunk_FLOAT_HISTOGRAM, Data: c}),
		chunked(labels.FromStrings("__name__", "y")))...)

	s, err := serve(t, streamed(body)).Read(t.Context(), Query{})
	require.NoError(t, err)
	defer s.Close()
	require.True(t, s.Ordered())
	got := drain(s)
	require.NoError(t, s.Err())
	require.Equal(t, 4, s.Frames())
	require.Len(t, got, 4)
	require.Equal(t, up.String(), got[0].Labels.String())
	require.Equal(t, up.String(), got[1].Labels.String())
	require.Equal(t, a, got[0].Chunks[0].Raw.Data)
	require.Equal(t, b, got[1].Chunks[0].Raw.Data)
	require.Equal(t, int64(10_000), got[1].Chunks[0].MinTime)
	require.Equal(t, int64(129_000), got[1].Chunks[0].MaxTime)
	require.Len(t, got[2].Chunks, 2)
	require.Equal(t, chunkenc.EncHistogram, got[2].Chunks[0].Raw.Encoding)
	require.Equal(t, int64(-5), got[2].Chunks[0].MinTime)
	require.Equal(t, chunkenc.EncFloatHistogram, got[2].Chunks[1].Raw.Encoding)
	require.Empty(t, got[3].Chunks)
}

func TestReadAsksAsPrometheusExpects(t *testing.T) {
	t.Parallel()
	asked := make(chan *prometheuscopy.ReadRequest, 1)
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			body, err = snappy.Decode(nil, body)
		}
		req := &prometheuscopy.ReadRequest{}
		if err == nil {
			err = req.UnmarshalVT(body)
		}
		if err != nil || r.Method != http.MethodPost || r.URL.Path != "/prefix/api/v1/read" || r.Header.Get("Content-Encoding") != "snappy" ||
			r.Header.Get("Content-Type") != "application/x-stream-protobuf" || r.Header.Get("X-Prometheus-Remote-Read-Version") != "0.1.0" ||
			r.Header.Get("User-Agent") != "test/1" {
			http.Error(w, fmt.Sprint("unexpected request: ", err, r.URL, r.Header), http.StatusBadRequest)
			return
		}
		asked <- req
		w.Header().Set("Content-Type", streamType)
	})
	s, err := c.Read(t.Context(), Query{MinTime: -7, MaxTime: 9, Matchers: []*labels.Matcher{
		labels.MustNewMatcher(labels.MatchEqual, "a", "1"), labels.MustNewMatcher(labels.MatchNotEqual, "b", "2"),
		labels.MustNewMatcher(labels.MatchRegexp, "c", "3"), labels.MustNewMatcher(labels.MatchNotRegexp, "d", "4"),
	}})
	require.NoError(t, err)
	defer s.Close()
	require.False(t, s.Next())
	require.NoError(t, s.Err())
	want := &prometheuscopy.ReadRequest{
		Queries: []*prometheuscopy.Query{{StartTimestampMs: -7, EndTimestampMs: 9, Matchers: []*prometheuscopy.LabelMatcher{
			{Type: prometheuscopy.LabelMatcher_EQ, Name: "a", Value: "1"},
			{Type: prometheuscopy.LabelMatcher_NEQ, Name: "b", Value: "2"},
			{Type: prometheuscopy.LabelMatcher_RE, Name: "c", Value: "3"},
			{Type: prometheuscopy.LabelMatcher_NRE, Name: "d", Value: "4"},
		}}},
		AcceptedResponseTypes: []prometheuscopy.ReadRequest_ResponseType{prometheuscopy.ReadRequest_STREAMED_XOR_CHUNKS, prometheuscopy.ReadRequest_SAMPLES},
	}
	require.Empty(t, cmp.Diff(want.String(), (<-asked).String()))
}

func TestAStreamThatIsCutAnywhereFailsUnlessBetweenFrames(t *testing.T) {
	t.Parallel()
	one := frame(t, chunked(labels.FromStrings("__name__", "one"), &prometheuscopy.Chunk{Type: prometheuscopy.Chunk_XOR, Data: xor(t, 0, 40)}))
	two := frame(t, chunked(labels.FromStrings("__name__", "two"), &prometheuscopy.Chunk{Type: prometheuscopy.Chunk_XOR, Data: xor(t, 0, 5)}))
	body := append(bytes.Clone(one), two...)
	for n := range body {
		s := over(body[:n])
		got := drain(s)
		if n == 0 || n == len(one) {
			require.NoError(t, s.Err(), "cut at %d", n)
			continue
		}
		require.ErrorIs(t, s.Err(), storeapi.ErrUnavailable, "cut at %d", n)
		require.ErrorContains(t, s.Err(), "http://prometheus broke off")
		require.LessOrEqual(t, len(got), 1)
		require.False(t, s.Next(), "an ended stream stays so")
	}
}

func TestAFlippedBitAnywhereIsNoticed(t *testing.T) {
	t.Parallel()
	body := frame(t, chunked(labels.FromStrings("__name__", "one"), &prometheuscopy.Chunk{Type: prometheuscopy.Chunk_XOR, Data: xor(t, 0, 40)}))
	for n := range body {
		for bit := range 8 {
			broken := bytes.Clone(body)
			broken[n] ^= 1 << bit
			s := over(broken)
			require.Empty(t, drain(s))
			require.ErrorIs(t, s.Err(), storeapi.ErrUnavailable, "bit %d of byte %d", bit, n)
		}
	}
}

func TestAMessageThatPrometheusSendsInTheMiddleIsShown(t *testing.T) {
	t.Parallel()
	one := frame(t, chunked(labels.FromStrings("__name__", "one")))
	for _, text := range []string{
		"exceeded sample limit (50000000)\n", "corrupted block 01H: unexpected series at position 12345; expected order is broken, " +
			"and so on for as long as it takes to make a message longer than the frame its first letter promises\n",
	} {
		s := over(append(bytes.Clone(one), text...))
		require.Len(t, drain(s), 1)
		require.ErrorContains(t, s.Err(), text[:20])
		require.ErrorIs(t, s.Err(), storeapi.ErrUnavailable)
	}
}

func TestFramesThatMakeNoSenseAreRefused(t *testing.T) {
	t.Parallel()
	sealed := func(data []byte) []byte {
		out := binary.AppendUvarint(nil, uint64(len(data)))
		out = binary.BigEndian.AppendUint32(out, crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli)))
		return append(out, data...)
	}
	for _, tc := range []struct {
		name, want string
		body       []byte
	}{
		{"too large", "has 67108865 bytes", binary.AppendUvarint(nil, maxFrame+1)},
		{"length without end", "overflow", bytes.Repeat([]byte{0xff}, 11)},
		{"series cut", "decode frame 0", sealed([]byte{0x0a, 0x05, 1})},
		{"label cut", "label", sealed([]byte{0x0a, 0x03, 0x0a, 0x01, 0x0a})},
		{"unknown encoding", "unknown chunk encoding 0", frame(t, chunked(labels.FromStrings("a", "b"), &prometheuscopy.Chunk{}))},
		{"unknown encoding", "unknown chunk encoding 4", frame(t, chunked(labels.FromStrings("a", "b"), &prometheuscopy.Chunk{Type: 4, Data: []byte{1}}))},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := over(tc.body)
			require.Empty(t, drain(s))
			require.ErrorContains(t, s.Err(), tc.want)
			require.ErrorIs(t, s.Err(), storeapi.ErrUnavailable)
		})
	}
}

func TestAnswersOtherThan200HaveAKindAndNamePrometheus(t *testing.T) {
	t.Parallel()
	for code, kind := range map[int]error{
		http.StatusBadRequest: storeapi.ErrInvalid, http.StatusNotFound: storeapi.ErrNotFound, http.StatusUnprocessableEntity: storeapi.ErrInternal,
		http.StatusServiceUnavailable: storeapi.ErrUnavailable, http.StatusInternalServerError: storeapi.ErrInternal,
		http.StatusForbidden: storeapi.ErrInternal, http.StatusTooManyRequests: storeapi.ErrUnavailable,
	} {
		c := serve(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "for a reason", code) })
		_, err := c.Read(t.Context(), Query{})
		require.ErrorIs(t, err, kind, "status %d", code)
		require.ErrorContains(t, err, fmt.Sprintf("/prefix/api/v1/read answered %d: for a reason", code))
	}
}

func TestAServerThatCannotBeReachedIsNamedWithoutItsPassword(t *testing.T) {
	t.Parallel()
	u, err := url.Parse("http://user:secret@127.0.0.1:1")
	require.NoError(t, err)
	_, err = NewClient(u, &http.Client{}, "").Read(t.Context(), Query{})
	require.ErrorIs(t, err, storeapi.ErrUnavailable)
	require.ErrorContains(t, err, "127.0.0.1:1")
	require.NotContains(t, err.Error(), "secret")
}

func TestTheEndOfTheContextKeepsItsKind(t *testing.T) {
	t.Parallel()
	block := make(chan struct{})
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", streamType)
		w.Write(frame(t, chunked(labels.FromStrings("__name__", "one"))))
		http.NewResponseController(w).Flush()
		select {
		case <-block:
		case <-r.Context().Done():
		}
	})
	defer close(block)
	ctx, cancel := context.WithCancel(t.Context())
	s, err := c.Read(ctx, Query{})
	require.NoError(t, err)
	defer s.Close()
	require.True(t, s.Next())
	cancel()
	require.False(t, s.Next())
	require.ErrorIs(t, s.Err(), context.Canceled)
	_, err = c.Read(ctx, Query{})
	require.ErrorIs(t, err, context.Canceled)
}

func TestSeriesStayValidWhenTheStreamMovesOn(t *testing.T) {
	t.Parallel()
	var body []byte
	for i := range 3 * arenaChunks {
		data := xor(t, int64(i), 1)
		body = append(body, frame(t, chunked(labels.FromStrings("__name__", fmt.Sprintf("m%04d", i)),
			&prometheuscopy.Chunk{MinTimeMs: int64(i), Type: prometheuscopy.Chunk_XOR, Data: data}))...)
	}
	s := over(body)
	for i, series := range drain(s) {
		require.Equal(t, fmt.Sprintf("m%04d", i), series.Labels.Get("__name__"))
		require.Equal(t, int64(i), series.Chunks[0].MinTime)
		require.Equal(t, xor(t, int64(i), 1), series.Chunks[0].Raw.Data)
		require.Equal(t, cap(series.Chunks), len(series.Chunks), "appending must not reach the next series")
	}
	require.NoError(t, s.Err())
}

func FuzzStream(f *testing.F) {
	f.Add(frame(f, chunked(labels.FromStrings("__name__", "one", "b", "2"), &prometheuscopy.Chunk{Type: prometheuscopy.Chunk_XOR, Data: []byte{0, 1, 2}})))
	f.Add(frame(f))
	f.Add([]byte("some text that is no frame"))
	f.Fuzz(func(t *testing.T, data []byte) {
		drain(over(data))
		// The checksum keeps random bytes away from what is behind it.
		s := over(nil)
		if err := s.decode(data); err != nil {
			return
		}
		for _, series := range s.batch {
			for _, c := range series.Chunks {
				require.LessOrEqual(t, len(c.Raw.Data), len(data))
			}
		}
	})
}

func BenchmarkStream(b *testing.B) {
	const series, chunksEach = 1000, 8
	var body []byte
	data := xor(b, 0, 120)
	for i := range series {
		var cs []*prometheuscopy.Chunk
		for c := range int64(chunksEach) {
			cs = append(cs, &prometheuscopy.Chunk{MinTimeMs: 1_763_632_800_000 + c*1_800_000, MaxTimeMs: 1_763_632_800_000 + (c+1)*1_800_000 - 1, Type: prometheuscopy.Chunk_XOR, Data: data})
		}
		body = append(body, frame(b, chunked(labels.FromStrings("__name__", "http_requests_total", "cluster", "eu1", "code", "200",
			"instance", fmt.Sprintf("10.0.0.%d:9090", i), "job", "api", "replica", "a"), cs...))...)
	}
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		s := over(body)
		n := 0
		for s.Next() {
			n += len(s.At().Chunks)
		}
		if s.Err() != nil || n != series*chunksEach {
			b.Fatal(n, s.Err())
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*series*chunksEach), "ns/chunk")
}

func TestALargeFrameIsReadWhole(t *testing.T) {
	t.Parallel()
	data := bytes.Repeat([]byte("0123456789abcdef"), (2*usualFrame+12_345)/16)
	body := frame(t, chunked(labels.FromStrings("__name__", "large"), &prometheuscopy.Chunk{Type: prometheuscopy.Chunk_XOR, Data: data}))
	s := over(body)
	got := drain(s)
	require.NoError(t, s.Err())
	require.True(t, bytes.Equal(data, got[0].Chunks[0].Raw.Data))
	require.Empty(t, drain(over(body[:len(body)-1])))
}
