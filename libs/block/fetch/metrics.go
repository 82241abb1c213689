package fetch

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	syncs    prometheus.Counter
	failures prometheus.Counter
	duration prometheus.Histogram
	synced   *prometheus.GaugeVec
	modified *prometheus.GaugeVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		syncs: f.NewCounter(prometheus.CounterOpts{
			Name: "thanos_blocks_meta_syncs_total",
			Help: "Syncs of block metadata begun.",
		}),
		failures: f.NewCounter(prometheus.CounterOpts{
			Name: "thanos_blocks_meta_sync_failures_total",
			Help: "Syncs of block metadata that failed, or that could not read all blocks.",
		}),
		duration: f.NewHistogram(prometheus.HistogramOpts{
			Name:    "thanos_blocks_meta_sync_duration_seconds",
			Help:    "Time taken by syncs of block metadata.",
			Buckets: []float64{0.01, 0.1, 1, 3, 10, 30, 100, 300, 600, 1000},
		}),
		synced: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "thanos_blocks_meta_synced",
			Help: "Blocks in each state after the last sync.",
		}, []string{"state"}),
		modified: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "thanos_blocks_meta_modified",
			Help: "Blocks whose metadata the last sync changed for its user, by change.",
		}, []string{"modified"}),
	}
	m.show(nil, nil)
	return m
}

// show sets all gauges, those of states that no block is in to zero.
func (m *metrics) show(counts map[State]int, modified map[Modification]int) {
	for _, s := range States() {
		m.synced.WithLabelValues(string(s)).Set(float64(counts[s]))
	}
	m.modified.WithLabelValues(string(ModifiedReplicaLabelRemoved)).Set(float64(modified[ModifiedReplicaLabelRemoved]))
}
