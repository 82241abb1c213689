// Package requests counts what is asked of the bucket, and on whose behalf.
//
// Whoever works for a call of the Store API, for a round of the sync or for an index header says so once, in the context;
// a layer right above the bucket, below all caches, counts what arrives there. So the counts are what the bucket's owner is
// billed for: what a cache has answered is not among them, and each repetition of a failed request is. Two things are not told
// apart: a listing counts once, however many pages it takes, and hedged copies of a request are not seen here.
package requests

import (
	"context"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/thanos-io/objstore"
)

// Cause is on whose behalf the bucket is asked.
type Cause string

// The causes.
const (
	Series      Cause = "series"
	LabelNames  Cause = "label_names"
	LabelValues Cause = "label_values"
	// Sync is following the bucket: listing, metadata, markers.
	Sync Cause = "sync"
	// IndexHeader is making the headers of blocks that are new. One that is made because a call needs it counts for the call.
	IndexHeader Cause = "index_header"
	// Other is everything else.
	Other Cause = "other"
)

func causes() []Cause { return []Cause{Series, LabelNames, LabelValues, Sync, IndexHeader, Other} }

// operations are those of readers; a store gateway writes nothing.
func operations() []string {
	return []string{objstore.OpIter, objstore.OpGet, objstore.OpGetRange, objstore.OpExists, objstore.OpAttributes}
}

// Counter counts requests. It is safe for concurrent use. A nil Counter counts nothing.
type Counter struct {
	total *prometheus.CounterVec
	each  *prometheus.HistogramVec
}

// NewCounter returns a Counter with its metrics in reg, which may be nil.
func NewCounter(reg prometheus.Registerer) *Counter {
	f := promauto.With(reg)
	c := &Counter{
		total: f.NewCounterVec(prometheus.CounterOpts{
			Name: "promontory_store_gateway_bucket_requests_total", Help: "Requests that reached the bucket, by what they were made for and by operation.",
		}, []string{"cause", "operation"}),
		each: f.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "promontory_store_gateway_bucket_requests",
			Help:    "Requests that reached the bucket for one call, one round of the sync, or one index header.",
			Buckets: []float64{0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096, 16384, 65536},
		}, []string{"cause"}),
	}
	for _, cause := range causes() {
		for _, op := range operations() {
			c.total.WithLabelValues(string(cause), op)
		}
		if cause != Other {
			c.each.WithLabelValues(string(cause))
		}
	}
	return c
}

// tally is what was asked for one task.
type tally struct {
	cause Cause
	n     atomic.Int64
}

type tallyKey struct{}

// For returns a context whose requests are counted for cause, and what is to be called when the task is done. Within
// another task the requests are the inner one's alone.
func (c *Counter) For(ctx context.Context, cause Cause) (_ context.Context, done func()) {
	if c == nil {
		return ctx, func() {}
	}
	t := &tally{cause: cause}
	return context.WithValue(ctx, tallyKey{}, t), func() { c.each.WithLabelValues(string(cause)).Observe(float64(t.n.Load())) }
}

func (c *Counter) count(ctx context.Context, op string) {
	cause := Other
	if t, ok := ctx.Value(tallyKey{}).(*tally); ok {
		cause = t.cause
		t.n.Add(1)
	}
	c.total.WithLabelValues(string(cause), op).Inc()
}
