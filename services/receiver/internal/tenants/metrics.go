package tenants

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/promontory-io/promontory/services/receiver/internal/verdict"
)

type metrics struct {
	updatesAttempted, updatesCompleted prometheus.Counter
	failedCommits                      prometheus.Counter
	journaled                          prometheus.Counter
	journalRejected                    prometheus.Counter
	rejected                           [verdict.Kinds]prometheus.Counter
	upkeepFailures                     *prometheus.CounterVec
}

// What upkeep does, as values of the label step.
const (
	stepCut    = "cut"
	stepUpload = "upload"
	stepPrune  = "prune"
	stepFlush  = "flush"
)

func newMetrics(reg prometheus.Registerer, m *Multi) *metrics {
	f := promauto.With(reg)
	out := &metrics{
		updatesAttempted: f.NewCounter(prometheus.CounterOpts{
			Name: "thanos_receive_multi_db_updates_attempted_total", Help: "Attempts to open the database of a tenant.",
		}),
		updatesCompleted: f.NewCounter(prometheus.CounterOpts{
			Name: "thanos_receive_multi_db_updates_completed_total", Help: "Databases of tenants that were opened.",
		}),
		failedCommits: f.NewCounter(prometheus.CounterOpts{
			Name: "promontory_receiver_failed_commits_total", Help: "Writes that a database could not take in, a full disk for example.",
		}),
		journaled: f.NewCounter(prometheus.CounterOpts{
			Name: "promontory_receiver_journal_bytes_total", Help: "Bytes written to journals while databases were being opened.",
		}),
		journalRejected: f.NewCounter(prometheus.CounterOpts{
			Name: "promontory_receiver_journal_rejected_samples_total", Help: "Samples from journals that databases had no place for.",
		}),
		upkeepFailures: f.NewCounterVec(prometheus.CounterOpts{
			Name: "promontory_receiver_upkeep_failures_total", Help: "Failures to cut, upload or prune the data of a tenant.",
		}, []string{"step"}),
	}
	for _, s := range []string{stepCut, stepUpload, stepPrune, stepFlush} {
		out.upkeepFailures.WithLabelValues(s)
	}
	rejected := f.NewCounterVec(prometheus.CounterOpts{
		Name: "promontory_receiver_rejected_samples_total", Help: "Samples that were not taken, by the kind of reason.",
	}, []string{"kind"})
	for k := range out.rejected {
		if k != int(verdict.OK) {
			out.rejected[k] = rejected.WithLabelValues(verdict.Kind(k).String())
		}
	}
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "promontory_receiver_tenants", Help: "Tenants with a database.",
	}, func() float64 { return float64(len(m.Tenants())) })
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "promontory_receiver_tenants_replaying", Help: "Tenants whose log is being replayed.",
	}, func() float64 { return float64(m.replaying()) })
	return out
}
