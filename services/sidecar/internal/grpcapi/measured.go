package grpcapi

import (
	"context"
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/thanos"
)

// Reasons why a Series call was dropped.
const (
	reasonSeries  = "series"
	reasonSamples = "samples"
)

// measured counts what is asked of a store.
type measured struct {
	storeapi.Store
	limits  storeapi.Limits
	pending prometheus.Gauge
	series  prometheus.Histogram
	chunks  prometheus.Histogram
	dropped *prometheus.CounterVec
}

func newMeasured(store storeapi.Store, limits storeapi.Limits, reg prometheus.Registerer) *measured {
	f := promauto.With(reg)
	m := &measured{
		Store:  store,
		limits: limits,
		pending: f.NewGauge(prometheus.GaugeOpts{
			Name: "thanos_store_server_pending_series_requests",
			Help: "Series calls that are being answered.",
		}),
		series: f.NewHistogram(prometheus.HistogramOpts{
			Name:    "thanos_store_server_series_requested",
			Help:    "How many series the answer to a Series call had.",
			Buckets: []float64{1, 10, 100, 1000, 10000, 100000, 1000000},
		}),
		chunks: f.NewHistogram(prometheus.HistogramOpts{
			Name:    "thanos_store_server_chunks_requested",
			Help:    "How many chunks the answer to a Series call had.",
			Buckets: []float64{1, 100, 1000, 10000, 100000, 10000000, 100000000, 1000000000},
		}),
		dropped: f.NewCounterVec(prometheus.CounterOpts{
			Name: "thanos_store_selects_dropped_total",
			Help: "Series calls that were refused because of a limit.",
		}, []string{"reason"}),
	}
	for _, reason := range []string{reasonSeries, reasonSamples} {
		m.dropped.WithLabelValues(reason)
	}
	return m
}

// Series implements storeapi.Store.
func (m *measured) Series(ctx context.Context, req *thanos.SeriesRequest, ms []*labels.Matcher, w *storeapi.Writer) error {
	m.pending.Inc()
	defer m.pending.Dec()
	return m.Store.Series(ctx, req, ms, w)
}

// onSeries is told about each finished answer.
func (m *measured) onSeries(_ context.Context, stats storeapi.WriterStats, err error) {
	m.series.Observe(float64(stats.Series))
	m.chunks.Observe(float64(stats.Chunks))
	if !errors.Is(err, storeapi.ErrLimit) {
		return
	}
	if m.limits.Series > 0 && uint64(stats.Series) > m.limits.Series {
		m.dropped.WithLabelValues(reasonSeries).Inc()
		return
	}
	m.dropped.WithLabelValues(reasonSamples).Inc()
}
