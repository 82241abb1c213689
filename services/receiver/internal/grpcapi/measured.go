package grpcapi

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/promontory-io/promontory/libs/storeapi"
)

// countEmpty counts Series answers without series, beside what every server of the
// Store API counts.
func countEmpty(reg prometheus.Registerer) func(context.Context, storeapi.WriterStats, error) {
	empty := promauto.With(reg).NewCounter(prometheus.CounterOpts{
		Name: "thanos_proxy_store_empty_stream_responses_total", Help: "Series calls whose answer had no series.",
	})
	return func(_ context.Context, stats storeapi.WriterStats, err error) {
		if err == nil && stats.Series == 0 {
			empty.Inc()
		}
	}
}
