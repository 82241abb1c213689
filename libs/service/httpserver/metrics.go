package httpserver

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/promontory-io/promontory/libs/service/tracing"
)

// metrics measures requests. Its label values come from us, from a closed list of methods and
// status codes and, where asked for, from the tenant.
type metrics struct {
	tenant   func(*http.Request) string // nil: no such label
	duration *prometheus.HistogramVec
	reqSize  *prometheus.HistogramVec
	respSize *prometheus.HistogramVec
	total    *prometheus.CounterVec
	inflight *prometheus.GaugeVec
}

func newMetrics(reg prometheus.Registerer, tenant func(*http.Request) string) *metrics {
	labels := []string{"code", "handler", "method"}
	open := []string{"handler", "method"}
	if tenant != nil {
		labels, open = append(labels, "tenant"), append(open, "tenant")
	}
	sizes := prometheus.ExponentialBuckets(64, 2, 10)
	f := promauto.With(reg)
	return &metrics{
		tenant: tenant,
		duration: f.NewHistogramVec(prometheus.HistogramOpts{
			Name:                            "http_request_duration_seconds",
			Help:                            "Time it took to answer HTTP requests.",
			Buckets:                         []float64{0.001, 0.01, 0.1, 0.3, 0.6, 1, 3, 6, 9, 20, 30, 60, 90, 120, 240, 360, 720},
			NativeHistogramBucketFactor:     1.1,
			NativeHistogramMaxBucketNumber:  100,
			NativeHistogramMinResetDuration: time.Hour,
		}, labels),
		reqSize: f.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "http_request_size_bytes",
			Help:    "Approximate size of HTTP requests.",
			Buckets: sizes,
		}, labels),
		respSize: f.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "http_response_size_bytes",
			Help:    "Size of the bodies of HTTP responses, as sent.",
			Buckets: sizes,
		}, labels),
		total: f.NewCounterVec(prometheus.CounterOpts{
			Name: "http_requests_total",
			Help: "HTTP requests answered.",
		}, labels),
		inflight: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "http_inflight_requests",
			Help: "HTTP requests being answered.",
		}, open),
	}
}

// begin counts a request in; the function it returns counts it out, with the status and the body size of the
// answer.
func (m *metrics) begin(handler string, r *http.Request) func(code int, written int64) {
	method := knownMethod(r.Method)
	var tenant []string
	if m.tenant != nil {
		tenant = []string{m.tenant(r)}
	}
	inflight := m.inflight.WithLabelValues(append([]string{handler, method}, tenant...)...)
	inflight.Inc()
	size := requestSize(r)
	start := time.Now()
	return func(code int, written int64) {
		inflight.Dec()
		values := append([]string{strconv.Itoa(code), handler, strings.ToLower(method)}, tenant...)
		took := time.Since(start).Seconds()
		duration := m.duration.WithLabelValues(values...)
		labels := tracing.Exemplar(r.Context())
		if observer, ok := duration.(prometheus.ExemplarObserver); ok && labels != nil {
			observer.ObserveWithExemplar(took, labels)
		} else {
			duration.Observe(took)
		}
		m.reqSize.WithLabelValues(values...).Observe(float64(size))
		m.respSize.WithLabelValues(values...).Observe(float64(written))
		m.total.WithLabelValues(values...).Inc()
	}
}

// knownMethod keeps the label bounded: a client can send any word as its method.
func knownMethod(method string) string {
	known := []string{
		http.MethodGet, http.MethodPost, http.MethodOptions, http.MethodHead, http.MethodPut,
		http.MethodDelete, http.MethodPatch, http.MethodConnect, http.MethodTrace,
	}
	if slices.Contains(known, method) {
		return method
	}
	return "UNKNOWN"
}

// requestSize is the size of a request as far as it is known without reading the body.
func requestSize(r *http.Request) int64 {
	n := int64(len(r.Method) + len(r.Proto) + len(r.Host))
	if r.URL != nil {
		n += int64(len(r.URL.String()))
	}
	for name, values := range r.Header {
		n += int64(len(name))
		for _, v := range values {
			n += int64(len(v))
		}
	}
	return n + max(r.ContentLength, 0)
}
