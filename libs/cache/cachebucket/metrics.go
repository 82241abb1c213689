package cachebucket

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/thanos-io/objstore"
)

// The kinds of things that are kept: the label "config".
const (
	kindChunks = "chunks"
	kindMeta   = "meta.jsons"
	kindBlocks = "blocks-iter"
)

const (
	fromCache  = "cache"
	fromBucket = "bucket"
)

type metrics struct {
	requests, hits     *prometheus.CounterVec
	requested          *prometheus.CounterVec
	fetched, refetched *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	factory := promauto.With(reg)
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return factory.NewCounterVec(prometheus.CounterOpts{Name: "thanos_store_bucket_cache_" + name, Help: help}, labels)
	}
	m := &metrics{
		requests:  counter("operation_requests_total", "Requests for things that the caching bucket keeps.", "operation", "config"),
		hits:      counter("operation_hits_total", "Requests that the caching bucket answered from its cache; subranges count as the part of the request that they are.", "operation", "config"),
		requested: counter("getrange_requested_bytes_total", "Bytes asked for from the caching bucket.", "config"),
		fetched:   counter("getrange_fetched_bytes_total", "Bytes that the caching bucket got, by where from.", "origin", "config"),
		refetched: counter("getrange_refetched_bytes_total", "Bytes that were read from the bucket though the cache had them, to save requests.", "origin", "config"),
	}
	for kind, ops := range map[string][]string{
		kindChunks: {objstore.OpGetRange, objstore.OpAttributes}, kindMeta: {objstore.OpGet, objstore.OpExists}, kindBlocks: {objstore.OpIter},
	} {
		for _, op := range ops {
			m.requests.WithLabelValues(op, kind)
			m.hits.WithLabelValues(op, kind)
		}
	}
	m.requested.WithLabelValues(kindChunks)
	m.fetched.WithLabelValues(fromCache, kindChunks)
	m.fetched.WithLabelValues(fromBucket, kindChunks)
	m.refetched.WithLabelValues(fromCache, kindChunks)
	return m
}

// asked counts a request and, as a part between 0 and 1, how far the cache answered it.
func (m *metrics) asked(op, kind string, hit float64) {
	m.requests.WithLabelValues(op, kind).Inc()
	m.hits.WithLabelValues(op, kind).Add(hit)
}
