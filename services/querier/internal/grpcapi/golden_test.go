package grpcapi_test

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/proto/gen/thanos/info"
	"github.com/promontory-io/promontory/services/querier/internal/endpoints"
	"github.com/promontory-io/promontory/services/querier/internal/fakepeer"
)

// recorded is one call of the transcript.
type recorded struct {
	What    string   `json:"what"`
	Note    string   `json:"note"`
	Method  string   `json:"method"`
	Request string   `json:"request"`
	Frames  []string `json:"frames"`
	Error   string   `json:"error"`
}

func transcript(t *testing.T) (out []recorded) {
	t.Helper()
	f, err := os.Open("testdata/wire.jsonl")
	require.NoError(t, err)
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var r recorded
		require.NoError(t, json.Unmarshal(lines.Bytes(), &r))
		out = append(out, r)
	}
	require.NoError(t, lines.Err())
	require.NotEmpty(t, out)
	return out
}

func unhex(t *testing.T, texts []string) (out [][]byte) {
	t.Helper()
	for _, text := range texts {
		b, err := hex.DecodeString(text)
		require.NoError(t, err)
		out = append(out, b)
	}
	return out
}

// recordedPeers replays what each component of the transcript said: Info, and the last answer to each other call.
func recordedPeers(t *testing.T, what ...string) (addrs []string) {
	t.Helper()
	calls := transcript(t)
	for _, w := range what {
		p := &fakepeer.Peer{Replay: map[string][][]byte{}}
		for _, c := range calls {
			switch {
			case c.What != w, c.Note == "type ALERT":
			case c.Method == info.Info_Info_FullMethodName:
				p.Info = &info.InfoResponse{}
				require.NoError(t, p.Info.UnmarshalVT(unhex(t, c.Frames)[0]))
			default:
				p.Replay[c.Method] = unhex(t, c.Frames)
			}
		}
		require.NotNil(t, p.Info, w)
		addrs = append(addrs, fakepeer.Start(t, p))
	}
	return addrs
}

// call makes a recorded call and returns the frames of the answer.
func call[R any, M interface {
	*R
	proto.Message
}](t *testing.T, open func() (grpc.ServerStreamingClient[R], error)) (out []M) {
	t.Helper()
	stream, err := open()
	require.NoError(t, err)
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return out
		}
		require.NoError(t, err)
		out = append(out, M(m))
	}
}

func TestPeersAnswersArePassedOnAsRecorded(t *testing.T) {
	t.Parallel()
	q := startQuerier(t, options{}, recordedPeers(t, "sidecar", "rule", "receive")...)
	for _, e := range q.set.Endpoints() {
		require.NoError(t, e.Err)
	}
	checked := 0
	for _, c := range transcript(t) {
		if c.What != endpoints.ComponentQuery {
			continue
		}
		switch c.Method {
		case thanos.Rules_Rules_FullMethodName:
			got := call(t, func() (grpc.ServerStreamingClient[thanos.RulesResponse], error) {
				return thanos.NewRulesClient(q.conn).Rules(t.Context(), &thanos.RulesRequest{})
			})
			var frames []string
			for _, m := range got {
				b, err := m.MarshalVT()
				require.NoError(t, err)
				frames = append(frames, hex.EncodeToString(b))
			}
			require.ElementsMatch(t, c.Frames, frames)
		case thanos.Targets_Targets_FullMethodName:
			got := call(t, func() (grpc.ServerStreamingClient[thanos.TargetsResponse], error) {
				return thanos.NewTargetsClient(q.conn).Targets(t.Context(), &thanos.TargetsRequest{})
			})
			require.Len(t, got, 1)
			b, err := got[0].MarshalVT()
			require.NoError(t, err)
			require.Equal(t, c.Frames, []string{hex.EncodeToString(b)})
		default:
			continue
		}
		checked++
	}
	require.Equal(t, 2, checked)

	md := call(t, func() (grpc.ServerStreamingClient[thanos.MetricMetadataResponse], error) {
		return thanos.NewMetadataClient(q.conn).MetricMetadata(t.Context(), &thanos.MetricMetadataRequest{Limit: -1})
	})
	require.Len(t, md, 1)
	require.NotEmpty(t, md[0].GetMetadata().GetMetadata())

	st := call(t, func() (grpc.ServerStreamingClient[thanos.TSDBStatisticsResponse], error) {
		return thanos.NewStatusClient(q.conn).TSDBStatistics(t.Context(), &thanos.TSDBStatisticsRequest{Limit: 3})
	})
	require.Len(t, st, 3, "one answer each of sidecar, ruler and receiver")
}

func TestRecordedInfosAreUnderstood(t *testing.T) {
	t.Parallel()
	q := startQuerier(t, options{}, recordedPeers(t, "sidecar", "rule", "receive", "store")...)
	got := map[string]endpoints.Endpoint{}
	for _, e := range q.set.Endpoints() {
		require.NoError(t, e.Err)
		got[e.ComponentType] = e
	}
	require.Len(t, got, 4)
	require.Equal(t, `[{cluster="eu1", replica="a"}]`, sprint(got["sidecar"]))
	require.Equal(t, `[{receive="true", replica="a", tenant_id="default-tenant"}]`, sprint(got["receive"]))
	require.Equal(t, `[{cluster="eu1"}]`, sprint(got["store"]))
	require.Len(t, got["store"].Store.TSDBs, 8)
	for _, e := range got {
		require.True(t, e.Store.SupportsSharding)
		require.True(t, e.Store.SupportsWithoutReplicaLabels)
	}
	require.True(t, got["sidecar"].Rules && got["sidecar"].Targets && got["sidecar"].Metadata && got["sidecar"].Status)
	require.NotNil(t, got["sidecar"].Exemplars)
	require.True(t, got["rule"].Rules && !got["rule"].Targets)
	require.False(t, got["store"].Rules || got["store"].Status)
	require.NotNil(t, got["receive"].Exemplars)
}

func sprint(e endpoints.Endpoint) string {
	text := "["
	for i, s := range e.LabelSets {
		if i > 0 {
			text += " "
		}
		text += s.String()
	}
	return text + "]"
}
