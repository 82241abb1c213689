package app

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// clientMetrics measure calls to queriers and Alertmanagers.
type clientMetrics struct {
	inFlight *prometheus.GaugeVec
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

func newClientMetrics(reg prometheus.Registerer) *clientMetrics {
	f := promauto.With(reg)
	return &clientMetrics{
		inFlight: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "http_client_in_flight_requests", Help: "Requests sent and not answered yet.",
		}, []string{"client"}),
		requests: f.NewCounterVec(prometheus.CounterOpts{
			Name: "http_client_request_total", Help: "Requests that were answered.",
		}, []string{"client", "code", "method"}),
		duration: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "http_client_request_duration_seconds", Help: "How long requests took.", Buckets: prometheus.DefBuckets,
		}, []string{"client", "code", "method"}),
	}
}

func (m *clientMetrics) wrap(client string, next http.RoundTripper) http.RoundTripper {
	name := prometheus.Labels{"client": client}
	return promhttp.InstrumentRoundTripperInFlight(m.inFlight.With(name),
		promhttp.InstrumentRoundTripperCounter(m.requests.MustCurryWith(name),
			promhttp.InstrumentRoundTripperDuration(m.duration.MustCurryWith(name), next)))
}
