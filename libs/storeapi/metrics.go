package storeapi

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Reasons why a Series call was refused by [Limits].
const (
	reasonSeries  = "series"
	reasonSamples = "samples"
)

// serverMetrics count what is asked of a store. The names are Thanos'.
type serverMetrics struct {
	pending        prometheus.Gauge
	series, chunks prometheus.Histogram
	dropped        *prometheus.CounterVec
}

func newServerMetrics(reg prometheus.Registerer) *serverMetrics {
	f := promauto.With(reg)
	m := &serverMetrics{
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
		dropped: f.NewCounterVec(prometheus.CounterOpts{
			Name: "thanos_store_selects_dropped_total", Help: "Series calls that were refused because of a limit.",
		}, []string{"reason"}),
	}
	for _, reason := range []string{reasonSeries, reasonSamples} {
		m.dropped.WithLabelValues(reason)
	}
	return m
}

// answered counts a finished answer.
func (m *serverMetrics) answered(st WriterStats, limits Limits, err error) {
	m.series.Observe(float64(st.Series))
	m.chunks.Observe(float64(st.Chunks))
	switch {
	case !errors.Is(err, ErrLimit):
	case limits.Series > 0 && uint64(st.Series) > limits.Series:
		m.dropped.WithLabelValues(reasonSeries).Inc()
	case limits.Samples > 0:
		m.dropped.WithLabelValues(reasonSamples).Inc()
	}
}
