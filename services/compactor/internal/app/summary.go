package app

import (
	"maps"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// logSummary says in one line what a one-shot run has come to, for nobody can ask for its
// metrics afterwards.
func logSummary(logger *zap.Logger, reg prometheus.Gatherer, took time.Duration) {
	families, err := reg.Gather()
	if err != nil {
		logger.Debug("summary is incomplete", zap.Error(err))
	}
	total, requests := map[string]float64{}, map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			v := m.GetCounter().GetValue()
			total[f.GetName()] += v
			if f.GetName() != "thanos_objstore_bucket_operations_total" {
				continue
			}
			for _, l := range m.GetLabel() {
				if l.GetName() == "operation" {
					requests[l.GetValue()] += v
				}
			}
		}
	}
	fields := []zap.Field{
		zap.Duration("took", took),
		zap.Float64("compactions", total["thanos_compact_group_compactions_total"]),
		zap.Float64("downsampled", total["thanos_compact_downsample_total"]),
		zap.Float64("scratch_bytes", total["promontory_compactor_scratch_written_bytes_total"]),
		zap.Float64("bucket_requests", total["thanos_objstore_bucket_operations_total"]),
	}
	for _, op := range slices.Sorted(maps.Keys(requests)) {
		fields = append(fields, zap.Float64("bucket_"+op, requests[op]))
	}
	logger.Info("run done", fields...)
}
