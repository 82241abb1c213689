package app

import (
	"bufio"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/block/blocktest"
	"github.com/promontory-io/promontory/libs/service/flags"
	"github.com/promontory-io/promontory/proto/gen/thanos"
)

func lines(t *testing.T, file string) (out []string) {
	t.Helper()
	f, err := os.Open(file)
	require.NoError(t, err)
	defer func() { require.NoError(t, f.Close()) }()
	s := bufio.NewScanner(f)
	for s.Scan() {
		_, rest, ok := strings.Cut(s.Text(), "\t")
		require.True(t, ok)
		out = append(out, rest)
	}
	require.NoError(t, s.Err())
	return out
}

func flagSet() *pflag.FlagSet {
	return NewCommand().Flags()
}

var recordedFlag = regexp.MustCompile(`--(\[no-\])?([a-z.-]+)(?:="?([^"]*)"?)?$`)

func TestRecordedFlagsAreAcceptedWithTheSameDefaults(t *testing.T) {
	t.Parallel()
	fs := flagSet()
	for _, l := range lines(t, "testdata/flags.tsv") {
		m := recordedFlag.FindStringSubmatch(l)
		require.NotNil(t, m, l)
		negatable, name, value := m[1] != "", m[2], m[3]
		if name == "delete-delay" {
			continue // a word of a help text
		}
		f := fs.Lookup(name)
		require.NotNil(t, f, "--%s is unknown", name)
		if negatable {
			require.NotNil(t, fs.Lookup("no-"+name), "--no-%s is unknown", name)
			require.Equal(t, "bool", f.Value.Type(), name)
			continue
		}
		if value == "" || value == "<content>" || value == "<file-path>" || value == strings.ToUpper(strings.ReplaceAll(name, ".", "-")) {
			require.Contains(t, []string{"", "[]", "false", "true"}, f.DefValue, name)
			continue
		}
		require.True(t, sameValue(value, f.DefValue), "--%s is %s by default, want %s", name, f.DefValue, value)
	}
}

// sameValue compares values that may be written in different units.
func sameValue(a, b string) bool {
	if a == b {
		return true
	}
	if x, err := flags.ParseDuration(a); err == nil && a != "0" {
		y, err := flags.ParseDuration(b)
		return err == nil && x == y
	}
	x, errX := flags.ParseBytes(a)
	y, errY := flags.ParseBytes(b)
	return errX == nil && errY == nil && x == y
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
	families, err := g.p.Registry.Gather()
	require.NoError(t, err)
	got := map[string]*dto.MetricFamily{}
	for _, f := range families {
		got[f.GetName()] = f
	}
	for _, l := range lines(t, "testdata/metrics.tsv") {
		fields := strings.Split(l, "\t")
		name, kind, labels := fields[0], fields[1], ""
		if len(fields) > 2 {
			labels = fields[2]
		}
		f := got[name]
		if f == nil {
			t.Errorf("%s is not exposed", name)
			continue
		}
		if k := strings.ToLower(f.GetType().String()); k != kind {
			t.Errorf("%s is a %s, want %s", name, k, kind)
		}
		var names []string
		for _, p := range f.GetMetric()[0].GetLabel() {
			names = append(names, p.GetName())
		}
		slices.Sort(names)
		if have := strings.Join(names, ","); have != labels {
			t.Errorf("%s has labels %s, want %s", name, have, labels)
		}
	}
}
