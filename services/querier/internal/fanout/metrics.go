package fanout

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	emptyStreams prometheus.Counter
	hedged       prometheus.Counter
	hedgesWon    prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	return &metrics{
		hedged: f.NewCounter(prometheus.CounterOpts{
			Name: "promontory_querier_hedged_requests_total",
			Help: "Calls to endpoint groups that were put to another replica as well, because the first took its time or failed.",
		}),
		hedgesWon: f.NewCounter(prometheus.CounterOpts{
			Name: "promontory_querier_hedged_requests_won_total",
			Help: "Those of them in which the other replica answered first.",
		}),
		emptyStreams: f.NewCounter(prometheus.CounterOpts{
			Name: "thanos_proxy_store_empty_stream_responses_total",
			Help: "Streams of stores that ended well without a series: the store was asked in vain.",
		}),
	}
}
