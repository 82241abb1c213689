package app

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/proto/gen/thanos/info"
	"github.com/promontory-io/promontory/services/sidecar/internal/promtest"
)

func named(name string, kv ...string) labels.Labels {
	return labels.FromStrings(append([]string{"__name__", name}, kv...)...)
}

// frames reads a stream to its end.
func frames[T any](t *testing.T, stream grpc.ServerStreamingClient[T], err error) (out []*T) {
	t.Helper()
	require.NoError(t, err)
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return out
		}
		require.NoError(t, err)
		out = append(out, m)
	}
}

// liveConfig scrapes Prometheus itself and a target that is not there, and has rules.
func liveConfig(self, rulesDir string) string {
	return fmt.Sprintf(`rule_files: [%q]
scrape_configs:
- job_name: prometheus
  static_configs: [{targets: [%q]}]
- job_name: gone
  static_configs: [{targets: ["127.0.0.1:1"]}]
`, filepath.Join(rulesDir, "*.yml"), self)
}

const someRules = `groups:
- name: g1
  rules:
  - {record: "job:up:sum", expr: "sum by (job) (up)", labels: {team: x}}
  - {alert: TargetDown, expr: "up == 0", labels: {severity: page}, annotations: {summary: "{{ $labels.job }} is down"}}
`

func TestARealPrometheusIsServedWhole(t *testing.T) {
	t.Parallel()
	prom := promtest.Start(t, promtest.Options{External: testLabels})
	rules := filepath.Join(prom.Dir, "rules")
	require.NoError(t, os.Mkdir(rules, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(rules, "a.yml"), []byte(someRules), 0o644))
	prom.WriteConfig(t, testLabels, liveConfig(prom.URL.Host, rules))
	s := start(t, prom, "--reloader.config-file="+prom.ConfigFile(), "--reloader.rule-dir="+rules, "--prometheus.get_config_interval=200ms")
	conn := s.dial(t)
	external := `cluster="eu1"`

	t.Run("the reloader has loaded the configuration", func(t *testing.T) {
		require.Eventually(t, func() bool {
			// Both targets: Prometheus begins with each at a moment of its own.
			sums := prom.Get(t, "/api/v1/query?query=job:up:sum")
			return strings.Contains(sums, `"gone"`) && strings.Contains(sums, `"prometheus"`)
		}, promtest.Wait, 100*time.Millisecond)
		require.Equal(t, "1", s.metric(t, "thanos_sidecar_reloader_last_reload_successful"))
	})
	t.Run("info", func(t *testing.T) {
		// The oldest sample is asked for with each heartbeat.
		require.Eventually(t, func() bool {
			got, err := info.NewInfoClient(conn).Info(t.Context(), &info.InfoRequest{})
			require.NoError(t, err)
			require.Equal(t, "sidecar", got.GetComponentType())
			mint := got.GetStore().GetMinTime()
			return mint > time.Now().Add(-time.Hour).UnixMilli() && mint <= time.Now().UnixMilli()
		}, promtest.Wait, 50*time.Millisecond)
	})
	t.Run("series", func(t *testing.T) {
		now := time.Now().UnixMilli()
		stream, err := thanos.NewStoreClient(conn).Series(t.Context(), &thanos.SeriesRequest{
			MinTime: now - 60_000, MaxTime: now, Matchers: []*thanos.LabelMatcher{{Name: "__name__", Value: "up"}, {Name: "cluster", Value: "eu1"}},
			WithoutReplicaLabels: []string{"replica"},
		})
		var got []string
		for _, f := range frames(t, stream, err) {
			got = append(got, storeapi.Labels(&thanos.LabelSet{Labels: f.GetSeries().GetLabels()}).String())
			require.NotEmpty(t, f.GetSeries().GetChunks())
		}
		require.Equal(t, []string{
			`{__name__="up", cluster="eu1", instance="127.0.0.1:1", job="gone"}`,
			fmt.Sprintf(`{__name__="up", cluster="eu1", instance=%q, job="prometheus"}`, prom.URL.Host),
		}, got)
	})
	t.Run("rules", func(t *testing.T) {
		require.Eventually(t, func() bool {
			stream, err := thanos.NewRulesClient(conn).Rules(t.Context(), &thanos.RulesRequest{Type: thanos.RulesRequest_ALERT})
			got := frames(t, stream, err)
			require.Len(t, got, 1)
			group := got[0].GetGroup()
			require.Equal(t, "g1", group.GetName())
			require.Len(t, group.GetRules(), 1)
			alert := group.GetRules()[0].GetAlert()
			require.Equal(t, `{cluster="eu1", replica="a", severity="page"}`, storeapi.Labels(alert.GetLabels()).String())
			return alert.GetState() == thanos.AlertState_FIRING && len(alert.GetAlerts()) == 1
		}, promtest.Wait, 100*time.Millisecond)
	})
	t.Run("targets", func(t *testing.T) {
		stream, err := thanos.NewTargetsClient(conn).Targets(t.Context(), &thanos.TargetsRequest{State: thanos.TargetsRequest_ACTIVE})
		got := frames(t, stream, err)
		require.Len(t, got, 1)
		health := map[string]thanos.ActiveTarget_Health{}
		for _, target := range got[0].GetTargets().GetActiveTargets() {
			health[target.GetScrapePool()] = target.GetHealth()
			require.Contains(t, storeapi.Labels(target.GetLabels()).String(), external)
			require.Contains(t, storeapi.Labels(target.GetDiscoveredLabels()).String(), external)
		}
		require.Equal(t, map[string]thanos.ActiveTarget_Health{"gone": thanos.ActiveTarget_DOWN, "prometheus": thanos.ActiveTarget_UP}, health)
	})
	t.Run("metadata", func(t *testing.T) {
		stream, err := thanos.NewMetadataClient(conn).MetricMetadata(t.Context(), &thanos.MetricMetadataRequest{Metric: "prometheus_build_info", Limit: -1})
		got := frames(t, stream, err)
		require.Len(t, got, 1)
		require.Equal(t, "gauge", got[0].GetMetadata().GetMetadata()["prometheus_build_info"].GetMetas()[0].GetType())
	})
	t.Run("statistics", func(t *testing.T) {
		stream, err := thanos.NewStatusClient(conn).TSDBStatistics(t.Context(), &thanos.TSDBStatisticsRequest{Limit: 2})
		got := frames(t, stream, err)
		require.Len(t, got, 1)
		entry := got[0].GetStatistics().GetStatistics()[""]
		require.Positive(t, entry.GetHeadStatistics().GetNumSeries())
		require.Len(t, entry.GetSeriesCountByMetricName(), 2)
	})
	t.Run("exemplars", func(t *testing.T) {
		stream, err := thanos.NewExemplarsClient(conn).Exemplars(t.Context(), &thanos.ExemplarsRequest{Query: "up", End: time.Now().UnixMilli()})
		require.Empty(t, frames(t, stream, err))
		stream, err = thanos.NewExemplarsClient(conn).Exemplars(t.Context(), &thanos.ExemplarsRequest{Query: "up{", End: time.Now().UnixMilli()})
		require.NoError(t, err)
		_, err = stream.Recv()
		require.ErrorContains(t, err, prom.URL.String())
	})
	t.Run("changed rules are loaded", func(t *testing.T) {
		require.NoError(t, os.WriteFile(filepath.Join(rules, "b.yml"), []byte(strings.ReplaceAll(someRules, "g1", "g2")), 0o644))
		require.Eventually(t, func() bool {
			stream, err := thanos.NewRulesClient(conn).Rules(t.Context(), &thanos.RulesRequest{})
			return len(frames(t, stream, err)) == 2
		}, promtest.Wait, 100*time.Millisecond)
	})
	t.Run("changed external labels are followed", func(t *testing.T) {
		prom.WriteConfig(t, labels.FromStrings("cluster", "us1", "zone", "z"), liveConfig(prom.URL.Host, rules))
		require.Eventually(t, func() bool {
			got, err := info.NewInfoClient(conn).Info(t.Context(), &info.InfoRequest{})
			require.NoError(t, err)
			return storeapi.Labels(got.GetLabelSets()[0]).String() == `{cluster="us1", zone="z"}`
		}, promtest.Wait, 50*time.Millisecond)
	})
	t.Run("a broken configuration is counted and put right", func(t *testing.T) {
		require.NoError(t, os.WriteFile(prom.ConfigFile(), []byte("global: {nonsense: 1}"), 0o644))
		require.Eventually(t, func() bool { return s.metric(t, "thanos_sidecar_reloader_last_reload_successful") == "0" }, promtest.Wait, 50*time.Millisecond)
		prom.WriteConfig(t, testLabels, liveConfig(prom.URL.Host, rules))
		require.Eventually(t, func() bool { return s.metric(t, "thanos_sidecar_reloader_last_reload_successful") == "1" }, promtest.Wait, 50*time.Millisecond)
	})
	t.Run("a Prometheus that is gone is noticed, and its return", func(t *testing.T) {
		require.NoError(t, prom.Stop())
		s.waitReady(t, http.StatusServiceUnavailable)
		require.Equal(t, "0", s.metric(t, "thanos_sidecar_prometheus_up"))
		_, err := info.NewInfoClient(conn).Info(t.Context(), &info.InfoRequest{})
		require.ErrorContains(t, err, "Not ready")
		_, err = thanos.NewStoreClient(conn).LabelNames(t.Context(), &thanos.LabelNamesRequest{End: time.Now().UnixMilli()})
		require.ErrorContains(t, err, prom.URL.Host)
		require.NoError(t, prom.Process.Start(t.Context()))
		s.waitReady(t, http.StatusOK)
		require.Equal(t, "1", s.metric(t, "thanos_sidecar_prometheus_up"))
	})
}

func TestASidecarMayStartBeforePrometheusAndReloadItBySignal(t *testing.T) {
	t.Setenv("SIDECAR_TEST_CLUSTER", "filled-in")
	// A name of its own: the signal must reach nobody else's Prometheus.
	name := fmt.Sprintf("prom-%d-of-test", os.Getpid())
	link := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.Symlink(promtest.Binary(t), link))
	prom := promtest.Start(t, promtest.Options{External: testLabels, Binary: link})
	require.NoError(t, prom.Stop())

	template := filepath.Join(t.TempDir(), "template.yml")
	require.NoError(t, os.WriteFile(template, []byte(promtest.Config(labels.FromStrings("cluster", "$(SIDECAR_TEST_CLUSTER)"), "")), 0o644))
	s := launch(t, prom.URL.String(), prom.DataDir(), "--reloader.config-file="+template, "--reloader.config-envsubst-file="+prom.ConfigFile(),
		"--reloader.method=signal", "--reloader.process-name="+name, "--prometheus.get_config_interval=200ms", "--reloader.retry-interval=200ms")
	require.Eventually(t, func() bool { return strings.Contains(s.logs.String(), "Prometheus was not reloaded") }, promtest.Wait, 20*time.Millisecond)
	code, _ := s.get("/-/ready")
	require.Equal(t, http.StatusServiceUnavailable, code)
	code, _ = s.get("/-/healthy")
	require.Equal(t, http.StatusOK, code)

	require.NoError(t, prom.Process.Start(t.Context()))
	s.waitReady(t, http.StatusOK)
	announced := func() string {
		got, err := info.NewInfoClient(s.dial(t)).Info(t.Context(), &info.InfoRequest{})
		require.NoError(t, err)
		return storeapi.Labels(got.GetLabelSets()[0]).String()
	}
	require.Equal(t, `{cluster="filled-in"}`, announced())
	require.Eventually(t, func() bool { return s.metric(t, "thanos_sidecar_reloader_last_reload_successful") == "1" }, promtest.Wait, 20*time.Millisecond)
	require.Equal(t, "1", s.metric(t, `thanos_sidecar_reloader_info{method="signal"}`))

	require.NoError(t, os.WriteFile(template, []byte(promtest.Config(labels.FromStrings("cluster", "changed"), "")), 0o644))
	require.Eventually(t, func() bool { return announced() == `{cluster="changed"}` }, promtest.Wait, 50*time.Millisecond)
}
