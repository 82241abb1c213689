package selects

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/promontory-io/promontory/libs/gate"
)

type metrics struct {
	gates *gate.Factory
}

func newMetrics(reg prometheus.Registerer, maxConcurrent int) *metrics {
	return &metrics{gates: gate.NewFactory(reg, "thanos_query_concurrent_selects_gate_selects", maxConcurrent)}
}
