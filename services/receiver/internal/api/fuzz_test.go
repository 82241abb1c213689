package api

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"testing"

	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/services/receiver/internal/limits"
)

func FuzzOTLP(f *testing.F) {
	md := pmetric.NewMetrics()
	m := md.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty().Metrics().AppendEmpty()
	m.SetName("requests")
	m.SetEmptyGauge().DataPoints().AppendEmpty().SetIntValue(1)
	h := md.ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().AppendEmpty()
	h.SetName("latency")
	h.SetEmptyExponentialHistogram().DataPoints().AppendEmpty().Positive().BucketCounts().FromRaw([]uint64{1, 2})
	raw, err := pmetricotlp.NewExportRequestFromMetrics(md).MarshalProto()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw, "application/x-protobuf", "")
	f.Add([]byte(`{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"x","gauge":{"dataPoints":[{"asInt":"1"}]}}]}]}]}`), "application/json", "")
	f.Add([]byte{0x1f, 0x8b}, "application/json", "gzip")
	l, err := limits.New(limits.Options{Logger: zap.NewNop()})
	if err != nil {
		f.Fatal(err)
	}
	cfg := DefaultConfig()
	cfg.MaxBody = 1 << 16
	a := New(cfg, Deps{Limits: l, Logger: zap.NewNop()})
	f.Fuzz(func(t *testing.T, body []byte, typ, enc string) {
		r := httptest.NewRequest(http.MethodPost, "/api/v1/otlp", bytes.NewReader(body))
		r.Header.Set("Content-Type", typ)
		r.Header.Set("Content-Encoding", enc)
		req := &request{scratch: new(scratch)}
		if err := a.decodeOTLP(httptest.NewRecorder(), r, req); err != nil {
			if code := statusOf(err); code < 400 || code >= 500 {
				t.Fatalf("%d for %v", code, err)
			}
			return
		}
		for i := range req.scratch.req.Series {
			if s := &req.scratch.req.Series[i]; len(s.Labels) == 0 || s.Samples() == 0 {
				t.Fatalf("%+v", s)
			}
		}
	})
}
