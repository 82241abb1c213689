package app

import (
	"bufio"
	"context"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/service/flags"
)

// rows reads a recorded table.
func rows(t *testing.T, name string) (out [][]string) {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name))
	require.NoError(t, err)
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		out = append(out, strings.Split(lines.Text(), "\t"))
	}
	require.NoError(t, lines.Err())
	require.NotEmpty(t, out)
	return out
}

var placeholder = regexp.MustCompile(`^(<.*>.*|[A-Z][A-Z_.-]+[A-Z])$`)

func TestEveryRecordedFlagIsKnownWithItsDefault(t *testing.T) {
	t.Parallel()
	fs := NewCommand().Flags()
	for _, row := range rows(t, "flags.tsv") {
		text := strings.TrimPrefix(strings.TrimPrefix(row[1], "-h, "), "--")
		boolean := strings.HasPrefix(text, "[no-]")
		name, def, valued := strings.Cut(strings.TrimPrefix(text, "[no-]"), "=")
		f := fs.Lookup(name)
		require.NotNil(t, f, "flag --%s", name)
		if boolean && name != "help" && name != "version" {
			require.Equal(t, "bool", f.Value.Type(), "--%s", name)
			require.NotNil(t, fs.Lookup("no-"+name), "--no-%s", name)
		}
		if !valued || boolean {
			continue
		}
		want := strings.Trim(def, `"`)
		if placeholder.MatchString(want) && want != methodPost {
			want = ""
		}
		got := f.DefValue
		if a, err := flags.ParseDuration(want); err == nil {
			b, err := flags.ParseDuration(got)
			require.NoError(t, err, "--%s", name)
			require.Equal(t, a, b, "--%s", name)
			continue
		}
		require.Equal(t, want, got, "--%s", name)
	}
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
	families, err := r.process.Registry.Gather()
	require.NoError(t, err)
	got := map[string]*dto.MetricFamily{}
	for _, f := range families {
		got[f.GetName()] = f
	}
	for _, row := range rows(t, "metrics.tsv") {
		name, typ, want := row[1], row[2], row[3]
		f := got[name]
		if f == nil {
			if !strings.HasPrefix(name, "grpc_") { // nobody has called
				t.Errorf("metric %s is not exposed", name)
			}
			continue
		}
		if have := strings.ToLower(f.GetType().String()); have != typ {
			t.Errorf("metric %s is a %s, want %s", name, have, typ)
		}
		names := map[string]struct{}{}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				names[l.GetName()] = struct{}{}
			}
		}
		if have := strings.Join(slices.Sorted(maps.Keys(names)), ","); have != want {
			t.Errorf("metric %s has labels %s, want %s", name, have, want)
		}
	}
}
