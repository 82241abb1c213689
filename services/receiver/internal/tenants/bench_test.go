package tenants

import (
	"fmt"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/services/receiver/internal/remotewrite"
)

// BenchmarkAppend writes one sample of each of 50,000 known series in requests of 2,000.
func BenchmarkAppend(b *testing.B) {
	const total, perRequest = 50_000, 2_000
	o := testOptions(b.TempDir())
	m := New(o, Deps{Logger: zap.NewNop()})
	require.NoError(b, m.Start())
	defer m.Stop(b.Context())
	var lbls [][]byte
	for i := range total {
		lbls = append(lbls, remotewrite.AppendLabels(nil, labels.FromStrings(
			"__name__", fmt.Sprintf("metric_%d_total", i%500), "cluster", "eu1", "instance", fmt.Sprintf("10.0.%d.%d:9100", i/250, i%250),
			"job", "node", "namespace", "default", "pod", fmt.Sprintf("app-%d-7d4f8b", i))))
	}
	round := func(at int64) {
		for from := 0; from < total; from += perRequest {
			req := make([]remotewrite.Series, perRequest)
			var arena []byte
			for i := range req {
				start := len(arena)
				arena = remotewrite.AppendSample(arena, at, float64(at+int64(i)), 0)
				req[i] = remotewrite.Series{Labels: lbls[from+i], Body: arena[start:len(arena):len(arena)], Floats: 1}
			}
			fs, err := m.Append(b.Context(), "t", req, nil)
			if err != nil || len(fs) > 0 {
				b.Fatal(fs, err)
			}
		}
	}
	round(1)
	b.ResetTimer()
	at := int64(15_000)
	for range b.N {
		round(at)
		at += 15_000
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*total), "ns/sample")
}
