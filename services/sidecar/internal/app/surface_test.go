package app

import (
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/service/recorded"
	"github.com/promontory-io/promontory/services/sidecar/internal/promtest"
)

func TestEveryRecordedFlagIsThereWithItsDefault(t *testing.T) {
	t.Parallel()
	fs := NewCommand().Flags()
	table := recorded.Table(t, "testdata/flags.tsv")
	recorded.RequireFlags(t, fs, table, nil)
	fs.VisitAll(func(f *pflag.Flag) {
		named := func(row []string) bool {
			text := row[len(row)-1]
			return strings.Contains(text+"=", "--"+f.Name+"=") || strings.HasSuffix(text, "--[no-]"+f.Name)
		}
		if !f.Hidden && !slices.ContainsFunc(table, named) {
			t.Errorf("--%s is ours alone: hide it, or record why", f.Name)
		}
	})
}

func TestHiddenFlagsAndThoseOfOldManifestsAreAccepted(t *testing.T) {
	t.Parallel()
	cmd := newCommand(io.Discard)
	for _, name := range []string{
		"shipper.ignore-unequal-block-size", "no-shipper.ignore-unequal-block-size", "shipper.allow-out-of-order-uploads",
		"shipper.skip-corrupted-blocks", "debug.name", "cluster.peers", "cluster.disable", "log.request.decision",
	} {
		f := cmd.Flags().Lookup(name)
		require.NotNil(t, f, "--%s", name)
		require.True(t, f.Hidden, "--%s", name)
	}
}

func TestEveryRecordedMetricIsExposed(t *testing.T) {
	t.Parallel()
	prom := promtest.Start(t, promtest.Options{External: testLabels})
	s := start(t, prom, "--objstore.config={type: FILESYSTEM, config: {directory: "+t.TempDir()+"}}")
	_, body := s.get("/metrics")
	rows := recorded.Table(t, "testdata/metrics.tsv")
	// With a bucket, which the recorded one had not.
	for _, name := range []string{
		"thanos_shipper_dir_syncs_total", "thanos_shipper_dir_sync_failures_total", "thanos_shipper_uploads_total",
		"thanos_shipper_upload_failures_total", "thanos_shipper_corrupted_blocks_total",
	} {
		rows = append(rows, []string{"sidecar", name, "counter", ""})
	}
	rows = append(rows, []string{"sidecar", "thanos_shipper_upload_compacted_done", "gauge", ""},
		[]string{"sidecar", "thanos_objstore_bucket_operations_total", "counter", "bucket,operation"},
		// Dashboards of older releases read this one.
		[]string{"sidecar", "thanos_sidecar_last_heartbeat_success_time_seconds", "gauge", ""})
	recorded.RequireMetrics(t, recorded.Scraped(t, body), rows)
	require.Equal(t, "1", s.metric(t, "thanos_sidecar_prometheus_up"))
	require.Equal(t, "1", s.metric(t, `thanos_sidecar_reloader_info{method="http"}`))
	require.Equal(t, "1", s.metric(t, `thanos_status{check="ready",component="sidecar"}`))
}
