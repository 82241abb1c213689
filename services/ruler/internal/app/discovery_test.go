package app

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/procs"
	"github.com/promontory-io/promontory/libs/service/flags"
)

// certificate writes a certificate for 127.0.0.1 and its key, and returns a client that trusts it.
func certificate(t *testing.T, dir string) (cert, key string, client *http.Client) {
	t.Helper()
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	pair := s.TLS.Certificates[0]
	raw, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	require.NoError(t, err)
	cert, key = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	require.NoError(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}), 0o600))
	require.NoError(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}), 0o600))
	return cert, key, s.Client()
}

// secretHash is bcrypt of "secret".
const secretHash = "$2a$04$DwcnlPrGPzrK4PjdZceAVOz39A5Uo4MXPCiVS2qH/bqi6AP.XKLkC"

// secured starts a real Alertmanager that wants TLS and a password, and returns its address and how to ask it.
func secured(t *testing.T, dir string) (addr, caFile string, alerts func() []sentAlert) {
	t.Helper()
	binary, err := filepath.Abs(filepath.Join("..", "..", "..", "..", ".bin", "alertmanager"))
	require.NoError(t, err)
	if _, err := os.Stat(binary); err != nil {
		t.Skip("no alertmanager here: make peers")
	}
	cert, key, client := certificate(t, dir)
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	addrs, err := procs.FreeAddrs(1)
	require.NoError(t, err)
	group := procs.New(procs.Config{LogDir: filepath.Join(dir, "logs")})
	t.Cleanup(func() { require.NoError(t, group.Stop()) })
	require.NoError(t, group.Start(context.Background(), procs.Spec{
		Name: "alertmanager", Binary: binary, Source: "make peers", StopTimeout: wait,
		Args: []string{
			"--config.file=" + write("am.yml", "route: {receiver: none}\nreceivers: [{name: none}]"),
			"--web.config.file=" + write("web.yml", fmt.Sprintf("tls_server_config: {cert_file: %s, key_file: %s}\nbasic_auth_users: {ruler: %s}", cert, key, secretHash)),
			"--storage.path=" + filepath.Join(dir, "data"), "--cluster.listen-address=", "--web.listen-address=" + addrs[0],
		},
	}))
	return addrs[0], cert, func() (out []sentAlert) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+addrs[0]+"/api/v2/alerts", nil)
		require.NoError(t, err)
		req.SetBasicAuth("ruler", "secret")
		resp, err := client.Do(req)
		if err != nil {
			return nil // it is not up yet
		}
		defer resp.Body.Close()
		require.Equal(t, http.StatusOK, resp.StatusCode)
		require.NoError(t, json.NewDecoder(resp.Body).Decode(&out))
		return out
	}
}

func TestAnAlertmanagerFoundInAFileTakesAlertsOverTLSWithAPassword(t *testing.T) {
	q := newQuerier(t)
	dir := t.TempDir()
	addr, ca, alerts := secured(t, dir)
	list, password := filepath.Join(dir, "alertmanagers.json"), filepath.Join(dir, "password")
	require.NoError(t, os.WriteFile(list, []byte(`[{"targets": []}]`), 0o600))
	require.NoError(t, os.WriteFile(password, []byte("secret"), 0o600))
	r := start(t, func(c *Config) {
		c.Query.Addresses = []string{q.URL}
		c.Rules.ResendDelay = 300 * time.Millisecond
		c.RuleFiles = []string{ruleFile(t, `groups: [{name: g, interval: 200ms, rules: [{alert: Kept, expr: vector(1), labels: {severity: page}}, {alert: Dropped, expr: vector(1), labels: {severity: none}}]}]`)}
		c.Alertmanagers.Config = flags.InlineContent("alertmanagers.config", fmt.Sprintf(`
alertmanagers:
- scheme: https
  http_config: {basic_auth: {username: ruler, password_file: %s}, tls_config: {ca_file: %s}}
  file_sd_configs: [{files: [%s], refresh_interval: 1s}]
`, password, ca, list))
		c.Alert.Relabel = flags.InlineContent("alert.relabel-config", `
- {action: drop, source_labels: [severity], regex: none}
- {action: replace, source_labels: [severity], target_label: level, replacement: "is-$1"}
- {action: labeldrop, regex: severity}
`)
	})
	require.Never(t, func() bool { return len(alerts()) > 0 }, 500*time.Millisecond, 100*time.Millisecond, "nobody is listed yet")
	require.NoError(t, os.WriteFile(list+".new", []byte(`[{"targets": ["`+addr+`"]}]`), 0o600))
	require.NoError(t, os.Rename(list+".new", list))
	require.Eventually(t, func() bool { return len(alerts()) > 0 }, wait, 100*time.Millisecond)
	got := alerts()
	require.Len(t, got, 1)
	require.Equal(t, map[string]string{"alertname": "Kept", "level": "is-page"}, got[0].Labels)
	require.Eventually(t, func() bool {
		_, body := r.get(t, "/metrics")
		require.NotContains(t, body, "secret")
		return strings.Contains(body, `thanos_alert_sender_alerts_sent_total{alertmanager="`)
	}, wait, tick)
}

func TestQueriersAreFoundInDNSAndFilesAndStandInForEachOther(t *testing.T) {
	first, second, am := newQuerier(t), newQuerier(t), newAlertmanager(t)
	port := func(text string) string {
		u, err := url.Parse(text)
		require.NoError(t, err)
		return u.Port()
	}
	list := filepath.Join(t.TempDir(), "queriers.yml")
	require.NoError(t, os.WriteFile(list, []byte("[]"), 0o600))
	r := start(t, func(c *Config) {
		c.Query.Addresses = []string{"dns+localhost:" + port(first.URL)}
		c.Query.Files, c.Query.FilesInterval = []string{list}, time.Second
		c.Alertmanagers.URLs = []string{"dns+http://localhost:" + port(am.URL)}
		c.RuleFiles = []string{ruleFile(t, `groups: [{name: g, interval: 100ms, rules: [{record: a, expr: vector(1)}, {alert: A, expr: vector(1)}]}]`)}
	})
	require.Eventually(t, func() bool { return first.asked() > 0 && len(am.alerts()) > 0 }, wait, tick, "both are found in DNS")
	require.Zero(t, second.asked())
	require.NoError(t, os.WriteFile(list+".new", []byte("- targets: ['127.0.0.1:"+port(second.URL)+"']\n"), 0o600))
	require.NoError(t, os.Rename(list+".new", list))
	require.Eventually(t, func() bool { return second.asked() > 0 }, wait, tick, "it is found in the file")

	first.away.Store(true)
	before := second.asked()
	require.Eventually(t, func() bool { return second.asked() > before+20 }, wait, tick)
	_, body := r.get(t, "/api/v1/rules/gaps")
	require.Contains(t, body, `"gaps":[]`, "the other has answered each time")
	_, body = r.get(t, "/metrics")
	require.Contains(t, body, "thanos_rule_query_apis_dns_lookups_total")
	_, text := r.get(t, "/api/v1/status/ruler")
	var got struct{ Data status }
	require.NoError(t, json.Unmarshal([]byte(text), &got))
	require.Equal(t, "stateful", got.Data.Mode)
	require.Equal(t, 1, got.Data.Rules.Groups)
	require.Equal(t, 2, got.Data.Rules.Rules)
	require.Equal(t, 1, got.Data.Rules.Firing)
	require.Zero(t, got.Data.Rules.Failing)
	require.Len(t, got.Data.Queriers, 2)
	require.Contains(t, text, "503", "the one that is away says so")
	require.Len(t, got.Data.Alertmanagers, 1)
	require.False(t, got.Data.Alertmanagers[0].LastSuccess.IsZero())
	require.Contains(t, body, "thanos_rule_alertmanagers_dns_lookups_total")
	require.Contains(t, body, `thanos_rule_evaluation_skipped_total{strategy="abort"} 0`)
}

// asked is how many queries there were.
func (q *querier) asked() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.queries)
}

func TestBlocksAreUploadedWithTheExternalLabels(t *testing.T) {
	q := newQuerier(t)
	dir, bucket := t.TempDir(), t.TempDir()
	rules := ruleFile(t, `groups: [{name: g, interval: 100ms, rules: [{record: a, expr: vector(1)}]}]`)
	configure := func(c *Config) {
		c.DataDir, c.Query.Addresses, c.RuleFiles = dir, []string{q.URL}, []string{rules}
		c.Labels = []flags.Label{{Name: "cluster", Value: "eu1"}, {Name: "rule_replica", Value: "r0"}}
		c.TSDB.BlockDuration = 2 * time.Second
		c.Bucket = flags.InlineContent("objstore.config", "{type: FILESYSTEM, config: {directory: "+bucket+"}}")
	}
	r := start(t, configure)
	metas := func(in string) []string {
		out, err := filepath.Glob(filepath.Join(in, "*", block.MetaFilename))
		require.NoError(t, err)
		return out
	}
	require.Eventually(t, func() bool { return len(metas(dir)) > 0 }, wait, tick, "a block on the disk")
	r.stop()
	start(t, configure) // what is there is uploaded at once
	require.Eventually(t, func() bool { return len(metas(bucket)) > 0 }, wait, tick)
	m, err := block.ReadMetaDir(strings.TrimSuffix(metas(bucket)[0], block.MetaFilename))
	require.NoError(t, err)
	require.Equal(t, map[string]string{"cluster": "eu1", "rule_replica": "r0"}, m.Thanos.Labels)
	require.Equal(t, block.SourceRuler, m.Thanos.Source)
}
