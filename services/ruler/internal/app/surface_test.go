package app

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/service/recorded"
)

func TestEveryRecordedFlagIsKnownWithItsDefault(t *testing.T) {
	t.Parallel()
	fs := NewCommand().Flags()
	recorded.RequireFlags(t, fs, recorded.Table(t, "testdata/flags.tsv"), map[string]string{"tsdb.wal-compression": "true"})
	for _, hidden := range []string{"query.only-prometheus-params", "shipper.skip-corrupted-blocks", "shipper.allow-out-of-order-uploads"} {
		require.True(t, fs.Lookup(hidden).Hidden, hidden)
	}
}

func TestBadInputIsOneMessageThatNamesTheCulprit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = taken.Close() })
	badRules := file("bad.yml", "groups:\n- name: a\n  rulez: []\n")
	badQuery := file("query.yml", "- static_configs: [a:1]\n  shceme: https\n")
	badAM := file("am.yml", "alertmanagers:\n- static_configs: [a:1]\n  api_version: v3\n")
	const querier = "--query=127.0.0.1:1"
	for name, tc := range map[string]struct {
		args []string
		want []string
	}{
		"nobody to ask":        {nil, []string{"--query", "--grpc-query-endpoint"}},
		"two ways to ask":      {[]string{querier, "--query.config=[]"}, []string{"--query.config"}},
		"unknown flag":         {[]string{querier, "--eval-intervall=1m"}, []string{"--eval-intervall", "--eval-interval"}},
		"two problems":         {[]string{querier, "--eval-interval=0s", "--rule-concurrent-evaluation=0"}, []string{"--eval-interval", "--rule-concurrent-evaluation"}},
		"rules":                {[]string{querier, "--rule-file=" + badRules}, []string{"--rule-file", badRules + ":3:3", `"rulez"`}},
		"pattern":              {[]string{querier, "--rule-file=[a"}, []string{"--rule-file", "[a"}},
		"query config":         {[]string{"--query.config-file=" + badQuery}, []string{badQuery + ":2", "shceme"}},
		"empty query config":   {[]string{"--query.config=[]"}, []string{"--query.config", "no querier"}},
		"address":              {[]string{"--query=dns+a"}, []string{"--query=dns+a"}},
		"alertmanager version": {[]string{querier, "--alertmanagers.config-file=" + badAM}, []string{badAM, "v3"}},
		"both alertmanagers":   {[]string{querier, "--alertmanagers.url=http://a:1", "--alertmanagers.config=x"}, []string{"--alertmanagers.url"}},
		"template":             {[]string{querier, "--alert.query-template={{.Nope}}"}, []string{"--alert.query-template"}},
		"relabel":              {[]string{querier, "--alert.relabel-config=- action: magic"}, []string{"--alert.relabel-config", "magic"}},
		"upload without label": {[]string{querier, "--objstore.config={type: FILESYSTEM}"}, []string{"--label"}},
		"stateless upload":     {[]string{querier, `--label=a="b"`, "--objstore.config=x", "--remote-write.config=y"}, []string{"--objstore.config", "--remote-write.config"}},
		"remote write":         {[]string{querier, "--remote-write.config=remote_write: []"}, []string{"--remote-write.config"}},
		"remote write key":     {[]string{querier, "--remote-write.config=remote_wriet: []"}, []string{"--remote-write.config", "remote_wriet"}},
		"bad label":            {[]string{querier, "--label=a=b"}, []string{"--label"}},
		"port taken":           {[]string{querier, "--grpc-address=" + taken.Addr().String()}, []string{"--grpc-address", taken.Addr().String()}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := NewCommand()
			cmd.SetOut(io.Discard)
			args := []string{"rule", "--log.level=error", "--http-address=127.0.0.1:0", "--data-dir=" + t.TempDir()}
			if name != "port taken" {
				args = append(args, "--grpc-address=127.0.0.1:0")
			}
			cmd.SetArgs(append(args, tc.args...))
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			err := cmd.ExecuteContext(ctx)
			require.Error(t, err)
			for _, w := range tc.want {
				require.Contains(t, err.Error(), w)
			}
		})
	}
}

func TestEveryRecordedMetricIsExposedWithItsLabels(t *testing.T) {
	q, am := newQuerier(t), newAlertmanager(t)
	r := start(t, func(c *Config) {
		c.Query.Addresses, c.Alertmanagers.URLs = []string{q.URL}, []string{am.URL}
		c.RuleFiles = []string{ruleFile(t, `
groups:
- {name: a, interval: 100ms, rules: [{record: x, expr: vector(1)}, {alert: A, expr: vector(1)}]}
- {name: b, interval: 100ms, partial_response_strategy: WARN, rules: [{record: y, expr: vector(1)}]}`)}
	})
	require.Eventually(t, func() bool {
		_, body := r.get(t, "/metrics")
		return len(am.alerts()) > 0 && strings.Contains(body, "prometheus_rule_group_last_restore_duration_seconds{")
	}, wait, tick)
	families := recorded.Gathered(t, r.process.Registry)
	recorded.RequireMetrics(t, families, slices.DeleteFunc(recorded.Table(t, "testdata/metrics.tsv"), func(row []string) bool {
		return families[row[1]] == nil && strings.HasPrefix(row[1], "grpc_") // nobody has called
	}))
}
