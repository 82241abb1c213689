package app

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/promontory-io/promontory/libs/procs"
	"github.com/promontory-io/promontory/libs/service"
	"github.com/promontory-io/promontory/libs/service/flags"
	"github.com/promontory-io/promontory/libs/service/recorded"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/libs/storeapi/storeapitest"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/proto/gen/thanos/info"
	"github.com/promontory-io/promontory/services/receiver/internal/remotewrite"
)

// receiver is a running receiver.
type receiver struct {
	t                 testing.TB
	write, grpc, http string
}

func start(t testing.TB, change func(*Config)) *receiver {
	t.Helper()
	addrs, err := procs.FreeAddrs(3)
	require.NoError(t, err)
	cfg := DefaultConfig()
	cfg.Write.Address, cfg.Common.GRPC.Address, cfg.Common.HTTP.Address = addrs[0], addrs[1], addrs[2]
	cfg.TSDB.Path, cfg.Labels = t.TempDir(), []flags.Label{{Name: "replica", Value: "a"}}
	// A busy machine opens databases slowly, and what the journal took cannot be seen yet.
	cfg.TSDB.OpenWait, cfg.Ring.Timeout = time.Minute, time.Minute
	if change != nil {
		change(&cfg)
	}
	require.NoError(t, cfg.Validate())
	p, err := service.NewProcess(cfg.Common, io.Discard)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, cfg, p) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
		require.NoError(t, p.Close())
	})
	r := &receiver{t: t, write: "http://" + addrs[0], grpc: addrs[1], http: "http://" + addrs[2]}
	require.Eventually(t, func() bool {
		resp, err := http.Get(r.http + "/-/ready")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}, 20*time.Second, 5*time.Millisecond)
	return r
}

type answer struct {
	code   int
	body   string
	header http.Header
}

func (r *receiver) post(path string, body []byte, headers ...string) answer {
	r.t.Helper()
	req, err := http.NewRequest(http.MethodPost, r.write+path, bytes.NewReader(body))
	require.NoError(r.t, err)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(r.t, err)
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	require.NoError(r.t, err)
	return answer{resp.StatusCode, string(raw), resp.Header}
}

func (r *receiver) v1(ts []prompb.TimeSeries, headers ...string) answer {
	r.t.Helper()
	raw, err := (&prompb.WriteRequest{Timeseries: ts}).Marshal()
	require.NoError(r.t, err)
	return r.post("/api/v1/receive", snappy.Encode(nil, raw), headers...)
}

func (r *receiver) v2(req *writev2.Request, headers ...string) answer {
	r.t.Helper()
	raw, err := req.Marshal()
	require.NoError(r.t, err)
	return r.post("/api/v1/write", snappy.Encode(nil, raw), append([]string{
		"Content-Type", "application/x-protobuf;proto=io.prometheus.write.v2.Request", "Content-Encoding", "snappy",
		"X-Prometheus-Remote-Write-Version", "2.0.0",
	}, headers...)...)
}

func sampleOf(t int64, v float64, kv ...string) prompb.TimeSeries {
	ts := prompb.TimeSeries{Samples: []prompb.Sample{{Timestamp: t, Value: v}}}
	for i := 0; i < len(kv); i += 2 {
		ts.Labels = append(ts.Labels, prompb.Label{Name: kv[i], Value: kv[i+1]})
	}
	return ts
}

// series asks the Store API, and returns label sets.
func (r *receiver) series(matchers ...string) []string {
	r.t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+r.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()), storeapi.DialOption())
	require.NoError(r.t, err)
	defer conn.Close()
	req := &thanos.SeriesRequest{MinTime: 0, MaxTime: 1 << 60, Matchers: []*thanos.LabelMatcher{{Type: thanos.LabelMatcher_RE, Name: "__name__", Value: ".+"}}}
	for i := 0; i < len(matchers); i += 2 {
		req.Matchers = append(req.Matchers, &thanos.LabelMatcher{Name: matchers[i], Value: matchers[i+1]})
	}
	s := storeapi.NewClient(conn).Series(r.t.Context(), req, storeapi.StreamOptions{})
	defer s.Close()
	var out []string
	for s.Next() {
		out = append(out, s.At().Labels.String())
	}
	require.NoError(r.t, s.Err())
	return out
}

func now() int64 { return time.Now().UnixMilli() }

func TestStatusesTellSendersWhatToDo(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *Config) {
		c.TSDB.TooFarInFuture = time.Hour
		c.Limits = flags.InlineContent("receive.limits-config", "write: {tenants: {small: {request: {series_limit: 1, size_bytes_limit: 200}}, few: {request: {samples_limit: 1}}}}")
	})
	at := now()
	good := sampleOf(at, 1, "__name__", "good", "job", "x")
	require.Equal(t, 204, r.v1([]prompb.TimeSeries{good}).code)
	require.Equal(t, 204, r.v1([]prompb.TimeSeries{good}).code, "a retry")
	require.Equal(t, 204, r.v1(nil).code, "an empty request")
	for name, c := range map[string]struct {
		got  answer
		code int
		text string
	}{
		"out of order":     {r.v1([]prompb.TimeSeries{sampleOf(at-5, 1, "__name__", "good", "job", "x")}), 409, `{__name__="good", job="x"}`},
		"another value":    {r.v1([]prompb.TimeSeries{sampleOf(at, 2, "__name__", "good", "job", "x")}), 409, "duplicate sample"},
		"in the future":    {r.v1([]prompb.TimeSeries{sampleOf(at+2*3600_000, 1, "__name__", "good", "job", "x")}), 409, "future"},
		"no name":          {r.v1([]prompb.TimeSeries{sampleOf(at, 1, "job", "x")}), 400, "no metric name"},
		"duplicate label":  {r.v1([]prompb.TimeSeries{sampleOf(at, 1, "__name__", "m", "a", "1", "a", "2")}), 400, `"a" is not unique`},
		"bad tenant":       {r.v1([]prompb.TimeSeries{good}, "THANOS-TENANT", "../etc"), 400, "tenant"},
		"not snappy":       {r.post("/api/v1/receive", []byte("0xyz")), 400, "snappy"},
		"not protobuf":     {r.post("/api/v1/receive", snappy.Encode(nil, []byte{0x0a, 0x7f})), 400, "malformed"},
		"json":             {r.post("/api/v1/receive", nil, "Content-Type", "application/json"), 415, "application/json"},
		"gzip":             {r.post("/api/v1/receive", nil, "Content-Encoding", "gzip"), 415, "gzip"},
		"too many series":  {r.v1([]prompb.TimeSeries{good, good}, "THANOS-TENANT", "small"), 413, "series is 2"},
		"too many samples": {r.v1([]prompb.TimeSeries{good, good}, "THANOS-TENANT", "few"), 413, "samples is 2"},
		"too many bytes":   {r.v1([]prompb.TimeSeries{sampleOf(at, 1, "__name__", "m", "random", "c2Vzc2lvbiBvZiByYW5kb20gYnl0ZXMgdGhhdCBzbmFwcHkgY2Fubm90IHNocmluazogMDEyMzQ1Njc4OWFiY2RlZmdoaWprbG1ub3BxcnN0dXZ3eHl6QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVotLV9fLi4sLDs7OjohIT8/QEAjIyQkJSVeXiYmKiooKQ")}, "THANOS-TENANT", "small"), 413, "size"},
		"OTLP of no kind":  {r.post("/api/v1/otlp/v1/metrics", nil, "Content-Type", "text/plain"), 415, "text/plain"},
		"broken OTLP":      {r.post("/api/v1/otlp/v1/metrics", []byte{1, 2, 3}, "Content-Type", "application/x-protobuf"), 400, "OTLP"},
	} {
		require.Equal(t, c.code, c.got.code, "%s: %s", name, c.got.body)
		require.Contains(t, c.got.body, c.text, name)
	}
	require.Equal(t, 400, r.v1([]prompb.TimeSeries{sampleOf(at, 1, "job", "x"), sampleOf(at, 1, "__name__", "kept")}).code)
	require.Contains(t, r.series("__name__", "kept"), `{__name__="kept", replica="a", tenant_id="default-tenant"}`, "the good ones are kept")
}

func TestAnswersOfTwoPointZeroSayWhatWasWritten(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	at := now()
	req := &writev2.Request{Symbols: []string{"", "__name__", "m", "job", "x"}, Timeseries: []writev2.TimeSeries{
		{LabelsRefs: []uint32{1, 2}, Samples: []writev2.Sample{{Value: 1, Timestamp: at}}},
		{LabelsRefs: []uint32{3, 4}, Samples: []writev2.Sample{{Value: 1, Timestamp: at}}},
		{LabelsRefs: []uint32{1, 99}, Samples: []writev2.Sample{{Value: 1, Timestamp: at}}},
	}}
	a := r.v2(req)
	require.Equal(t, 400, a.code)
	require.Equal(t, "1", a.header.Get("X-Prometheus-Remote-Write-Samples-Written"))
	require.Contains(t, a.body, "no metric name")
	req.Timeseries = req.Timeseries[:1]
	req.Timeseries[0].Samples[0].Value++
	a = r.v2(req)
	require.Equal(t, 400, a.code, "a conflict, in the way of 2.0")
	require.Equal(t, "0", a.header.Get("X-Prometheus-Remote-Write-Samples-Written"))
	req.Timeseries[0].Samples[0].Timestamp++
	req.Timeseries[0].Exemplars = []writev2.Exemplar{{LabelsRefs: []uint32{3, 4}, Value: 1, Timestamp: at}}
	a = r.v2(req)
	require.Equal(t, 204, a.code, a.body)
	require.Equal(t, []string{"1", "0", "1"}, []string{
		a.header.Get("X-Prometheus-Remote-Write-Samples-Written"), a.header.Get("X-Prometheus-Remote-Write-Histograms-Written"),
		a.header.Get("X-Prometheus-Remote-Write-Exemplars-Written"),
	})
}

func TestSeriesAreSplitAndRelabelled(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *Config) {
		c.Tenant.SplitLabel = "team"
		c.Write.Relabel = flags.InlineContent("receive.relabel-config", "- {action: drop, source_labels: [__name__], regex: noise}\n- {action: labeldrop, regex: secret}")
	})
	at := now()
	a := r.v1([]prompb.TimeSeries{
		sampleOf(at, 1, "__name__", "noise"), sampleOf(at, 1, "__name__", "m", "secret", "s", "team", "red"),
		sampleOf(at, 1, "__name__", "m", "team", "blue"), sampleOf(at, 1, "__name__", "m", "team", "../x"), sampleOf(at, 1, "__name__", "m"),
	}, "THANOS-TENANT", "rest")
	require.Equal(t, 400, a.code, "one names no tenant")
	require.Equal(t, []string{
		`{__name__="m", replica="a", tenant_id="blue"}`, `{__name__="m", replica="a", tenant_id="red"}`, `{__name__="m", replica="a", tenant_id="rest"}`,
	}, r.series())
	require.Equal(t, []string{`{__name__="m", replica="a", tenant_id="red"}`}, r.series("tenant_id", "red"))
}

func TestOTLPBecomesSeries(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *Config) { c.OTLP.Promote = []string{"deployment"} })
	md := pmetric.NewMetrics()
	rm := md.ResourceMetrics().AppendEmpty()
	rm.Resource().Attributes().PutStr("service.name", "shop")
	rm.Resource().Attributes().PutStr("deployment", "prod")
	m := rm.ScopeMetrics().AppendEmpty().Metrics().AppendEmpty()
	m.SetName("requests")
	sum := m.SetEmptySum()
	sum.SetIsMonotonic(true)
	sum.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	dp := sum.DataPoints().AppendEmpty()
	dp.SetTimestamp(pcommon.NewTimestampFromTime(time.Now()))
	dp.SetIntValue(7)
	req := pmetricotlp.NewExportRequestFromMetrics(md)
	raw, err := req.MarshalProto()
	require.NoError(t, err)
	a := r.post("/api/v1/otlp/v1/metrics", raw, "Content-Type", "application/x-protobuf")
	require.Equal(t, 204, a.code, a.body)
	require.Contains(t, r.series("__name__", "requests_total"), `{__name__="requests_total", deployment="prod", job="shop", replica="a", tenant_id="default-tenant"}`)
	json, err := req.MarshalJSON()
	require.NoError(t, err)
	a = r.post("/api/v1/otlp", json, "Content-Type", "application/json")
	require.Equal(t, 204, a.code, "the same again: %s", a.body)
}

func TestMetadataIsServed(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	raw, err := (&prompb.WriteRequest{
		Timeseries: []prompb.TimeSeries{sampleOf(now(), 1, "__name__", "m")},
		Metadata:   []prompb.MetricMetadata{{Type: prompb.MetricMetadata_COUNTER, MetricFamilyName: "m", Help: "counts", Unit: "things"}},
	}).Marshal()
	require.NoError(t, err)
	require.Equal(t, 204, r.post("/api/v1/receive", snappy.Encode(nil, raw)).code)
	conn, err := grpc.NewClient("passthrough:///"+r.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer conn.Close()
	s, err := thanos.NewMetadataClient(conn).MetricMetadata(t.Context(), &thanos.MetricMetadataRequest{Limit: -1})
	require.NoError(t, err)
	resp, err := s.Recv()
	require.NoError(t, err)
	metas := resp.GetMetadata().GetMetadata()["m"].GetMetas()
	require.Len(t, metas, 1)
	require.Equal(t, []string{"counter", "counts", "things"}, []string{metas[0].GetType(), metas[0].GetHelp(), metas[0].GetUnit()})
}

func TestARouterRefusesImpossibleRingsAndKeepsTheOldOne(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "rings.json")
	put := func(text string) { require.NoError(t, os.WriteFile(path, []byte(text), 0o600)) }
	cfg := DefaultConfig()
	cfg.Ring.File, cfg.Ring.Replicas, cfg.Ring.Algorithm = path, 3, "ketama"
	cfg.Common.HTTP.Address, cfg.Common.GRPC.Address, cfg.Write.Address = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	put(`[{"endpoints": ["a:1", "b:1"]}]`)
	p, err := service.NewProcess(cfg.Common, io.Discard)
	require.NoError(t, err)
	err = Run(t.Context(), cfg, p)
	require.ErrorContains(t, err, "2 nodes cannot hold 3 replicas")
	require.ErrorContains(t, err, path)
	require.NoError(t, p.Close())

	put(`[{"hashring": "good", "endpoints": ["a:1", "b:1", "c:1"]}]`)
	r := start(t, func(c *Config) {
		c.Ring.File, c.Ring.Replicas, c.Ring.Algorithm, c.Labels = path, 3, "ketama", nil
	})
	put(`[{"endpoints": ["a:1"]}]`)
	require.Eventually(t, func() bool { return strings.Contains(r.metrics(), "thanos_receive_config_last_reload_successful 0") }, 10*time.Second, 10*time.Millisecond)
	require.Contains(t, r.metrics(), `thanos_receive_hashring_nodes{name="good"} 3`)
	a := r.v1([]prompb.TimeSeries{sampleOf(now(), 1, "__name__", "m")})
	require.Equal(t, 503, a.code, "nobody is there")
	require.Equal(t, "1", a.header.Get("Retry-After"))
}

func (r *receiver) metrics() string {
	r.t.Helper()
	resp, err := http.Get(r.http + "/metrics")
	require.NoError(r.t, err)
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	require.NoError(r.t, err)
	return string(raw)
}

func TestTheStoreAPIMeetsItsContract(t *testing.T) {
	for name, others := range map[string][]string{"one tenant": nil, "one of many tenants": {"0-first", "b", "z-last"}} {
		t.Run(name, func(t *testing.T) {
			storeapitest.Run(t, func(t *testing.T, data storeapitest.Data) *grpc.ClientConn {
				t.Helper()
				tenant := data.External.Get("replica")
				r := start(t, func(c *Config) {
					c.Labels = []flags.Label{{Name: "cluster", Value: data.External.Get("cluster")}}
					c.Tenant.Label, c.Tenant.Default = "replica", tenant
					c.TSDB.MinBlock, c.TSDB.MaxBlock = 24*time.Hour, 24*time.Hour
				})
				var body []byte
				for _, s := range data.Series {
					one := encode(t, s)
					body = remotewrite.AppendSeries(body, &one)
				}
				for _, to := range append(others, tenant) {
					a := r.post("/api/v1/receive", snappy.Encode(nil, body), "THANOS-TENANT", to)
					require.Equal(t, 204, a.code, a.body)
				}
				opts := []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials()), storeapi.DialOption()}
				if others != nil {
					opts = append(opts, grpc.WithChainUnaryInterceptor(pinUnary(tenant)), grpc.WithChainStreamInterceptor(pinStream(tenant)))
				}
				conn, err := grpc.NewClient("passthrough:///"+r.grpc, opts...)
				require.NoError(t, err)
				t.Cleanup(func() { conn.Close() })
				return conn
			})
		})
	}
}

// pin adds the matcher that picks a tenant, as a querier does that knows whose data it wants.
func pin(req any, tenant string) {
	m := &thanos.LabelMatcher{Name: "replica", Value: tenant}
	switch req := req.(type) {
	case *thanos.SeriesRequest:
		if len(req.GetMatchers()) > 0 { // without any it is refused, which the contract is about
			req.Matchers = append(req.GetMatchers(), m)
		}
	case *thanos.LabelNamesRequest:
		req.Matchers = append(req.GetMatchers(), m)
	case *thanos.LabelValuesRequest:
		req.Matchers = append(req.GetMatchers(), m)
	}
}

func pinUnary(tenant string) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		pin(req, tenant)
		err := invoke(ctx, method, req, reply, cc, opts...)
		if i, ok := reply.(*info.InfoResponse); ok {
			i.LabelSets = slices.DeleteFunc(i.GetLabelSets(), func(s *thanos.LabelSet) bool { return storeapi.Labels(s).Get("replica") != tenant })
			if st := i.GetStore(); st != nil {
				st.TsdbInfos = slices.DeleteFunc(st.GetTsdbInfos(), func(s *info.TSDBInfo) bool { return storeapi.Labels(s.GetLabels()).Get("replica") != tenant })
			}
		}
		return err
	}
}

func pinStream(tenant string) grpc.StreamClientInterceptor {
	return func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, stream grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		s, err := stream(ctx, desc, cc, method, opts...)
		return pinned{s, tenant}, err
	}
}

type pinned struct {
	grpc.ClientStream
	tenant string
}

func (p pinned) SendMsg(m any) error {
	pin(m, p.tenant)
	return p.ClientStream.SendMsg(m)
}

func encode(t *testing.T, s storeapitest.Series) remotewrite.Series {
	t.Helper()
	out := remotewrite.Series{Labels: remotewrite.AppendLabels(nil, s.Labels)}
	for _, smp := range s.Samples {
		var err error
		switch {
		case smp.H != nil:
			h := writev2.FromIntHistogram(smp.T, smp.H)
			out.Body, err = remotewrite.AppendHistogram(out.Body, &h)
		case smp.FH != nil:
			h := writev2.FromFloatHistogram(smp.T, smp.FH)
			out.Body, err = remotewrite.AppendHistogram(out.Body, &h)
		default:
			out.Body = remotewrite.AppendSample(out.Body, smp.T, smp.V, 0)
		}
		require.NoError(t, err)
	}
	return out
}

func TestManyTenantsAnswerInOneOrder(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	var want []string
	for i := range 5 {
		for j := range 3 {
			name := fmt.Sprintf("m%d", j)
			tenant := fmt.Sprintf("t%d", i)
			require.Equal(t, 204, r.v1([]prompb.TimeSeries{sampleOf(now(), 1, "__name__", name)}, "THANOS-TENANT", tenant).code)
			want = append(want, labels.FromStrings("__name__", name, "replica", "a", "tenant_id", tenant).String())
		}
	}
	slices.Sort(want)
	require.Equal(t, want, r.series())
}

func TestEveryRecordedFlagIsThereWithItsDefault(t *testing.T) {
	t.Parallel()
	recorded.RequireFlags(t, NewCommand().Flags(), recorded.Table(t, "testdata/flags.tsv"), map[string]string{
		"label": "", "tsdb.wal-compression": "true", "receive.otlp-enable-target-info": "true",
	})
}

func TestEveryRecordedMetricIsExposed(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	require.Equal(t, 204, r.v1([]prompb.TimeSeries{sampleOf(now(), 1, "__name__", "m")}).code)
	_ = r.series()
	recorded.RequireMetrics(t, recorded.Scraped(t, r.metrics()), recorded.Table(t, "testdata/metrics.tsv"))
}

func TestBadSettingsAreNamedAtStart(t *testing.T) {
	t.Parallel()
	for change, want := range map[string]func(*Config){
		"--label":                        func(c *Config) { c.Labels = nil },
		"--receive.replication-protocol": func(c *Config) { c.Ring.Protocol = protocolCapnProto },
		"--receive.replication-factor":   func(c *Config) { c.Ring.Replicas = 0 },
		"--tsdb.retention":               func(c *Config) { c.TSDB.Retention = -1 },
		"--hash-func":                    func(c *Config) { c.Upload.HashFunc = "MD5" },
		"tenant_id is the label of the":  func(c *Config) { c.Labels = append(c.Labels, flags.Label{Name: "tenant_id", Value: "x"}) },
	} {
		cfg := DefaultConfig()
		cfg.Labels = []flags.Label{{Name: "replica", Value: "a"}}
		require.NoError(t, cfg.Validate())
		want(&cfg)
		require.ErrorContains(t, cfg.Validate(), change)
	}
}
