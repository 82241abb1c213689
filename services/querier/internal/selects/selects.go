// Package selects is what a PromQL engine reads from: a storage.Queryable over the
// merged streams of all stores, in which the replicas of a series have become one.
//
// A select is a stream from the first store frame to the last sample. Series come
// in the order of their labels as they arrive; a chunk stays encoded until the
// iterator of its series reaches it, or for series about to be read next until another processor has
// time for them (ahead.go).
package selects

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"

	"github.com/promontory-io/promontory/libs/dedup"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/services/querier/internal/fanout"
	"github.com/promontory-io/promontory/services/querier/internal/receipt"
)

// Config is what holds for all queryables of a process.
type Config struct {
	// MaxConcurrent is how many selects of one query may be opening at once; 0 is no limit.
	MaxConcurrent int
	// Dedup is how replicas are merged; empty means exact.
	Dedup dedup.Func
}

// Options say what one query wants.
type Options struct {
	// Dedup merges series that differ in ReplicaLabels only.
	Dedup bool
	// ReplicaLabels are the labels that tell replicas apart; without any nothing is merged.
	ReplicaLabels []string
	// StoreMatchers restrict the stores: one list of matchers on __address__ must match. Empty means all.
	StoreMatchers [][]*labels.Matcher
	// MaxSourceResolution is the coarsest downsampled data that may be used; 0 means raw only.
	MaxSourceResolution time.Duration
	// PartialResponse turns the failure of a store into a warning.
	PartialResponse bool
	// SkipChunks asks for labels only.
	SkipChunks bool
	// Shard is the part of the series wanted, nil for all.
	Shard *thanos.ShardInfo
	// GatewayStats asks stores to tell what their part cost them.
	GatewayStats bool
	// Spend, if set, is told the bytes that were received for a selector; an error ends the select with it. Calls may be
	// concurrent.
	Spend func(ctx context.Context, selector string, bytes int) error
	// Observe, if set, is told what each select cost, when it ends. Calls may be concurrent.
	Observe func(SelectStats)
}

// SelectStats is what one select cost.
type SelectStats struct {
	Matchers []*labels.Matcher
	// Hints are those the engine gave; nil if it gave none.
	Hints *storage.SelectHints
	// Took is from the call until the last series was read.
	Took time.Duration
	// Series and Chunks count what was merged; Samples is an estimate of 120 a chunk.
	Series, Chunks, Samples int64
	// Stores is what each store contributed, sorted by address. It is also added to the receipt of the context.
	Stores []receipt.Store
}

// Warning is a text that says what is missing from an answer. All annotations of
// a select are Warnings: errors.As tells them from annotations of the engine.
type Warning string

// Error implements error with the text as it is.
func (w Warning) Error() string { return string(w) }

// Series opens merged streams. *fanout.Proxy is one.
type Series interface {
	Series(ctx context.Context, req *thanos.SeriesRequest, ms []*labels.Matcher, opts fanout.Options) (storeapi.Stream, error)
	LabelNames(ctx context.Context, req *thanos.LabelNamesRequest, ms []*labels.Matcher, opts fanout.Options) (*thanos.LabelNamesResponse, error)
	LabelValues(ctx context.Context, req *thanos.LabelValuesRequest, ms []*labels.Matcher, opts fanout.Options) (*thanos.LabelValuesResponse, error)
}

// Creator makes queryables. It is safe for concurrent use.
type Creator struct {
	series  Series
	cfg     Config
	metrics *metrics
	ahead   *aheadPool
}

// New returns a creator that reads from series. A nil registerer works.
func New(series Series, cfg Config, reg prometheus.Registerer) *Creator {
	if cfg.Dedup == "" {
		cfg.Dedup = dedup.Exact
	}
	return &Creator{series: series, cfg: cfg, metrics: newMetrics(reg, cfg.MaxConcurrent), ahead: defaultAhead()}
}

// Queryable returns the storage for one query. Its queriers are safe for concurrent
// use; closing one ends its streams. Failures of stores are annotations of type
// [Warning] under PartialResponse, else errors of the kinds of package storeapi.
func (c *Creator) Queryable(opts Options) storage.Queryable {
	gate := c.metrics.gates.New()
	return storage.QueryableFunc(func(mint, maxt int64) (storage.Querier, error) {
		return &querier{creator: c, opts: opts, gate: gate, mint: mint, maxt: maxt}, nil
	})
}
