package store

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/promontory-io/promontory/libs/service/requestctx"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/services/store-gateway/internal/blockread"
)

const prefix = "thanos_bucket_store_"

// metrics tell what Series requests cost. Names and labels are those that existing
// dashboards read.
type metrics struct {
	touched, fetched, touchedBytes, fetchedBytes *prometheus.HistogramVec
	blocks, found, merge, series                 *prometheus.HistogramVec
	// fetchTime is by kind: wall time of a request's reads, and their sum over all blocks. Reads of
	// one request overlap, so only the sum is measured, and both show it.
	fetchTime   map[blockread.Kind][]*prometheus.HistogramVec
	dropped     *prometheus.CounterVec
	refetches   map[blockread.Kind]*prometheus.CounterVec
	empty       *prometheus.CounterVec
	postings    *prometheus.HistogramVec
	codec       codecMetrics
	lazy        lazyMetrics
	brokenReads prometheus.Counter
	evicted     prometheus.Counter
	chunkSizes  *sizes
}

var (
	countBuckets   = []float64{1, 10, 100, 1000, 10000, 100000, 1000000}
	secondsBuckets = []float64{0.001, 0.01, 0.1, 0.3, 0.6, 1, 3, 6, 9, 20, 30, 60, 90, 120}
	sizeBuckets    = []float64{32, 256, 512, 1024, 32 << 10, 256 << 10, 512 << 10, 1 << 20, 32 << 20, 64 << 20, 128 << 20, 256 << 20, 512 << 20}
)

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return f.NewHistogramVec(prometheus.HistogramOpts{Name: prefix + name, Help: help, Buckets: buckets}, append(labels, "tenant"))
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return f.NewCounterVec(prometheus.CounterOpts{Name: prefix + name, Help: help}, append(labels, "tenant"))
	}
	m := &metrics{
		touched:      histogram("series_data_touched", "Items that a Series request needed, by kind.", countBuckets, "data_type"),
		fetched:      histogram("series_data_fetched", "Items that a Series request read from the bucket, by kind.", countBuckets, "data_type"),
		touchedBytes: histogram("series_data_size_touched_bytes", "Bytes that a Series request needed, by kind.", sizeBuckets, "data_type"),
		fetchedBytes: histogram("series_data_size_fetched_bytes", "Bytes that a Series request read from the bucket, by kind.", sizeBuckets, "data_type"),
		blocks:       histogram("series_blocks_queried", "Blocks that a Series request read.", []float64{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096}),
		found:        histogram("series_get_all_duration_seconds", "Time until all blocks of a Series request had their first series.", secondsBuckets),
		merge:        histogram("series_merge_duration_seconds", "Time to merge and send the series of a request.", secondsBuckets),
		series:       histogram("series_result_series", "Series in the answer to a Series request.", countBuckets),
		fetchTime: map[blockread.Kind][]*prometheus.HistogramVec{
			blockread.Postings: {histogram("postings_fetch_duration_seconds", "Time a request spent reading postings, over all blocks.", secondsBuckets)},
			blockread.Series: {
				histogram("series_fetch_duration_seconds", "Time a request spent reading series entries, over all blocks.", secondsBuckets),
				histogram("series_fetch_duration_sum_seconds", "Time a request spent reading series entries, over all blocks.", secondsBuckets),
			},
			blockread.Chunks: {
				histogram("chunks_fetch_duration_seconds", "Time a request spent reading chunks, over all blocks.", secondsBuckets),
				histogram("chunks_fetch_duration_sum_seconds", "Time a request spent reading chunks, over all blocks.", secondsBuckets),
			},
		},
		dropped: counter("queries_dropped_total", "Requests refused because of a limit.", "reason"),
		refetches: map[blockread.Kind]*prometheus.CounterVec{
			blockread.Series: counter("series_refetches_total", "Series entries read again because they were larger than estimated."),
			blockread.Chunks: counter("chunk_refetches_total", "Chunks read again because they were larger than estimated."),
		},
		empty:    counter("empty_postings_total", "Blocks read in which no series matched."),
		postings: histogram("postings_size_bytes", "Size of the postings that a Series request needed.", sizeBuckets),
		codec:    newCodecMetrics(counter),
		lazy:     newLazyMetrics(f),
		brokenReads: f.NewCounter(prometheus.CounterOpts{
			Name: "promontory_store_gateway_broken_block_reads_total", Help: "Blocks that could not be read to their end for an answer, which went on without the rest of them.",
		}),
		evicted: f.NewCounter(prometheus.CounterOpts{
			Name: "promontory_store_gateway_slow_clients_ended_total", Help: "Series requests ended because their clients did not read while others waited.",
		}),
		chunkSizes: newSizes(prefix+"sent_chunk_size_bytes", "Size of the chunks sent.", sizeBuckets),
	}
	if reg != nil {
		reg.MustRegister(m.chunkSizes)
	}
	m.present(requestctx.DefaultTenant)
	return m
}

// present makes the series of a tenant exist before there is anything to count.
func (m *metrics) present(tenant string) {
	for _, k := range blockread.Kinds() {
		for _, v := range []*prometheus.HistogramVec{m.touched, m.fetched, m.touchedBytes, m.fetchedBytes} {
			v.WithLabelValues(k.String(), tenant)
		}
		for _, v := range m.fetchTime[k] {
			v.WithLabelValues(tenant)
		}
	}
	for _, v := range []*prometheus.HistogramVec{m.blocks, m.found, m.merge, m.series} {
		v.WithLabelValues(tenant)
	}
	m.empty.WithLabelValues(tenant)
	for _, v := range m.refetches {
		v.WithLabelValues(tenant)
	}
	for _, reason := range []string{"series", "chunks", "bytes", "memory"} {
		m.dropped.WithLabelValues(reason, tenant)
	}
	m.chunkSizes.batch(tenant).flush()
	m.postings.WithLabelValues(tenant)
	m.codec.observe(tenant, blockread.Tally{})
}

// observe counts a finished request.
func (m *metrics) observe(tenant string, t blockread.Tally, w storeapi.WriterStats, found, all time.Duration) {
	for _, k := range blockread.Kinds() {
		c := t.Kinds[k]
		m.touched.WithLabelValues(k.String(), tenant).Observe(float64(c.Touched))
		m.fetched.WithLabelValues(k.String(), tenant).Observe(float64(c.Fetched))
		m.touchedBytes.WithLabelValues(k.String(), tenant).Observe(float64(c.TouchedBytes))
		m.fetchedBytes.WithLabelValues(k.String(), tenant).Observe(float64(c.FetchedBytes))
		for _, v := range m.fetchTime[k] {
			v.WithLabelValues(tenant).Observe(c.FetchTime.Seconds())
		}
		if v := m.refetches[k]; v != nil && c.Refetches > 0 {
			v.WithLabelValues(tenant).Add(float64(c.Refetches))
		}
	}
	m.blocks.WithLabelValues(tenant).Observe(float64(t.Blocks))
	m.found.WithLabelValues(tenant).Observe(found.Seconds())
	m.merge.WithLabelValues(tenant).Observe((all - found).Seconds())
	m.series.WithLabelValues(tenant).Observe(float64(w.Series))
	m.empty.WithLabelValues(tenant).Add(float64(t.EmptyPostings))
	m.postings.WithLabelValues(tenant).Observe(float64(t.Kinds[blockread.Postings].TouchedBytes))
	m.codec.observe(tenant, t)
	m.lazy.observe(t.Lazy)
}
