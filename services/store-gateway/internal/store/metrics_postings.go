package store

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/promontory-io/promontory/services/store-gateway/internal/blockread"
)

// codecMetrics are about postings on their way into and out of the index cache.
type codecMetrics struct {
	count, errors, seconds *prometheus.CounterVec
	original, compressed   *prometheus.CounterVec
}

func newCodecMetrics(counter func(name, help string, labels ...string) *prometheus.CounterVec) codecMetrics {
	return codecMetrics{
		count:      counter("cached_postings_compressions_total", "Postings compressed or expanded for the index cache.", "op"),
		errors:     counter("cached_postings_compression_errors_total", "Postings that could not be compressed or expanded.", "op"),
		seconds:    counter("cached_postings_compression_time_seconds_total", "Time spent compressing or expanding postings.", "op"),
		original:   counter("cached_postings_original_size_bytes_total", "Size of postings before they were compressed."),
		compressed: counter("cached_postings_compressed_size_bytes_total", "Size of postings after they were compressed."),
	}
}

func (m *codecMetrics) observe(tenant string, t blockread.Tally) {
	for op, c := range map[string]blockread.Codec{"encode": t.Encoded, "decode": t.Decoded} {
		m.count.WithLabelValues(op, tenant).Add(float64(c.Count))
		m.errors.WithLabelValues(op, tenant).Add(float64(c.Errors))
		m.seconds.WithLabelValues(op, tenant).Add(c.Time.Seconds())
	}
	m.original.WithLabelValues(tenant).Add(float64(t.Encoded.OriginalBytes))
	m.compressed.WithLabelValues(tenant).Add(float64(t.Encoded.EncodedBytes))
}

// lazyMetrics are about matchers that were checked on series and not by their postings.
type lazyMetrics struct {
	blocks, saved, overfetched prometheus.Counter
	groups                     *prometheus.CounterVec
}

func newLazyMetrics(f promauto.Factory) lazyMetrics {
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: prefix + name, Help: help})
	}
	m := lazyMetrics{
		blocks:      counter("lazy_expanded_postings_total", "Blocks read in which matchers were checked on the series and not by their postings."),
		saved:       counter("lazy_expanded_posting_size_bytes_total", "Size of the postings that were not read for it."),
		overfetched: counter("lazy_expanded_posting_series_overfetched_size_bytes_total", "Size of the series entries that were read in vain for it."),
		groups: f.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "lazy_expanded_posting_groups_total", Help: "Matchers that were checked on the series, by reason.",
		}, []string{"reason"}),
	}
	m.observe(blockread.Lazy{})
	return m
}

func (m *lazyMetrics) observe(l blockread.Lazy) {
	m.blocks.Add(float64(l.Blocks))
	m.saved.Add(float64(l.SavedBytes))
	m.overfetched.Add(float64(l.OverfetchedBytes))
	m.groups.WithLabelValues("keys_limit").Add(float64(l.GroupsByKeys))
	m.groups.WithLabelValues("postings_size").Add(float64(l.GroupsBySize))
}
