package app

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/thanos"
)

// measured counts the Series calls of a store, as every server of the Store API does.
type measured struct {
	storeapi.Store
	pending        prometheus.Gauge
	series, chunks prometheus.Histogram
}

func newMeasured(st storeapi.Store, reg prometheus.Registerer) *measured {
	f := promauto.With(reg)
	return &measured{
		Store: st,
		pending: f.NewGauge(prometheus.GaugeOpts{
			Name: "thanos_store_server_pending_series_requests", Help: "Series calls that are being answered.",
		}),
		series: f.NewHistogram(prometheus.HistogramOpts{
			Name: "thanos_store_server_series_requested", Help: "How many series the answer to a Series call had.",
			Buckets: []float64{1, 10, 100, 1000, 10000, 100000, 1000000},
		}),
		chunks: f.NewHistogram(prometheus.HistogramOpts{
			Name: "thanos_store_server_chunks_requested", Help: "How many chunks the answer to a Series call had.",
			Buckets: []float64{1, 100, 1000, 10000, 100000, 10000000, 100000000, 1000000000},
		}),
	}
}

// Series implements storeapi.Store.
func (m *measured) Series(ctx context.Context, req *thanos.SeriesRequest, ms []*labels.Matcher, w *storeapi.Writer) error {
	m.pending.Inc()
	defer m.pending.Dec()
	return m.Store.Series(ctx, req, ms, w)
}

func (m *measured) onSeries(_ context.Context, stats storeapi.WriterStats, _ error) {
	m.series.Observe(float64(stats.Series))
	m.chunks.Observe(float64(stats.Chunks))
}
