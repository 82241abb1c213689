package grpcserver

import (
	"time"

	grpcprom "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/promontory-io/promontory/libs/service/tracing"
)

type metrics struct {
	server *grpcprom.ServerMetrics
	panics prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		server: grpcprom.NewServerMetrics(grpcprom.WithServerHandlingTimeHistogram(
			grpcprom.WithHistogramOpts(&prometheus.HistogramOpts{
				Buckets:                         []float64{0.001, 0.01, 0.1, 0.3, 0.6, 1, 3, 6, 9, 20, 30, 60, 90, 120},
				NativeHistogramBucketFactor:     1.1,
				NativeHistogramMaxBucketNumber:  100,
				NativeHistogramMinResetDuration: time.Hour,
			}),
		)),
		panics: promauto.With(reg).NewCounter(prometheus.CounterOpts{
			Name: "grpc_req_panics_recovered_total",
			Help: "Calls that ended in a panic, which was recovered.",
		}),
	}
	if reg != nil {
		reg.MustRegister(m.server)
	}
	return m
}

// exemplar gives a measured call the trace it belongs to.
var exemplar = grpcprom.WithExemplarFromContext(tracing.Exemplar)
