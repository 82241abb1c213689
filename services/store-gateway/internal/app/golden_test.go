package app

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/promontory-io/promontory/libs/block/blocktest"
	"github.com/promontory-io/promontory/proto/gen/hintspb"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/proto/gen/thanos/info"
)

// recordedCall is a line of testdata/wire-store.jsonl.
type recordedCall struct {
	Note, Method, Request, Error string
	Frames                       []string
}

func recordedCalls(t *testing.T) (calls []recordedCall) {
	t.Helper()
	f, err := os.Open("testdata/wire-store.jsonl")
	require.NoError(t, err)
	defer func() { require.NoError(t, f.Close()) }()
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<24)
	for s.Scan() {
		var c recordedCall
		require.NoError(t, json.Unmarshal(s.Bytes(), &c))
		calls = append(calls, c)
	}
	require.NoError(t, s.Err())
	require.NotEmpty(t, calls)
	return calls
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	require.NoError(t, err)
	return b
}

type vtMessage interface{ UnmarshalVT([]byte) error }

func decodeHex[M vtMessage](t *testing.T, s string, m M) M {
	t.Helper()
	require.NoError(t, m.UnmarshalVT(unhex(t, s)))
	return m
}

func TestRecordedCallsHaveTheRecordedAnswers(t *testing.T) {
	t.Parallel()
	gateways := map[bool]*gateway{
		true:  start(t, filesystemYAML(blocktest.RecordedBefore(t)), nil),
		false: start(t, filesystemYAML(blocktest.RecordedAfter(t)), nil),
	}
	for _, g := range gateways {
		g.waitReady(t)
	}
	for _, c := range recordedCalls(t) {
		t.Run(c.Method+" "+c.Note, func(t *testing.T) {
			conn := gateways[strings.Contains(c.Note, "bucket-before")].conn
			switch c.Method {
			case "/thanos.info.Info/Info":
				got, err := info.NewInfoClient(conn).Info(t.Context(), &info.InfoRequest{})
				require.NoError(t, err)
				requireEqual(t, decodeHex(t, c.Frames[0], &info.InfoResponse{}), got)
			case thanos.Store_LabelNames_FullMethodName:
				req := decodeHex(t, c.Request, &thanos.LabelNamesRequest{})
				got, err := thanos.NewStoreClient(conn).LabelNames(t.Context(), req)
				require.NoError(t, err)
				want := decodeHex(t, c.Frames[0], &thanos.LabelNamesResponse{})
				require.Equal(t, queriedBlocks(t, want.GetHints(), &hintspb.LabelNamesResponseHints{}), queriedBlocks(t, got.GetHints(), &hintspb.LabelNamesResponseHints{}))
				got.Hints, want.Hints = nil, nil
				requireEqual(t, want, got)
			case thanos.Store_LabelValues_FullMethodName:
				req := decodeHex(t, c.Request, &thanos.LabelValuesRequest{})
				got, err := thanos.NewStoreClient(conn).LabelValues(t.Context(), req)
				require.NoError(t, err)
				want := decodeHex(t, c.Frames[0], &thanos.LabelValuesResponse{})
				require.Equal(t, queriedBlocks(t, want.GetHints(), &hintspb.LabelValuesResponseHints{}), queriedBlocks(t, got.GetHints(), &hintspb.LabelValuesResponseHints{}))
				got.Hints, want.Hints = nil, nil
				requireEqual(t, want, got)
			case thanos.Store_Series_FullMethodName:
				var want []*thanos.SeriesResponse
				for _, f := range c.Frames {
					want = append(want, decodeHex(t, f, &thanos.SeriesResponse{}))
				}
				got, err := series(t, conn, decodeHex(t, c.Request, &thanos.SeriesRequest{}))
				require.NoError(t, err)
				requireEqual(t, want, got)
			default:
				t.Fatalf("recorded call of unknown method %s", c.Method)
			}
		})
	}
}

func requireEqual[T any](t *testing.T, want, got T) {
	t.Helper()
	if d := cmp.Diff(want, got, protocmp.Transform()); d != "" {
		t.Errorf("answer (-want +got):\n%s", d)
	}
}

// queriedBlocks are the blocks in response hints, sorted: the recorded order is that of
// a hash map.
func queriedBlocks(t *testing.T, hints *anypb.Any, m interface {
	vtMessage
	GetQueriedBlocks() []*hintspb.Block
},
) []string {
	t.Helper()
	require.NotNil(t, hints)
	require.NoError(t, m.UnmarshalVT(hints.GetValue()))
	out := []string{hints.GetTypeUrl()}
	for _, b := range m.GetQueriedBlocks() {
		out = append(out, b.GetId())
	}
	slices.Sort(out)
	return out
}

// series makes a Series call and returns its frames.
func series(t testing.TB, conn grpc.ClientConnInterface, req *thanos.SeriesRequest) (frames []*thanos.SeriesResponse, err error) {
	t.Helper()
	stream, err := thanos.NewStoreClient(conn).Series(t.Context(), req)
	if err != nil {
		return nil, err
	}
	for {
		f, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return frames, nil
		}
		if err != nil {
			return frames, err
		}
		frames = append(frames, f)
	}
}
