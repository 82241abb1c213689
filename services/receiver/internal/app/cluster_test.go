package app

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/promontory-io/promontory/libs/procs"
	"github.com/promontory-io/promontory/libs/service/flags"
	prompbcopy "github.com/promontory-io/promontory/proto/gen/prometheus_copy"
	"github.com/promontory-io/promontory/proto/gen/thanos"
)

func ring(t *testing.T, addrs ...string) string {
	t.Helper()
	raw, err := json.Marshal([]map[string]any{{"endpoints": addrs, "external_labels": map[string]string{"ring": "r"}}})
	require.NoError(t, err)
	return string(raw)
}

func TestNodesThatForwardAndKeep(t *testing.T) {
	t.Parallel()
	addrs, err := procs.FreeAddrs(3)
	require.NoError(t, err)
	rings := ring(t, addrs...)
	var nodes []*receiver
	for _, a := range addrs {
		r := start(t, func(c *Config) {
			c.Common.GRPC.Address, c.Ring.Local, c.Ring.Content = a, a, rings
			c.Ring.Algorithm, c.Ring.Replicas = "ketama", 3
		})
		r.grpc = a
		nodes = append(nodes, r)
	}
	at := now()
	require.Equal(t, 204, nodes[1].v1([]prompb.TimeSeries{sampleOf(at, 1, "__name__", "m")}).code)
	// Two of three are needed for the answer; the third is on its way.
	for _, n := range nodes {
		require.Eventually(t, func() bool {
			got := n.series()
			return len(got) == 1 && got[0] == `{__name__="m", replica="a", ring="r", tenant_id="default-tenant"}`
		}, 10*time.Second, 10*time.Millisecond)
	}
	// A request that is a copy goes to the node of its number only.
	require.Equal(t, 204, nodes[0].v1([]prompb.TimeSeries{sampleOf(at, 1, "__name__", "copy")}, "THANOS-REPLICA", "2").code)
	have := 0
	for _, n := range nodes {
		have += len(n.series("__name__", "copy"))
	}
	require.Equal(t, 1, have)
	require.Equal(t, 400, nodes[0].v1([]prompb.TimeSeries{sampleOf(at, 1, "__name__", "copy")}, "THANOS-REPLICA", "4").code)
	require.Equal(t, 400, nodes[0].v1(nil, "THANOS-REPLICA", "x").code)
}

func TestRoutersOfAllReleasesAreUnderstood(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	conn, err := grpc.NewClient("passthrough:///"+r.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer conn.Close()
	client := thanos.NewWriteableStoreClient(conn)
	ts := func(name string, at int64) []*prompbcopy.TimeSeries {
		return []*prompbcopy.TimeSeries{{
			Labels:  []*prompbcopy.Label{{Name: "__name__", Value: name}},
			Samples: []*prompbcopy.Sample{{Value: 1, Timestamp: at}},
		}}
	}
	at := now()
	_, err = client.RemoteWrite(t.Context(), &thanos.WriteRequest{Timeseries: ts("old", at), Tenant: "a", Replica: 1})
	require.NoError(t, err)
	_, err = client.RemoteWrite(t.Context(), &thanos.WriteRequest{Replica: 2, TimeseriesTenantData: []*thanos.TimeSeriesTenantTuple{
		{Timeseries: ts("new", at), Tenant: "a"}, {Timeseries: ts("new", at), Tenant: "b"},
	}})
	require.NoError(t, err)
	require.Equal(t, []string{
		`{__name__="new", replica="a", tenant_id="a"}`, `{__name__="new", replica="a", tenant_id="b"}`, `{__name__="old", replica="a", tenant_id="a"}`,
	}, r.series())
	for code, req := range map[codes.Code]*thanos.WriteRequest{
		codes.AlreadyExists:   {Timeseries: ts("old", at-1), Tenant: "a"},
		codes.InvalidArgument: {Timeseries: ts("old", at+1), Tenant: ".."},
	} {
		_, err = client.RemoteWrite(t.Context(), req)
		require.Equal(t, code, status.Code(err), "%v", err)
	}
	_, err = client.RemoteWrite(t.Context(), &thanos.WriteRequest{Timeseries: []*prompbcopy.TimeSeries{{
		Samples: []*prompbcopy.Sample{{Value: 1, Timestamp: at}},
	}}, Tenant: "a"})
	require.Equal(t, codes.InvalidArgument, status.Code(err))
}

func TestActiveSeriesAreCountedInTheCluster(t *testing.T) {
	t.Parallel()
	ingester := start(t, nil)
	at := now()
	for _, name := range []string{"a", "b"} {
		require.Equal(t, 204, ingester.v1([]prompb.TimeSeries{sampleOf(at, 1, "__name__", name)}, "THANOS-TENANT", "full").code)
	}
	router := start(t, func(c *Config) {
		c.Labels, c.Ring.Content = nil, ring(t, ingester.grpc)
		c.Limits = flags.InlineContent("receive.limits-config", "write: {tenants: {full: {head_series_limit: 2}}}")
	})
	require.Eventually(t, func() bool {
		return router.v1([]prompb.TimeSeries{sampleOf(now(), 1, "__name__", "a")}, "THANOS-TENANT", "full").code == http.StatusTooManyRequests
	}, 10*time.Second, 10*time.Millisecond)
	require.Equal(t, 204, router.v1([]prompb.TimeSeries{sampleOf(now(), 1, "__name__", "a")}, "THANOS-TENANT", "other").code)
}
