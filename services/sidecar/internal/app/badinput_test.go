package app

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/services/sidecar/internal/promtest"
)

func TestBadInputIsNamed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	broken := filepath.Join(dir, "broken.yml")
	require.NoError(t, os.WriteFile(broken, []byte("type: FILESYSTEM\nconfig:\n\tdirectory: x\n"), 0o644))
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, taken.Close()) })
	for _, tc := range []struct {
		name string
		args []string
		want []string
	}{
		{"unknown flag", []string{"--promtheus.url=x"}, []string{"unknown flag --promtheus.url, did you mean --prometheus.url?"}},
		{"unknown word", []string{"sidecars"}, []string{`unexpected argument "sidecar sidecars"`}},
		{"no URL", []string{"--prometheus.url=localhost:9090"}, []string{"--prometheus.url", "localhost:9090", "http://"}},
		{"unparsable URL", []string{"--prometheus.url=http://[::1"}, []string{"--prometheus.url"}},
		{"no time", []string{"--min-time=yesterday"}, []string{"--min-time", "yesterday"}},
		{"several at once", []string{"--prometheus.get_config_interval=0s", "--reloader.watch-interval=-1s", "--hash-func=MD5"}, []string{
			"--prometheus.get_config_interval", "--reloader.watch-interval", "--hash-func", "MD5",
		}},
		{"output without input", []string{"--reloader.config-envsubst-file=x"}, []string{"--reloader.config-envsubst-file", "--reloader.config-file"}},
		{"unknown way to reload", []string{"--reloader.method=shout"}, []string{"--reloader.method", "shout", "http, signal"}},
		{"unknown bucket type", []string{"--objstore.config={type: FLOPPY}"}, []string{"--objstore.config", "line 1", "FLOPPY", "FILESYSTEM"}},
		{"unparsable bucket configuration", []string{"--objstore.config-file=" + broken}, []string{broken, "line 3"}},
		{"no such file", []string{"--objstore.config-file=" + filepath.Join(dir, "none.yml")}, []string{"--objstore.config-file", "none.yml"}},
		{"bucket configuration twice", []string{"--objstore.config={}", "--objstore.config-file=" + broken}, []string{"--objstore.config", "cannot be used together"}},
		{"unset variable", []string{"--objstore.config={type: $(SIDECAR_TEST_UNSET)}"}, []string{"--objstore.config", "SIDECAR_TEST_UNSET"}},
		{"unknown key of the client", []string{"--prometheus.http-client={basic_auht: {}}"}, []string{"--prometheus.http-client", ":1:", "basic_auht"}},
		{"client certificate without key", []string{"--prometheus.http-client={tls_config: {cert_file: x}}"}, []string{"--prometheus.http-client", "cert_file and key_file"}},
		{"HTTP port taken", []string{"--http-address=" + taken.Addr().String()}, []string{"--http-address=" + taken.Addr().String(), "in use"}},
		{"gRPC port taken", []string{"--grpc-address=" + taken.Addr().String()}, []string{"--grpc-address=" + taken.Addr().String(), "in use"}},
		{"nobody there", []string{"--prometheus.ready_timeout=200ms"}, []string{"http://127.0.0.1:1", "200ms", "--prometheus.ready_timeout", "refused"}},
		{"no configuration to watch", []string{"--reloader.config-file=" + filepath.Join(dir, "none.yml")}, []string{"--reloader.config-file", "none.yml"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := launch(t, "http://127.0.0.1:1", t.TempDir(), tc.args...)
			got := s.fails(t)
			for _, part := range tc.want {
				require.Contains(t, got, part)
			}
		})
	}
}

func TestAPrometheusWithoutExternalLabelsIsNamed(t *testing.T) {
	t.Parallel()
	prom := promtest.Start(t, promtest.Options{External: labels.EmptyLabels()})
	got := launch(t, prom.URL.String(), prom.DataDir()).fails(t)
	require.Contains(t, got, prom.URL.String()+" has no external labels: set global.external_labels")
}

func TestAPrometheusThatCompactsIsRefusedForUploads(t *testing.T) {
	t.Parallel()
	bucket := "--objstore.config={type: FILESYSTEM, config: {directory: " + t.TempDir() + "}}"
	prom := promtest.Start(t, promtest.Options{External: testLabels, Args: []string{"--storage.tsdb.max-block-duration=1d"}})
	got := launch(t, prom.URL.String(), prom.DataDir(), bucket).fails(t)
	require.Contains(t, got, prom.URL.String()+": it compacts its blocks")
	require.Contains(t, got, "max-block-duration is 24h0m0s")

	// Without uploads, and where it is said to be wanted, it may.
	start(t, prom)
	start(t, prom, bucket, "--shipper.ignore-unequal-block-size")

	// And it may where it waits for us; the file must be ours.
	dir := t.TempDir()
	waiting := promtest.Start(t, promtest.Options{External: testLabels, Args: []string{
		"--storage.tsdb.max-block-duration=1d", "--storage.tsdb.delay-compact-file.path=" + filepath.Join(dir, "thanos.shipper.json"),
	}})
	s := launch(t, waiting.URL.String(), dir, bucket)
	s.waitReady(t, http.StatusOK)
	got = launch(t, waiting.URL.String(), waiting.DataDir(), bucket).fails(t)
	require.Contains(t, got, "which is not the file this sidecar writes")
}

func TestPrometheusIsAskedAsTheClientConfigurationSays(t *testing.T) {
	t.Parallel()
	// A gate that wants a password, as a proxy in front of Prometheus would.
	prom := promtest.Start(t, promtest.Options{External: testLabels})
	gate := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "sidecar" || password != "secret" {
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		http.Redirect(w, r, prom.URL.String()+r.URL.Path, http.StatusTemporaryRedirect)
	}))
	defer gate.Close()
	got := launch(t, gate.URL, prom.DataDir(), "--prometheus.ready_timeout=200ms").fails(t)
	require.Contains(t, got, "who are you?")
	s := launch(t, gate.URL, prom.DataDir(), "--prometheus.http-client={basic_auth: {username: sidecar, password: secret}}")
	s.waitReady(t, http.StatusOK)
	require.NotContains(t, s.logs.String(), "secret")
}
