package app

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/block/blocktest"
	"github.com/promontory-io/promontory/libs/service/recorded"
	"github.com/promontory-io/promontory/proto/gen/thanos"
)

func flagSet() *pflag.FlagSet {
	return NewCommand().Flags()
}

func TestRecordedFlagsAreAcceptedWithTheSameDefaults(t *testing.T) {
	t.Parallel()
	recorded.RequireFlags(t, flagSet(), slices.DeleteFunc(recorded.Table(t, "testdata/flags.tsv"), func(row []string) bool {
		return row[1] == "--delete-delay" // a word of a help text
	}), map[string]string{"cache-index-header": "true"})
}

func TestArgumentListsOfThanosStart(t *testing.T) {
	t.Setenv("BUCKET_DIR", blocktest.RecordedAfter(t))
	for name, args := range map[string][]string{
		"kube-thanos": {
			"store", "--log.level=info", "--log.format=logfmt", "--data-dir=" + t.TempDir(), "--grpc-address=127.0.0.1:0", "--http-address=127.0.0.1:0",
			"--objstore.config={type: FILESYSTEM, config: {directory: $(BUCKET_DIR)}}", "--ignore-deletion-marks-delay=24h",
			"--index-cache.config=\"config\":\n  \"max_size\": \"100MB\"\n\"type\": \"IN-MEMORY\"",
			"--store.caching-bucket.config=type: IN-MEMORY", "--min-time=-6w", "--max-time=-2h", "--no-cache-index-header",
			"--store.grpc.series-sample-limit=120000000", "--selector.relabel-config=[{action: keep, source_labels: [cluster], regex: eu.*}]",
		},
		"without words": {
			"--data-dir", t.TempDir(), "--grpc-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0", "--sync-block-duration=3m",
			"--objstore.config", "type: filesystem\nconfig: {directory: $(BUCKET_DIR)}", "--store.enable-index-header-lazy-reader",
			"--store.index-header-lazy-download-strategy=lazy", "--block-discovery-strategy=recursive", "--web.disable",
		},
	} {
		t.Run(name, func(t *testing.T) {
			logs := &logBuffer{}
			cmd := newCommand(logs)
			cmd.SetArgs(args)
			require.NoError(t, runUntil(t, cmd, func() bool { return strings.Contains(logs.String(), "msg=ready") }))
		})
	}
}

func TestBadConfigurationIsNamed(t *testing.T) {
	t.Parallel()
	bucket := "--objstore.config=" + filesystemYAML(t.TempDir())
	common := []string{"store", "--grpc-address=127.0.0.1:0", "--http-address=127.0.0.1:0", "--data-dir=" + t.TempDir()}
	for name, tc := range map[string]struct {
		args []string
		says []string
	}{
		"no bucket":       {nil, []string{"--objstore.config"}},
		"unknown type":    {[]string{"--objstore.config=type: FLOPPY"}, []string{"FLOPPY", "FILESYSTEM"}},
		"no YAML":         {[]string{"--objstore.config=type: [\n"}, []string{"--objstore.config", "line"}},
		"unknown flag":    {[]string{bucket, "--data-dri=x"}, []string{"--data-dri", "--data-dir"}},
		"no number":       {[]string{bucket, "--block-sync-concurrency=many"}, []string{"--block-sync-concurrency", "many"}},
		"not positive":    {[]string{bucket, "--block-sync-concurrency=0", "--chunk-pool-size=0"}, []string{"--block-sync-concurrency", "--chunk-pool-size"}},
		"times reversed":  {[]string{bucket, "--min-time=2025-01-02T00:00:00Z", "--max-time=2025-01-01T00:00:00Z"}, []string{"--min-time", "--max-time"}},
		"no relabel rule": {[]string{bucket, "--selector.relabel-config=[{action: labelmap}]"}, []string{"--selector.relabel-config", "labelmap"}},
		"cache type":      {[]string{bucket, "--index-cache.config=type: TAPE"}, []string{"--index-cache.config", "TAPE"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := newCommand(&logBuffer{})
			cmd.SetArgs(append(slices.Clone(common), tc.args...))
			err := cmd.ExecuteContext(t.Context())
			require.Error(t, err)
			for _, s := range tc.says {
				require.ErrorContains(t, err, s)
			}
		})
	}
}

func TestRecordedMetricFamiliesAreExposedWithTheSameLabels(t *testing.T) {
	t.Parallel()
	g := start(t, filesystemYAML(blocktest.RecordedAfter(t)), nil)
	g.waitReady(t)
	_, err := series(t, g.conn, ask(lastStart, lastEnd, thanos.PartialResponseStrategy_ABORT))
	require.NoError(t, err)
	// The server counts a call after its client has the answer.
	require.Eventually(t, func() bool {
		return strings.Contains(get(t, g.http+"/metrics"), `grpc_server_handled_total{grpc_code="OK",grpc_method="Series"`)
	}, 5*time.Second, 10*time.Millisecond)
	recorded.RequireMetrics(t, recorded.Gathered(t, g.p.Registry), recorded.Table(t, "testdata/metrics.tsv"))
}
