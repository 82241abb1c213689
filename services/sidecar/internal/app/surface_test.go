package app

import (
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/service/flags"
	"github.com/promontory-io/promontory/services/sidecar/internal/promtest"
)

// table reads lines of values separated by tabs.
func table(t *testing.T, name string) (rows [][]string) {
	t.Helper()
	text, err := os.ReadFile(name)
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		rows = append(rows, strings.Split(strings.TrimRight(line, "\n"), "\t"))
	}
	require.NotEmpty(t, rows)
	return rows
}

// recordedFlag is a flag as a help text shows it: --name=default, --name="default", --name=PLACEHOLDER,
// --[no-]name, -h, --name.
func recordedFlag(text string) (name, value string, boolean bool) {
	text = strings.TrimPrefix(text, "-h, ")
	text, boolean = strings.CutPrefix(strings.TrimPrefix(text, "--"), "[no-]")
	name, value, _ = strings.Cut(text, "=")
	value = strings.Trim(value, `"`)
	if strings.HasPrefix(value, "<") || value == strings.ToUpper(name) {
		value = "" // says what to give, not what it is
	}
	if boolean {
		value = "false"
	}
	return name, value, boolean
}

func sameDefault(a, b string) bool {
	if a == b {
		return true
	}
	x, errX := flags.ParseDuration(a)
	y, errY := flags.ParseDuration(b)
	return errX == nil && errY == nil && x == y
}

func TestEveryRecordedFlagIsThereWithItsDefault(t *testing.T) {
	t.Parallel()
	fs := NewCommand().Flags()
	recorded := []string{}
	for _, row := range table(t, "testdata/flags.tsv") {
		name, value, boolean := recordedFlag(row[1])
		recorded = append(recorded, name)
		f := fs.Lookup(name)
		if f == nil {
			t.Errorf("--%s is missing", name)
			continue
		}
		if !sameDefault(value, f.DefValue) && !(name == "help-long" || name == "help" || name == "version") {
			t.Errorf("--%s is %q by default, recorded %q", name, f.DefValue, value)
		}
		if boolean && name != "help" && name != "version" {
			require.NotNil(t, fs.Lookup("no-"+name), "--no-%s", name)
		}
	}
	fs.VisitAll(func(f *pflag.Flag) {
		if !f.Hidden && !slices.Contains(recorded, f.Name) {
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
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(body))
	require.NoError(t, err)
	labelNames := func(f *dto.MetricFamily) string {
		names := []string{}
		for _, l := range f.GetMetric()[0].GetLabel() {
			names = append(names, l.GetName())
		}
		slices.Sort(names)
		return strings.Join(names, ",")
	}
	rows := table(t, "testdata/metrics.tsv")
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
	for _, row := range rows {
		f := families[row[1]]
		if f == nil {
			t.Errorf("%s is missing", row[1])
			continue
		}
		require.Equal(t, row[2], strings.ToLower(f.GetType().String()), row[1])
		require.Equal(t, row[3], labelNames(f), row[1])
	}
	require.Equal(t, "1", s.metric(t, "thanos_sidecar_prometheus_up"))
	require.Equal(t, "1", s.metric(t, `thanos_sidecar_reloader_info{method="http"}`))
	require.Equal(t, "1", s.metric(t, `thanos_status{check="ready",component="sidecar"}`))
}
