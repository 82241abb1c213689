package forward

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/promontory-io/promontory/services/receiver/internal/verdict"
)

const (
	resultSuccess = "success"
	resultError   = "error"
)

type metrics struct {
	requests, replications *prometheus.CounterVec
	factor                 prometheus.Gauge
	delay                  prometheus.Observer
	insisted               prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		requests: f.NewCounterVec(prometheus.CounterOpts{
			Name: "thanos_receive_forward_requests_total", Help: "Messages sent to other nodes.",
		}, []string{"result"}),
		replications: f.NewCounterVec(prometheus.CounterOpts{
			Name: "thanos_receive_replications_total", Help: "Writes that were replicated; a success is one of which enough nodes have everything.",
		}, []string{"result"}),
		factor: f.NewGauge(prometheus.GaugeOpts{
			Name: "thanos_receive_replication_factor", Help: "How many nodes each series goes to.",
		}),
		delay: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "thanos_receive_forward_delay_seconds", Help: "How long a message to another node took.",
			Buckets: []float64{0.001, 0.005, 0.01, 0.05, 0.1, 0.3, 0.6, 1, 3, 6, 9, 20},
		}, []string{"worker"}).WithLabelValues("0"),
		insisted: f.NewCounter(prometheus.CounterOpts{
			Name: "promontory_receiver_insisted_messages_total",
			Help: "Messages sent again to a node that could not be reached, because a quorum hung on it.",
		}),
	}
	for _, r := range []string{resultSuccess, resultError} {
		m.requests.WithLabelValues(r)
		m.replications.WithLabelValues(r)
	}
	return m
}

func result(ok bool) string {
	if ok {
		return resultSuccess
	}
	return resultError
}

func (m *metrics) forwarded(ok bool, took time.Duration) {
	m.requests.WithLabelValues(result(ok)).Inc()
	m.delay.Observe(took.Seconds())
}

func (m *metrics) replicated(fs []verdict.Failure) {
	worst := verdict.OK
	for i := range fs {
		worst = max(worst, fs[i].Kind)
	}
	m.replications.WithLabelValues(result(worst != verdict.Unavailable)).Inc()
}
