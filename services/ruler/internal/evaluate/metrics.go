package evaluate

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/promontory-io/promontory/libs/rulefile"
)

type metrics struct {
	loaded   *prometheus.GaugeVec
	warnings *prometheus.CounterVec
	skipped  *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		loaded: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "thanos_rule_loaded_rules", Help: "Rules that are evaluated, by group.",
		}, []string{"strategy", "file", "group"}),
		warnings: f.NewCounterVec(prometheus.CounterOpts{
			Name: "thanos_rule_evaluation_with_warnings_total", Help: "Evaluations of an answer from which something was missing.",
		}, []string{"strategy"}),
		skipped: f.NewCounterVec(prometheus.CounterOpts{
			Name: "thanos_rule_evaluation_skipped_total", Help: "Evaluations of single rules that are missing from their results.",
		}, []string{"strategy"}),
	}
	for _, s := range rulefile.Strategies() {
		m.warnings.WithLabelValues(strings.ToLower(string(s)))
		m.skipped.WithLabelValues(strings.ToLower(string(s)))
	}
	return m
}
