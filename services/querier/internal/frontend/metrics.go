package frontend

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are named as dashboards of query frontends have them.
type metrics struct {
	queries, split, sharded *prometheus.CounterVec
	extra, finer            prometheus.Counter
	retries                 prometheus.Histogram
	took                    *prometheus.HistogramVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		queries: f.NewCounterVec(prometheus.CounterOpts{
			Name: "thanos_query_frontend_queries_total", Help: "Requests by the kind of call.",
		}, []string{"op"}),
		split: f.NewCounterVec(prometheus.CounterOpts{
			Name: "thanos_frontend_split_queries_total", Help: "Parts into which requests were split by time.",
		}, []string{"tripperware"}),
		sharded: f.NewCounterVec(prometheus.CounterOpts{
			Name: "thanos_frontend_sharding_middleware_queries_total", Help: "Queries by whether they could be divided by series.",
		}, []string{"shardable", "tripperware"}),
		extra: f.NewCounter(prometheus.CounterOpts{
			Name: "thanos_frontend_downsampled_extra_queries_total", Help: "Queries asked again for coarser data where the beginning was missing.",
		}),
		finer: f.NewCounter(prometheus.CounterOpts{
			Name: "promontory_frontend_finer_answers_total", Help: "Parts of range queries that were taken from cached answers at shorter steps.",
		}),
		retries: f.NewHistogram(prometheus.HistogramOpts{
			Name: "cortex_query_frontend_retries", Help: "How often requests to the querier were tried again.", Buckets: []float64{0, 1, 2, 3, 4, 5},
		}),
		took: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "cortex_frontend_query_range_duration_seconds", Help: "Time it took to answer requests.", Buckets: prometheus.DefBuckets,
		}, []string{"method", "status_code"}),
	}
	for _, op := range ops() {
		m.queries.WithLabelValues(op)
	}
	for _, name := range []string{opRange, "labels"} {
		m.split.WithLabelValues(name)
	}
	for _, name := range []string{opRange, opInstant} {
		m.sharded.WithLabelValues("true", name)
		m.sharded.WithLabelValues("false", name)
	}
	return m
}

func (m *metrics) observe(op string, code int, took time.Duration) {
	m.took.WithLabelValues(op, strconv.Itoa(code)).Observe(took.Seconds())
}
