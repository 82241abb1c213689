package app

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/promontory-io/promontory/libs/procs"
	"github.com/promontory-io/promontory/libs/promapi/promclient"
	"github.com/promontory-io/promontory/libs/service/flags"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/proto/gen/thanos/info"
)

// peer starts a real program of the tool folder.
func peer(t *testing.T, name string, config string, args func(dir, addr string) []string) string {
	t.Helper()
	binary, err := filepath.Abs(filepath.Join("..", "..", "..", "..", ".bin", name))
	require.NoError(t, err)
	if _, err := os.Stat(binary); err != nil {
		t.Skipf("no %s here: make peers", name)
	}
	addrs, err := procs.FreeAddrs(1)
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "config.yml"), []byte(strings.ReplaceAll(config, "SELF", addrs[0])), 0o600))
	group := procs.New(procs.Config{LogDir: filepath.Join(dir, "logs")})
	t.Cleanup(func() { require.NoError(t, group.Stop()) })
	require.NoError(t, group.Start(context.Background(), procs.Spec{
		Name: name, Binary: binary, Source: "make peers", Args: append([]string{"--config.file=" + filepath.Join(dir, "config.yml"), "--web.listen-address=" + addrs[0]}, args(dir, addrs[0])...),
		Ready: "http://" + addrs[0] + "/-/ready", StopTimeout: wait,
	}))
	return "http://" + addrs[0]
}

// samples reads series of a ruler's database by the Store API.
func samples(t *testing.T, addr, name string) map[string]map[int64]float64 {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()), storeapi.DialOption())
	require.NoError(t, err)
	defer conn.Close()
	stream := storeapi.NewClient(conn).Series(t.Context(), &thanos.SeriesRequest{
		MaxTime: 1 << 60, Matchers: storeapi.WireMatchers([]*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "__name__", name)}),
	}, storeapi.StreamOptions{})
	defer stream.Close()
	out := map[string]map[int64]float64{}
	for stream.Next() {
		s := stream.At()
		points := out[s.Labels.String()]
		if points == nil {
			points = map[int64]float64{}
			out[s.Labels.String()] = points
		}
		for _, c := range s.Chunks {
			chk, err := chunkenc.FromData(c.Raw.Encoding, c.Raw.Data)
			require.NoError(t, err)
			for it := chk.Iterator(nil); it.Next() == chunkenc.ValFloat; {
				at, v := it.At()
				points[at] = v
			}
		}
	}
	require.NoError(t, stream.Err())
	return out
}

func TestResultsEqualThoseOfAPrometheusWithTheSameRules(t *testing.T) {
	const groups = `
groups:
- name: g
  interval: 1s
  query_offset: 3s
  rules:
  - {record: job:up:sum, expr: sum by (job) (up)}
  - {record: handler:requests:rate, expr: 'sum by (handler, code) (rate(prometheus_http_requests_total[5s]))'}
  - {record: job:up:half, expr: job:up:sum / 2}
`
	rules := ruleFile(t, groups)
	prometheus := peer(t, "prometheus", fmt.Sprintf(`
global: {scrape_interval: 500ms, evaluation_interval: 1s}
rule_files: [%s]
scrape_configs: [{job_name: self, static_configs: [{targets: [SELF]}]}]
`, rules), func(dir, _ string) []string { return []string{"--storage.tsdb.path=" + filepath.Join(dir, "data")} })
	grpcAddr := ""
	start(t, func(c *Config) {
		addrs, err := procs.FreeAddrs(1)
		require.NoError(t, err)
		grpcAddr = addrs[0]
		c.Common.GRPC.Address = grpcAddr
		c.Query.Addresses, c.RuleFiles = []string{prometheus}, []string{rules}
		c.Labels = []flags.Label{{Name: "replica", Value: "r0"}}
	})
	for _, name := range []string{"handler:requests:rate", "job:up:half"} {
		compared := 0
		require.Eventually(t, func() bool {
			var got struct {
				Data struct {
					Result []struct {
						Metric map[string]string
						Values [][2]any
					}
				}
			}
			resp, err := http.Get(prometheus + "/api/v1/query?query=" + url.QueryEscape(name+"[1h]"))
			require.NoError(t, err)
			defer resp.Body.Close()
			require.NoError(t, json.NewDecoder(resp.Body).Decode(&got))
			ours := samples(t, grpcAddr, name)
			compared = 0
			for _, s := range got.Data.Result {
				s.Metric["replica"] = "r0"
				points := ours[labels.FromMap(s.Metric).String()]
				for _, p := range s.Values {
					if v, ok := points[int64(p[0].(float64)*1000+0.5)]; ok {
						compared++
						require.Equal(t, p[1], formatFloat(v), "%v at %v", s.Metric, p[0])
					}
				}
			}
			return compared >= 10
		}, 40*time.Second, 200*time.Millisecond, "%s: %d", name, compared)
	}
}

// histograms reads series of native histograms of a ruler's database by the Store API.
func histograms(t *testing.T, addr, name string) map[string]map[int64]*histogram.FloatHistogram {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()), storeapi.DialOption())
	require.NoError(t, err)
	defer conn.Close()
	stream := storeapi.NewClient(conn).Series(t.Context(), &thanos.SeriesRequest{
		MaxTime: 1 << 60, Matchers: storeapi.WireMatchers([]*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "__name__", name)}),
	}, storeapi.StreamOptions{})
	defer stream.Close()
	out := map[string]map[int64]*histogram.FloatHistogram{}
	for stream.Next() {
		s := stream.At()
		points := out[s.Labels.String()]
		if points == nil {
			points = map[int64]*histogram.FloatHistogram{}
			out[s.Labels.String()] = points
		}
		for _, c := range s.Chunks {
			chk, err := chunkenc.FromData(c.Raw.Encoding, c.Raw.Data)
			require.NoError(t, err)
			for it := chk.Iterator(nil); it.Next() == chunkenc.ValFloatHistogram; {
				at, h := it.AtFloatHistogram(nil)
				points[at] = h.Copy().Compact(0) // The samples of a chunk share their spans, which compacting changes.
			}
		}
	}
	require.NoError(t, stream.Err())
	return out
}

func TestNativeHistogramsEqualThoseOfAPrometheusWithTheSameRules(t *testing.T) {
	const name = "handler:duration:rate"
	rules := ruleFile(t, `
groups:
- name: g
  interval: 1s
  query_offset: 3s
  rules:
  - {record: handler:duration:rate, expr: 'sum by (handler) (rate(prometheus_http_request_duration_seconds{handler=~"/metrics|/api/v1/query"}[5s]))'}
`)
	prometheus := peer(t, "prometheus", fmt.Sprintf(`
global: {scrape_interval: 500ms, evaluation_interval: 1s}
rule_files: [%s]
scrape_configs: [{job_name: self, scrape_native_histograms: true, static_configs: [{targets: [SELF]}]}]
`, rules), func(dir, _ string) []string { return []string{"--storage.tsdb.path=" + filepath.Join(dir, "data")} })
	grpcAddr := ""
	start(t, func(c *Config) {
		addrs, err := procs.FreeAddrs(1)
		require.NoError(t, err)
		grpcAddr, c.Common.GRPC.Address = addrs[0], addrs[0]
		c.Query.Addresses, c.RuleFiles = []string{prometheus}, []string{rules}
	})
	base, err := url.Parse(prometheus)
	require.NoError(t, err)
	client := promclient.New(base, promclient.Options{})
	compared := 0
	require.Eventually(t, func() bool {
		got, err := client.Query(t.Context(), name+"[1h]", time.Now(), nil)
		require.NoError(t, err)
		ours := histograms(t, grpcAddr, name)
		compared = 0
		for _, s := range got.Value.(model.Matrix) {
			lset := map[string]string{}
			for n, v := range s.Metric {
				lset[string(n)] = string(v)
			}
			points := ours[labels.FromMap(lset).String()]
			for _, p := range s.Histograms {
				want, err := promclient.FloatHistogram(p.Histogram)
				require.NoError(t, err)
				have, ok := points[int64(p.Timestamp)]
				if !ok {
					continue
				}
				// JSON says nothing of an empty zero bucket's width, nor of what is known of resets.
				have.CounterResetHint, want.CounterResetHint = 0, 0
				if want.ZeroCount == 0 {
					want.ZeroThreshold = have.ZeroThreshold
				}
				if len(want.PositiveBuckets) == 0 {
					want.Schema = have.Schema
				}
				require.Equal(t, want.Compact(0).TestExpression(), have.TestExpression(), "%v at %v", s.Metric, p.Timestamp)
				compared++
			}
		}
		return compared >= 10
	}, 40*time.Second, 200*time.Millisecond, "%d compared", compared)
}

func formatFloat(v float64) string {
	b, _ := json.Marshal(v)
	return string(b)
}

func TestARealAlertmanagerHasOneAlertOfAnHAPair(t *testing.T) {
	am := peer(t, "alertmanager", "route: {receiver: none}\nreceivers: [{name: none}]", func(dir, _ string) []string {
		return []string{"--storage.path=" + filepath.Join(dir, "data"), "--cluster.listen-address="}
	})
	q := newQuerier(t)
	rules := ruleFile(t, `groups: [{name: g, interval: 200ms, rules: [{alert: A, expr: vector(1), labels: {severity: page}}]}]`)
	pair := map[string]running{}
	for _, replica := range []string{"r0", "r1"} {
		pair[replica] = start(t, func(c *Config) {
			c.Query.Addresses, c.Alertmanagers.URLs, c.RuleFiles = []string{q.URL}, []string{am}, []string{rules}
			c.Labels = []flags.Label{{Name: "cluster", Value: "eu1"}, {Name: "rule_replica", Value: replica}}
			c.Alert.LabelDrop = []string{"rule_replica"}
			c.Rules.ResendDelay = 300 * time.Millisecond
		})
	}
	accepted := func(r running) bool {
		_, body := r.get(t, "/metrics")
		return strings.Contains(body, "thanos_alert_sender_alerts_sent_total{")
	}
	alerts := func() (out []struct {
		Labels map[string]string
		EndsAt time.Time
	},
	) {
		resp, err := http.Get(am + "/api/v2/alerts")
		require.NoError(t, err)
		defer resp.Body.Close()
		require.NoError(t, json.NewDecoder(resp.Body).Decode(&out))
		return out
	}
	require.Eventually(t, func() bool { return accepted(pair["r0"]) && accepted(pair["r1"]) }, wait, tick)
	got := alerts()
	require.Len(t, got, 1)
	require.Equal(t, map[string]string{"alertname": "A", "cluster": "eu1", "severity": "page"}, got[0].Labels)
	pair["r0"].stop()
	ends := got[0].EndsAt
	require.Eventually(t, func() bool {
		got = alerts()
		require.Len(t, got, 1, "no gap, no duplicate")
		return got[0].EndsAt.After(ends)
	}, wait, tick)
}

func TestPeersSeeWhatARulerHas(t *testing.T) {
	q := newQuerier(t)
	rules := ruleFile(t, `groups: [{name: tg, partial_response_strategy: WARN, interval: 200ms, rules: [{alert: Always, expr: vector(1), labels: {severity: info}}, {record: x, expr: vector(2)}]}]`)
	for _, stateless := range []bool{false, true} {
		grpcAddr := ""
		start(t, func(c *Config) {
			addrs, err := procs.FreeAddrs(1)
			require.NoError(t, err)
			grpcAddr, c.Common.GRPC.Address = addrs[0], addrs[0]
			c.Query.Addresses, c.RuleFiles = []string{q.URL}, []string{rules}
			c.Labels = []flags.Label{{Name: "rule_replica", Value: "r0"}}
			if stateless {
				c.RemoteWrite = flags.InlineContent("remote-write.config", "remote_write: [{url: 'http://127.0.0.1:1'}]")
			}
		})
		conn, err := grpc.NewClient(grpcAddr, grpc.WithTransportCredentials(insecure.NewCredentials()))
		require.NoError(t, err)
		defer conn.Close()
		what, err := info.NewInfoClient(conn).Info(t.Context(), &info.InfoRequest{})
		require.NoError(t, err)
		require.Equal(t, "rule", what.GetComponentType())
		require.NotNil(t, what.GetRules())
		require.Equal(t, stateless, what.GetStore() == nil)
		require.Equal(t, stateless, what.GetStatus() == nil)
		if !stateless {
			require.True(t, what.GetStore().GetSupportsSharding())
			require.True(t, what.GetStore().GetSupportsWithoutReplicaLabels())
			require.Len(t, what.GetStore().GetTsdbInfos(), 1)
		}
		require.Nil(t, what.GetQuery())
		require.Eventually(t, func() bool {
			stream, err := thanos.NewRulesClient(conn).Rules(t.Context(), &thanos.RulesRequest{MatcherString: []string{`{rule_replica="r0",severity="info"}`}})
			require.NoError(t, err)
			frame, err := stream.Recv()
			require.NoError(t, err)
			g := frame.GetGroup()
			require.Equal(t, "tg", g.GetName())
			require.Equal(t, rules, g.GetFile())
			require.Equal(t, thanos.PartialResponseStrategy_WARN, g.GetPartialResponseStrategy())
			require.Len(t, g.GetRules(), 1, "the matcher leaves the recording rule out")
			a := g.GetRules()[0].GetAlert()
			require.Equal(t, `{rule_replica="r0", severity="info"}`, storeapi.Labels(a.GetLabels()).String())
			return a.GetState() == thanos.AlertState_FIRING && a.GetAlerts()[0].GetValue() == "1e+00" &&
				storeapi.Labels(a.GetAlerts()[0].GetLabels()).String() == `{alertname="Always", severity="info"}`
		}, wait, tick)
		if !stateless {
			require.Eventually(t, func() bool { return len(samples(t, grpcAddr, "x")[`{__name__="x", rule_replica="r0"}`]) > 0 }, wait, tick)
			require.Eventually(t, func() bool { return len(samples(t, grpcAddr, "ALERTS")) > 0 }, wait, tick)
			stream, err := thanos.NewStatusClient(conn).TSDBStatistics(t.Context(), &thanos.TSDBStatisticsRequest{Limit: 3})
			require.NoError(t, err)
			frame, err := stream.Recv()
			require.NoError(t, err)
			require.EqualValues(t, 3, frame.GetStatistics().GetStatistics()[""].GetHeadStatistics().GetNumSeries())
		}
	}
}
