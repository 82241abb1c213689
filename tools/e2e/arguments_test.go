package e2e

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/promontory-io/promontory/libs/block/blocktest"
	"github.com/promontory-io/promontory/libs/objstore/filesystem"
	"github.com/promontory-io/promontory/libs/procs"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/tools/e2e/harness"
)

// Argument lists as manifests for Thanos have them, old and new, with nothing changed but addresses and folders. ADDR_HTTP, ADDR_GRPC,
// DATA, STORE, PROMETHEUS and TSDB stand for these.
var (
	storeArguments = map[string][]string{
		"0.12": {
			"store", "--log.level=debug", "--data-dir=DATA", "--grpc-address=ADDR_GRPC", "--http-address=ADDR_HTTP", "--index-cache-size=250MB",
			"--chunk-pool-size=2GB", "--store.grpc.series-sample-limit=0", "--store.grpc.series-max-concurrency=20", "--sync-block-duration=3m",
			"--block-sync-concurrency=20", "--min-time=-8w", "--max-time=9999-12-31T23:59:59Z", "--consistency-delay=0s",
			"--ignore-deletion-marks-delay=24h", "--experimental.enable-index-header",
			"--objstore.config=type: FILESYSTEM\nconfig:\n  directory: \"$(E2E_BUCKET)\"\n",
		},
		"kube-thanos 0.31": {
			"store", "--log.level=info", "--log.format=logfmt", "--data-dir=DATA", "--grpc-address=ADDR_GRPC", "--http-address=ADDR_HTTP",
			"--objstore.config=$(E2E_OBJSTORE_CONFIG)", "--ignore-deletion-marks-delay=24h", "--store.enable-index-header-lazy-reader",
			"--index-cache.config=\"config\":\n  \"max_size\": \"100MB\"\n\"type\": \"in-memory\"",
			"--store.caching-bucket.config=\"config\":\n  \"max_size\": 100MB\n\"type\": \"in-memory\"",
			"--tracing.config=\"config\":\n  \"sampler_param\": 2\n  \"sampler_type\": \"ratelimiting\"\n  \"service_name\": \"thanos-store\"\n\"type\": \"JAEGER\"",
			"--store.grpc.touched-series-limit=0", "--debug.advertise-compatibility-label",
		},
		"helm 0.42": {
			"store", "--log.level=warn", "--log.format=json", "--grpc-address=ADDR_GRPC", "--http-address=ADDR_HTTP", "--data-dir=DATA",
			"--objstore.config=$(E2E_OBJSTORE_CONFIG)", "--block-discovery-strategy=recursive", "--store.enable-lazy-expanded-postings",
			"--store.index-header-lazy-download-strategy=lazy", "--cache-index-header", "--disable-admin-operations", "--matcher-cache-size=1000",
			"--selector.relabel-config=- action: keep\n  source_labels: [cluster]\n  regex: e2e",
		},
	}
	sidecarArguments = map[string][]string{
		"0.12": {
			"sidecar", "--log.level=error", "--prometheus.url=PROMETHEUS", "--tsdb.path=TSDB", "--grpc-address=ADDR_GRPC", "--http-address=ADDR_HTTP",
			"--objstore.config=$(E2E_OBJSTORE_CONFIG)", "--shipper.upload-compacted", "--min-time=-2h",
		},
		"prometheus-operator": {
			"sidecar", "--prometheus.url=PROMETHEUS", "--prometheus.http-client={\"tls_config\": {\"insecure_skip_verify\":true}}",
			"--grpc-address=ADDR_GRPC", "--http-address=ADDR_HTTP", "--objstore.config=$(E2E_OBJSTORE_CONFIG)", "--tsdb.path=TSDB",
			"--log.level=info", "--log.format=logfmt", "--prometheus.ready_timeout=10m", "--shipper.ignore-unequal-block-size",
			"--prometheus.get_config_interval=30s", "--prometheus.get_config_timeout=30s",
		},
	}
	queryArguments = map[string][]string{
		"0.12": {
			"query", "--log.level=debug", "--grpc-address=ADDR_GRPC", "--http-address=ADDR_HTTP", "--query.replica-label=replica",
			"--query.replica-label=rule_replica", "--store=STORE", "--query.timeout=5m", "--query.lookback-delta=15m", "--query.auto-downsampling",
			"--query.partial-response", "--store.unhealthy-timeout=5m", "--store.response-timeout=30s", "--web.external-prefix=", "--query.max-concurrent=20",
			"--store.sd-dns-resolver=golang", "--grpc-client-tls-min-version=1.2",
		},
		"kube-thanos 0.28": {
			"query", "--grpc-address=ADDR_GRPC", "--http-address=ADDR_HTTP", "--log.level=info", "--log.format=logfmt", "--query.replica-label=prometheus_replica,replica",
			"--store=STORE", "--rule=127.0.0.1:1", "--target=127.0.0.1:1", "--metadata=127.0.0.1:1", "--exemplar=127.0.0.1:1", "--no-query.partial-response",
			"--store.sd-interval=5m", "--query.telemetry.request-duration-seconds-quantiles=0.1", "--query.telemetry.request-duration-seconds-quantiles=1",
			"--enable-feature=query-pushdown", "--log.request.decision=LogFinishCall",
		},
		"helm 0.42": {
			"query", "--log.level=info", "--grpc-address=ADDR_GRPC", "--http-address=ADDR_HTTP", "--query.replica-label=replica", "--endpoint=STORE",
			"--alert.query-url=http://query.example", "--query.promql-engine=thanos", "--web.route-prefix=", "--query.tenant-header=X-Tenant",
			"--query.mode=local", "--grpc.proxy-strategy=lazy", "--selector-label=region=\"eu\"", "--query.conn-metric.label=external_labels", "--query.metadata.default-time-range=0s",
			"--enable-auto-gomemlimit", "--auto-gomemlimit.ratio=0.9",
		},
	}
)

func TestArgumentListsOfThanosStartTheirServices(t *testing.T) {
	t.Parallel()
	s := harness.New(t)
	_, dir := s.FilesystemBucket("bucket", "")
	bucket, err := filesystem.New(dir)
	require.NoError(t, err)
	begin := time.Now().Add(-2 * window).Truncate(window)
	blocktest.Upload(t, bucket, blocktest.Spec{
		ExternalLabels: labels.FromStrings("cluster", "e2e", "replica", "a"), Floats: 1,
		MinTime: begin.UnixMilli(), MaxTime: begin.Add(window).UnixMilli(),
	})
	prometheus := s.Prometheus("prometheus", harness.PrometheusConfig{ExternalLabels: pairLabels("a")})
	// Not the environment of the test: others run beside it.
	env := []string{"E2E_BUCKET=" + dir, "E2E_OBJSTORE_CONFIG={type: FILESYSTEM, config: {directory: " + dir + "}}"}

	start := func(name, binary string, arguments []string, more ...string) harness.Service {
		t.Helper()
		addrs := harness.Addrs(t, 2)
		service := harness.Service{Name: name, HTTP: addrs[0], GRPC: addrs[1]}
		replace := strings.NewReplacer(append([]string{
			"ADDR_HTTP", service.HTTP, "ADDR_GRPC", service.GRPC, "DATA", s.Dir(name + "-data"), "PROMETHEUS", prometheus.URL(), "TSDB", prometheus.DataDir,
		}, more...)...)
		spec := procs.Spec{Name: name, Binary: harness.Binary(t, binary), Source: "make build", Env: env, Ready: service.URL() + "/-/ready"}
		for _, argument := range arguments {
			spec.Args = append(spec.Args, replace.Replace(argument))
		}
		s.Start(spec)
		return service
	}
	var gateway harness.Service
	for version, arguments := range storeArguments {
		gateway = start("store "+version, "store-gateway", arguments)
	}
	for version, arguments := range sidecarArguments {
		start("sidecar "+version, "sidecar", arguments)
	}
	for version, arguments := range queryArguments {
		q := start("query "+version, "querier", arguments, "STORE", gateway.GRPC)
		harness.Eventually(t, func() error {
			_, _, err := s.API(q).TryInstant("count("+blocktest.FloatMetric+")", begin.Add(time.Hour))
			return err
		})
		got := s.API(q).Instant("count("+blocktest.FloatMetric+")", begin.Add(time.Hour))
		require.Equal(t, map[string]float64{"{}": 1}, got, version)
	}
	log, err := os.ReadFile(s.Process("query kube-thanos 0.28").LogPath())
	require.NoError(t, err)
	for _, flag := range []string{"--rule", "--target", "--metadata", "--exemplar", "--log.request.decision"} {
		require.Contains(t, string(log), `level=warn msg=flag note="`+flag+" ", "a flag that does nothing is warned about")
	}
}
