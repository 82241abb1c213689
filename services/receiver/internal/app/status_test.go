package app

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/procs"
	"github.com/promontory-io/promontory/libs/service/flags"
)

// get decodes the data of an answer in the API's envelope.
func get[T any](t *testing.T, url string) (data T) {
	t.Helper()
	resp, err := http.Get(url)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	var out struct {
		Status string
		Data   *T
	}
	out.Data = &data
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&out))
	require.Equal(t, "success", out.Status)
	return data
}

func TestTheStatusTellsOfRingsAndTenants(t *testing.T) {
	t.Parallel()
	ingester := start(t, nil)
	router := start(t, func(c *Config) {
		c.Labels = nil
		c.Ring.Content = fmt.Sprintf(`[{"hashring": "x", "tenants": ["a*"], "tenant_matcher_type": "glob", "endpoints": [{"address": %q, "az": "z1"}, {"address": "127.0.0.1:1", "az": "z2"}], "external_labels": {"ring": "x"}}]`, ingester.grpc)
		c.Ring.Algorithm, c.Ring.Replicas = "ketama", 2
	})
	at := now()
	require.Equal(t, 204, router.v1([]prompb.TimeSeries{sampleOf(at, 1, "__name__", "m")}, "THANOS-TENANT", "abc").code)
	type node struct{ Address, AZ, State, Role, LastError string }
	type ring struct {
		Hashring, Algorithm, TenantMatcherType string
		ReplicationFactor                      int
		Tenants                                []string
		ExternalLabels                         map[string]string
		Nodes                                  []node
	}
	for _, base := range []string{router.http, router.write} {
		var rings []ring
		require.Eventually(t, func() bool {
			rings = get[[]ring](t, base+"/api/v1/status/hashrings")
			return len(rings) == 1 && len(rings[0].Nodes) == 2 && rings[0].Nodes[1].LastError != ""
		}, 10*time.Second, 10*time.Millisecond)
		r := rings[0]
		require.Contains(t, r.Nodes[1].LastError, "refused")
		require.Equal(t, node{Address: ingester.grpc, AZ: "z1", State: "ready", Role: "ingester"}, r.Nodes[0])
		r.Nodes = nil
		require.Equal(t, ring{
			Hashring: "x", Algorithm: "ketama", TenantMatcherType: "glob", ReplicationFactor: 2, Tenants: []string{"a*"},
			ExternalLabels: map[string]string{"ring": "x"},
		}, r)
		require.Empty(t, get[[]any](t, base+"/api/v1/status/tenants"), "a router keeps nothing")
	}
	require.Empty(t, get[[]any](t, ingester.http+"/api/v1/status/hashrings"))
	type tenant struct {
		Tenant, State    string
		ExternalLabels   map[string]string
		Series           int
		MinTime, MaxTime int64
	}
	var tenants []tenant
	require.Eventually(t, func() bool {
		tenants = get[[]tenant](t, ingester.http+"/api/v1/status/tenants")
		return !slices.ContainsFunc(tenants, func(t tenant) bool { return t.State == "replaying" })
	}, 10*time.Second, 10*time.Millisecond)
	require.Equal(t, []tenant{
		{Tenant: "abc", State: "open", ExternalLabels: map[string]string{"replica": "a", "tenant_id": "abc"}, Series: 1, MinTime: at, MaxTime: at},
		{Tenant: "default-tenant", State: "open", ExternalLabels: map[string]string{"replica": "a", "tenant_id": "default-tenant"}},
	}, tenants)
}

func TestAChangeOfAHashmodRingFlushesHeads(t *testing.T) {
	t.Parallel()
	addrs, err := procs.FreeAddrs(1)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "rings.json")
	put := func(text string) {
		require.NoError(t, os.WriteFile(path+".tmp", []byte(text), 0o600))
		require.NoError(t, os.Rename(path+".tmp", path))
	}
	put(fmt.Sprintf(`[{"endpoints": [%q]}]`, addrs[0]))
	r := start(t, func(c *Config) {
		c.Common.GRPC.Address, c.Ring.Local, c.Ring.File, c.Ring.Algorithm = addrs[0], addrs[0], path, "hashmod"
	})
	require.Equal(t, 204, r.v1([]prompb.TimeSeries{sampleOf(now(), 1, "__name__", "m")}).code)
	type tenant struct{ Series, Blocks int }
	require.Equal(t, []tenant{{1, 0}}, get[[]tenant](t, r.http+"/api/v1/status/tenants"))
	put(fmt.Sprintf(`[{"endpoints": [%q, "127.0.0.1:1"]}]`, addrs[0]))
	require.Eventually(t, func() bool {
		got := get[[]tenant](t, r.http+"/api/v1/status/tenants")
		return got[0].Blocks == 1 && got[0].Series == 0
	}, 20*time.Second, 20*time.Millisecond)
	r.grpc = addrs[0]
	require.Len(t, r.series(), 1, "nothing is lost by it")
}

func TestActiveSeriesAreCountedByARealPrometheus(t *testing.T) {
	t.Parallel()
	prom, err := filepath.Abs("../../../../.bin/prometheus")
	require.NoError(t, err)
	if _, err := os.Stat(prom); err != nil {
		t.Skip("no Prometheus: ", err)
	}
	ingester := start(t, nil)
	at := now()
	for _, name := range []string{"a", "b"} {
		require.Equal(t, 204, ingester.v1([]prompb.TimeSeries{sampleOf(at, 1, "__name__", name)}, "THANOS-TENANT", "full").code)
	}
	dir := t.TempDir()
	addrs, err := procs.FreeAddrs(1)
	require.NoError(t, err)
	config := filepath.Join(dir, "prometheus.yml")
	text := fmt.Sprintf("global: {scrape_interval: 1s}\nscrape_configs: [{job_name: receivers, static_configs: [{targets: ['%s']}]}]\n", ingester.http[len("http://"):])
	require.NoError(t, os.WriteFile(config, []byte(text), 0o600))
	g := procs.New(procs.Config{LogDir: dir})
	t.Cleanup(func() { require.NoError(t, g.Stop()) })
	require.NoError(t, g.Start(t.Context(), procs.Spec{
		Name: "prometheus", Binary: prom, Ready: "http://" + addrs[0] + "/-/ready",
		Args: []string{"--config.file=" + config, "--storage.tsdb.path=" + filepath.Join(dir, "data"), "--web.listen-address=" + addrs[0]},
	}))
	require.Eventually(t, func() bool {
		resp, err := http.Get("http://" + addrs[0] + "/api/v1/query?query=prometheus_tsdb_head_series")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		var out struct{ Data struct{ Result []any } }
		return json.NewDecoder(resp.Body).Decode(&out) == nil && len(out.Data.Result) > 0
	}, time.Minute, 50*time.Millisecond)
	// A router whose ring has nobody who could be asked: only Prometheus knows.
	router := start(t, func(c *Config) {
		c.Labels, c.Ring.Content = nil, `[{"endpoints": ["127.0.0.1:1"]}]`
		c.Limits = flags.InlineContent("receive.limits-config", "write: {global: {meta_monitoring_url: 'http://"+addrs[0]+"'}, tenants: {full: {head_series_limit: 2}, other: {head_series_limit: 2}}}")
	})
	require.Eventually(t, func() bool {
		a := router.v1([]prompb.TimeSeries{sampleOf(now(), 1, "__name__", "a")}, "THANOS-TENANT", "full")
		return a.code == http.StatusTooManyRequests && a.header.Get("Retry-After") != ""
	}, 20*time.Second, 50*time.Millisecond)
	require.Equal(t, http.StatusServiceUnavailable, router.v1([]prompb.TimeSeries{sampleOf(now(), 1, "__name__", "a")}, "THANOS-TENANT", "other").code,
		"its limit is not reached: it fails for the lack of nodes")
}
