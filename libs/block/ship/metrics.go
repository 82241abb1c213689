package ship

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	dirSyncs      prometheus.Counter
	dirSyncFails  prometheus.Counter
	uploads       prometheus.Counter
	uploadFails   prometheus.Counter
	corrupted     prometheus.Counter
	compactedDone prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	return &metrics{
		dirSyncs: f.NewCounter(prometheus.CounterOpts{
			Name: "thanos_shipper_dir_syncs_total",
			Help: "Comparisons of the TSDB folder with the bucket.",
		}),
		dirSyncFails: f.NewCounter(prometheus.CounterOpts{
			Name: "thanos_shipper_dir_sync_failures_total",
			Help: "Comparisons of the TSDB folder with the bucket that failed.",
		}),
		uploads: f.NewCounter(prometheus.CounterOpts{
			Name: "thanos_shipper_uploads_total",
			Help: "Blocks uploaded.",
		}),
		uploadFails: f.NewCounter(prometheus.CounterOpts{
			Name: "thanos_shipper_upload_failures_total",
			Help: "Uploads of blocks that failed.",
		}),
		corrupted: f.NewCounter(prometheus.CounterOpts{
			Name: "thanos_shipper_corrupted_blocks_total",
			Help: "Times a local block was found unreadable, once per block and sync.",
		}),
		compactedDone: f.NewGauge(prometheus.GaugeOpts{
			Name: "thanos_shipper_upload_compacted_done",
			Help: "1 when compacted blocks are uploaded too and all of them are in the bucket.",
		}),
	}
}
