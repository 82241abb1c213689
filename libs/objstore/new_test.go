package objstore

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"
	upstream "github.com/thanos-io/objstore"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

func openFilesystem(t testing.TB, extra string, reg prometheus.Registerer, opts ...Option) (InstrumentedBucket, string) {
	t.Helper()
	dir := t.TempDir()
	bkt, err := New(fmt.Appendf(nil, "type: filesystem\nconfig:\n  directory: %q\n%s", dir, extra), "test", zap.NewNop(), reg, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, bkt.Close()) })
	return bkt, dir
}

func TestUpstreamAcceptanceSuite(t *testing.T) {
	t.Parallel()
	t.Run("filesystem", func(t *testing.T) {
		t.Parallel()
		bkt, _ := openFilesystem(t, "", prometheus.NewRegistry())
		upstream.AcceptanceTest(t, bkt)
	})
	t.Run("filesystem with every layer", func(t *testing.T) {
		t.Parallel()
		bkt, _ := openFilesystem(t, "prefix: some/prefix\nfaults: {rules: [{latency: 1us}, {short_reads: 3, name: 'obj_[1-5]'}]}\n",
			prometheus.NewRegistry(), WithTracer(trace.NewTracerProvider().Tracer("test")))
		upstream.AcceptanceTest(t, bkt)
	})
	t.Run("in memory", func(t *testing.T) {
		t.Parallel()
		bkt, err := Instrument(NewInMemBucket(), prometheus.NewRegistry())
		require.NoError(t, err)
		upstream.AcceptanceTest(t, bkt)
	})
}

func TestMetricsHaveTheNamesThatDashboardsRead(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	bkt, dir := openFilesystem(t, "", reg)

	families, err := reg.Gather()
	require.NoError(t, err)
	var got []string
	for _, f := range families {
		var labels []string
		for _, l := range f.Metric[0].Label {
			labels = append(labels, l.GetName())
		}
		got = append(got, fmt.Sprintf("%s %s %s", f.GetName(), strings.ToLower(dto.MetricType_name[int32(f.GetType())]), strings.Join(labels, ",")))
	}
	require.Equal(t, []string{
		"thanos_objstore_bucket_last_successful_upload_time gauge bucket",
		"thanos_objstore_bucket_operation_duration_seconds histogram bucket,operation",
		"thanos_objstore_bucket_operation_failures_total counter bucket,operation",
		"thanos_objstore_bucket_operation_fetched_bytes_total counter bucket,operation",
		"thanos_objstore_bucket_operation_transferred_bytes histogram bucket,operation",
		"thanos_objstore_bucket_operations_total counter bucket,operation",
	}, got)

	ctx := t.Context()
	require.NoError(t, bkt.Upload(ctx, "a/b", strings.NewReader("hello")))
	rc, err := bkt.GetRange(ctx, "a/b", 1, 3)
	require.NoError(t, err)
	_, err = io.ReadAll(rc)
	require.NoError(t, err)
	require.NoError(t, rc.Close())
	_, err = bkt.Get(ctx, "missing")
	require.Error(t, err)
	_, err = bkt.ReaderWithExpectedErrs(bkt.IsObjNotFoundErr).Get(ctx, "missing")
	require.Error(t, err)

	label := fmt.Sprintf(`bucket="fs: %s"`, dir)
	want := strings.ReplaceAll(`
# HELP thanos_objstore_bucket_operation_failures_total Total number of operations against a bucket that failed, but were not expected to fail in certain way from caller perspective. Those errors have to be investigated.
# TYPE thanos_objstore_bucket_operation_failures_total counter
thanos_objstore_bucket_operation_failures_total{BUCKET,operation="attributes"} 0
thanos_objstore_bucket_operation_failures_total{BUCKET,operation="delete"} 0
thanos_objstore_bucket_operation_failures_total{BUCKET,operation="exists"} 0
thanos_objstore_bucket_operation_failures_total{BUCKET,operation="get"} 1
thanos_objstore_bucket_operation_failures_total{BUCKET,operation="get_range"} 0
thanos_objstore_bucket_operation_failures_total{BUCKET,operation="iter"} 0
thanos_objstore_bucket_operation_failures_total{BUCKET,operation="upload"} 0
# HELP thanos_objstore_bucket_operation_fetched_bytes_total Total number of bytes fetched from bucket, per operation.
# TYPE thanos_objstore_bucket_operation_fetched_bytes_total counter
thanos_objstore_bucket_operation_fetched_bytes_total{BUCKET,operation="get"} 0
thanos_objstore_bucket_operation_fetched_bytes_total{BUCKET,operation="get_range"} 3
thanos_objstore_bucket_operation_fetched_bytes_total{BUCKET,operation="upload"} 0
`, "BUCKET", label)
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(want),
		"thanos_objstore_bucket_operation_failures_total", "thanos_objstore_bucket_operation_fetched_bytes_total"))
}

func TestTheSameBucketTwiceInOneRegistryIsAnError(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	cfg := []byte("type: FILESYSTEM\nconfig: {directory: " + t.TempDir() + "}\n")
	_, err := New(cfg, "test", zap.NewNop(), reg)
	require.NoError(t, err)
	_, err = New(cfg, "test", zap.NewNop(), reg)
	require.ErrorContains(t, err, "register metrics of bucket")
}

func TestPrefixStandsBeforeEveryName(t *testing.T) {
	t.Parallel()
	bkt, dir := openFilesystem(t, "prefix: tenant/a/\n", nil)
	require.NoError(t, bkt.Upload(t.Context(), "x/y", strings.NewReader("1")))
	require.FileExists(t, filepath.Join(dir, "tenant/a/x/y"))
	var names []string
	require.NoError(t, bkt.Iter(t.Context(), "", func(name string) error { names = append(names, name); return nil }, WithRecursiveIter()))
	require.Equal(t, []string{"x/y"}, names)
}

func TestNotFoundIsRecognisedThroughAnyWrapping(t *testing.T) {
	t.Parallel()
	fsBucket, _ := openFilesystem(t, "", nil)
	mem, err := Instrument(NewInMemBucket(), nil)
	require.NoError(t, err)
	for _, bkt := range []Bucket{fsBucket, mem} {
		_, err := bkt.Get(t.Context(), "nowhere")
		require.True(t, bkt.IsObjNotFoundErr(fmt.Errorf("read meta: %w", fmt.Errorf("again: %w", err))))
		require.False(t, bkt.IsObjNotFoundErr(context.Canceled))
		require.False(t, bkt.IsObjNotFoundErr(nil))
	}
}

func TestFaultsOfTheConfigurationActAndAreAnnounced(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zapcore.WarnLevel)
	reg := prometheus.NewRegistry()
	bkt, err := New([]byte("type: FILESYSTEM\nconfig: {directory: "+t.TempDir()+"}\nprefix: p\nfaults:\n  rules:\n  - {operations: [exists], name: '^x$', every: 2, error: error}\n"),
		"test", zap.New(core), reg)
	require.NoError(t, err)
	require.Equal(t, 1, logs.FilterMessageSnippet("FAULT INJECTION IS ON").Len())

	var failed []bool
	for range 4 {
		_, err := bkt.Exists(t.Context(), "x")
		failed = append(failed, err != nil)
	}
	require.Equal(t, []bool{false, true, false, true}, failed)
	n, err := testutil.GatherAndCount(reg, "thanos_objstore_bucket_operation_failures_total")
	require.NoError(t, err)
	require.Equal(t, 7, n)
}

func TestSpansAreRecordedWhenThereIsATracer(t *testing.T) {
	t.Parallel()
	recorder := tracetest.NewSpanRecorder()
	provider := trace.NewTracerProvider(trace.WithSpanProcessor(recorder))
	bkt, err := Instrument(NewInMemBucket(), nil, WithTracer(provider.Tracer("test")))
	require.NoError(t, err)
	_, err = bkt.Exists(t.Context(), "x")
	require.NoError(t, err)
	require.True(t, slices.ContainsFunc(recorder.Ended(), func(s trace.ReadOnlySpan) bool { return s.Name() == "bucket_exists" }))
}

func TestFilesystemIgnoresKeysThatThanosIgnoresButSaysSo(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zapcore.WarnLevel)
	_, err := New([]byte("type: FILESYSTEM\nconfig:\n  directory: "+t.TempDir()+"\n  some_key: 1\n"), "test", zap.New(core), nil)
	require.NoError(t, err)
	lines := logs.FilterMessage("part of the bucket configuration is ignored").All()
	require.Len(t, lines, 1)
	require.Equal(t, `line 4: unknown key "some_key"`, lines[0].ContextMap()["reason"])
}
