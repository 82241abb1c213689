package httpapi

import (
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/promontory-io/promontory/services/querier/internal/selects"
)

type metrics struct {
	// timespan is over range queries.
	timespan prometheus.Histogram
	duration *prometheus.HistogramVec
	classes  Telemetry
}

func newMetrics(reg prometheus.Registerer, t Telemetry, defaultTenant string) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		timespan: f.NewHistogram(prometheus.HistogramOpts{
			Name:    "thanos_query_range_requested_timespan_duration_seconds",
			Help:    "From start to end of range queries.",
			Buckets: prometheus.ExponentialBuckets(15*60, 2, 12), // a quarter of an hour to three weeks
		}),
		duration: f.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "thanos_store_api_query_duration_seconds",
			Help:    "Duration of queries that read series, by the class of how many series and samples they read.",
			Buckets: t.Durations,
		}, []string{"series_le", "samples_le", "tenant"}),
		classes: t,
	}
	for _, series := range append(slices.Clone(t.Series), -1) {
		for _, samples := range append(slices.Clone(t.Samples), -1) {
			m.duration.WithLabelValues(classText(series), classText(samples), defaultTenant)
		}
	}
	return m
}

// class is the label of the smallest bound that n is not above.
func class(bounds []float64, n int64) string {
	for _, b := range bounds {
		if float64(n) <= b {
			return classText(b)
		}
	}
	return classText(-1)
}

// classText writes a bound; a negative one stands for infinity.
func classText(bound float64) string {
	if bound < 0 {
		return "+Inf"
	}
	return strconv.FormatFloat(bound, 'f', -1, 64)
}

// queryDone counts a query by all its selects.
func (m *metrics) queryDone(tenant string, took time.Duration, all []selects.SelectStats) {
	if len(all) == 0 {
		return
	}
	var series, samples int64
	for _, s := range all {
		series += s.Series
		samples += s.Samples
	}
	m.duration.WithLabelValues(class(m.classes.Series, series), class(m.classes.Samples, samples), tenant).Observe(took.Seconds())
}

// observed collects what the selects of one query cost. It is safe for concurrent use.
type observed struct {
	mu  sync.Mutex // guards all
	all []selects.SelectStats
}

func (o *observed) add(s selects.SelectStats) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all = append(o.all, s)
}

// list returns what came in so far.
func (o *observed) list() []selects.SelectStats {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.all)
}
