package query

import (
	"net"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	prometheuscopy "github.com/promontory-io/promontory/proto/gen/prometheus_copy"
	"github.com/promontory-io/promontory/proto/gen/thanos"
)

type queryServer struct {
	thanos.UnimplementedQueryServer
	answer func(*thanos.QueryRequest) []*thanos.QueryResponse
}

func (s *queryServer) Query(req *thanos.QueryRequest, stream grpc.ServerStreamingServer[thanos.QueryResponse]) error {
	for _, r := range s.answer(req) {
		if err := stream.Send(r); err != nil {
			return err
		}
	}
	return nil
}

func TestQueriersAreAskedOverGRPC(t *testing.T) {
	t.Parallel()
	series := func(lset string, ts ...int64) *prometheuscopy.TimeSeries {
		out := &prometheuscopy.TimeSeries{}
		if lset != "" {
			out.Labels = []*prometheuscopy.Label{{Name: "z", Value: "1"}, {Name: "a", Value: lset}}
		}
		for _, t := range ts {
			out.Samples = append(out.Samples, &prometheuscopy.Sample{Timestamp: t, Value: 5})
		}
		return out
	}
	one := func(ts *prometheuscopy.TimeSeries) *thanos.QueryResponse {
		return &thanos.QueryResponse{Result: &thanos.QueryResponse_Timeseries{Timeseries: ts}}
	}
	warning := func(w string) *thanos.QueryResponse {
		return &thanos.QueryResponse{Result: &thanos.QueryResponse_Warnings{Warnings: w}}
	}
	stats := &thanos.QueryResponse{Result: &thanos.QueryResponse_Stats{Stats: &thanos.QueryStats{}}}
	srv := grpc.NewServer()
	thanos.RegisterQueryServer(srv, &queryServer{answer: func(req *thanos.QueryRequest) []*thanos.QueryResponse {
		switch req.GetQuery() {
		case "up":
			return []*thanos.QueryResponse{warning("gone"), one(series("b", 1000)), {Result: &thanos.QueryResponse_TimeseriesBatch{
				TimeseriesBatch: &thanos.TimeSeriesBatch{Series: []*prometheuscopy.TimeSeries{series("c", 1000)}},
			}}, stats}
		case "up[5m]":
			return []*thanos.QueryResponse{one(series("b", 1, 2)), stats}
		case "vector(1) > 2":
			return []*thanos.QueryResponse{stats}
		case "scalar(up)":
			return []*thanos.QueryResponse{one(series("", 7)), stats}
		default:
			return []*thanos.QueryResponse{warning("it burns")}
		}
	}})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(srv.Stop)
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer conn.Close()
	target := NewGRPC("x", conn)

	got, err := target.Query(t.Context(), "up", time.Unix(1, 0), true)
	require.NoError(t, err)
	require.Equal(t, []string{"gone"}, got.Warnings)
	require.Len(t, got.Value.(promql.Vector), 2)
	require.Equal(t, `{a="b", z="1"}`, got.Value.(promql.Vector)[0].Metric.String())
	got, err = target.Query(t.Context(), "up[5m]", time.Unix(1, 0), true)
	require.NoError(t, err)
	require.Len(t, got.Value.(promql.Matrix)[0].Floats, 2)
	got, err = target.Query(t.Context(), "vector(1) > 2", time.Unix(1, 0), true)
	require.NoError(t, err)
	require.Empty(t, got.Value)
	got, err = target.Query(t.Context(), "scalar(up)", time.Unix(1, 0), true)
	require.NoError(t, err)
	require.Equal(t, promql.Scalar{T: 7, V: 5}, got.Value)
	_, err = target.Query(t.Context(), "down", time.Unix(1, 0), true)
	require.ErrorContains(t, err, "it burns", "a failure that comes as a warning is one")
	_, err = target.Query(t.Context(), "up +", time.Unix(1, 0), true)
	require.ErrorIs(t, err, errInvalid)
}
