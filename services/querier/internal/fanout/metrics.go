package fanout

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	emptyStreams prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	return &metrics{
		emptyStreams: promauto.With(reg).NewCounter(prometheus.CounterOpts{
			Name: "thanos_proxy_store_empty_stream_responses_total",
			Help: "Streams of stores that ended well without a series: the store was asked in vain.",
		}),
	}
}
