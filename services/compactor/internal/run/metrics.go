package run

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/promontory-io/promontory/libs/block"
)

type metrics struct {
	iterations, retries                              prometheus.Counter
	halted                                           prometheus.Gauge
	cleanupLoops, partialAttempts, cleaned, cleanErr prometheus.Counter
	marked                                           *prometheus.CounterVec
	garbage, gcRuns, gcFailures                      prometheus.Counter
	gcDuration                                       prometheus.Histogram
	compactions, started, completed, failures        *prometheus.CounterVec
	vertical                                         *prometheus.CounterVec
	downsamples, downsampleFailures                  *prometheus.CounterVec
	downsampleDuration                               *prometheus.HistogramVec
	todoCompactions, todoBlocks, todoDown, todoDel   prometheus.Gauge

	quarantined, setAside, leaseHeld, etaSeconds prometheus.Gauge
	salvaged, lostChunks, skippedSamples         prometheus.Counter
	scratchBytes                                 prometheus.Counter
	lastSuccess                                  *prometheus.GaugeVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	const p = "thanos_compact_"
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return f.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	byRes := func(name, help string) *prometheus.CounterVec {
		v := f.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"resolution"})
		for _, r := range []int64{block.ResolutionRaw, block.Resolution5m, block.Resolution1h} {
			v.WithLabelValues(strconv.FormatInt(r, 10))
		}
		return v
	}
	m := &metrics{
		iterations:      counter(p+"iterations_total", "Times that everything there was to compact was done."),
		retries:         counter(p+"retries_total", "Jobs and syncs that failed and are tried again."),
		halted:          gauge(p+"halted", "Always 0: this compactor does not halt."),
		cleanupLoops:    counter(p+"block_cleanup_loops_total", "Clean-ups of the bucket."),
		partialAttempts: counter(p+"aborted_partial_uploads_deletion_attempts_total", "Attempts to delete what uploads that were cut off have left."),
		cleaned:         counter(p+"blocks_cleaned_total", "Blocks deleted because they had been marked for long enough."),
		cleanErr:        counter(p+"block_cleanup_failures_total", "Blocks that could not be deleted."),
		marked:          f.NewCounterVec(prometheus.CounterOpts{Name: p + "blocks_marked_total", Help: "Markers set."}, []string{"marker", "reason"}),
		garbage:         counter(p+"garbage_collected_blocks_total", "Blocks marked for deletion because others contain them."),
		gcRuns:          counter(p+"garbage_collection_total", "Searches for blocks that others contain."),
		gcFailures:      counter(p+"garbage_collection_failures_total", "Such searches that failed."),
		gcDuration: f.NewHistogram(prometheus.HistogramOpts{
			Name: p + "garbage_collection_duration_seconds", Help: "Time taken by them.", Buckets: []float64{0.01, 0.1, 1, 10, 60, 300, 1800},
		}),
		compactions:        byRes(p+"group_compactions_total", "Compactions that made a block."),
		started:            byRes(p+"group_compaction_runs_started_total", "Compactions begun."),
		completed:          byRes(p+"group_compaction_runs_completed_total", "Compactions ended well, with or without a block."),
		failures:           byRes(p+"group_compactions_failures_total", "Compactions that failed."),
		vertical:           byRes(p+"group_vertical_compactions_total", "Compactions of blocks that overlapped."),
		downsamples:        byRes(p+"downsample_total", "Downsampled blocks made, by the resolution of the source."),
		downsampleFailures: byRes(p+"downsample_failures_total", "Blocks that could not be downsampled, by the resolution of the source."),
		downsampleDuration: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: p + "downsample_duration_seconds", Help: "Time taken by downsampling, by the resolution of the source.",
			Buckets: []float64{0.1, 1, 10, 30, 60, 300, 900, 3600, 4 * 3600},
		}, []string{"resolution"}),
		todoCompactions: gauge(p+"todo_compactions", "Compactions to be done."),
		todoBlocks:      gauge(p+"todo_compaction_blocks", "Blocks to be compacted."),
		todoDown:        gauge(p+"todo_downsample_blocks", "Downsampled blocks to be made."),
		todoDel:         gauge(p+"todo_deletion_blocks", "Blocks whose retention is over and that are not marked yet."),

		quarantined:    gauge("promontory_compactor_quarantined_blocks", "Blocks set aside with a mark because they cannot be read."),
		setAside:       gauge("promontory_compactor_problem_blocks", "Blocks that planning leaves out: overlaps that may not be merged, clocks in the future, missing pieces."),
		leaseHeld:      gauge("promontory_compactor_lease_held", "Whether this process holds the lease."),
		etaSeconds:     gauge("promontory_compactor_estimated_seconds_left", "Estimated time until there is nothing left to do, 0 if unknown."),
		salvaged:       counter("promontory_compactor_salvaged_blocks_total", "Broken blocks whose readable content was saved into a new one."),
		lostChunks:     counter("promontory_compactor_lost_chunks_total", "Chunks that could not be saved from broken blocks."),
		skippedSamples: counter("promontory_compactor_downsample_skipped_samples_total", "Samples that cannot be downsampled: native histograms with custom buckets."),
		scratchBytes:   counter("promontory_compactor_scratch_written_bytes_total", "Bytes written to the scratch folder for blocks that were made."),
		lastSuccess:    f.NewGaugeVec(prometheus.GaugeOpts{Name: "promontory_compactor_last_success_timestamp_seconds", Help: "When a lane last ended well, Unix time."}, []string{"lane"}),
	}
	for _, lane := range []string{laneCompact, laneDownsample, laneUpkeep, laneRetention} {
		m.lastSuccess.WithLabelValues(lane)
	}
	for _, r := range []block.Reason{block.ReasonManual, block.ReasonIndexSizeExceeding, block.ReasonIndexOutOfOrderChunk, block.ReasonDownsampleVerticalCompaction} {
		m.marked.WithLabelValues(block.NoCompactMarkFilename, string(r))
	}
	m.marked.WithLabelValues(block.DeletionMarkFilename, "")
	m.marked.WithLabelValues(block.NoDownsampleMarkFilename, string(block.ReasonManual))
	return m
}
