// Package fanout asks many stores as if they were one.
//
// A request goes to the stores whose announced time range and labels can hold an answer, at the
// same time, each stream read ahead by a bounded number of frames. The answers, sorted
// each, are merged into one sorted stream that never holds more than those frames.
//
// What fails is named: under partial response a failing store becomes a warning
// with its address, its labels and the range that may be missing, and the rest goes on;
// else it ends the request. A store that is known but cannot be asked counts as failing.
package fanout

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/services/querier/internal/endpoints"
	"github.com/promontory-io/promontory/services/querier/internal/health"
	"github.com/promontory-io/promontory/services/querier/internal/receipt"
)

// Config is what holds for all requests through a proxy.
type Config struct {
	// SelectorLabels are the external labels of the proxy itself: a request that rejects one of them has
	// no answer here. They are not added to series.
	SelectorLabels labels.Labels
	// Relabel picks databases behind the stores by their labels; empty picks all.
	Relabel []*relabel.Config
	// ResponseTimeout is how long a store may take for its next frame, or for a label call; 0 is for ever.
	ResponseTimeout time.Duration
	// ReadAhead is how many frames of each store are received before they are asked for; 0 means 20.
	ReadAhead int
	// Health learns how stores do and keeps those from being asked that fail again and again; nil learns nothing.
	Health *health.Tracker
}

// Options are what one request says beside its message.
type Options struct {
	// StoreMatchers restrict the stores: one list of matchers on __address__ must match. Empty means all.
	StoreMatchers [][]*labels.Matcher
	// Stats, if set, collects what each store contributed and what is missing.
	Stats *receipt.Stats
	// ReplicaLabels tell which stores of a label call can stand in for each other; a Series request says so itself.
	ReplicaLabels []string
	// Queued is how long the request has waited already, for the stats.
	Queued func() time.Duration
	// GatewayStats asks stores to tell what their part cost them.
	GatewayStats bool
	// WholeChunks asks stores that cut chunks to the range of the request for a range at whose ends no chunk is cut.
	WholeChunks bool
	// OnFrame, if set, is told the bytes of each frame of a Series answer; an error ends the request with it, whatever the
	// partial response strategy is. Calls may be concurrent.
	OnFrame func(bytes int) error
}

// Proxy is safe for concurrent use.
type Proxy struct {
	source  endpoints.Source
	cfg     Config
	logger  *zap.Logger
	metrics *metrics
	hedges  hedgeBudget
}

// New returns a proxy over the stores of source. A nil registerer works.
func New(source endpoints.Source, cfg Config, logger *zap.Logger, reg prometheus.Registerer) *Proxy {
	if cfg.ReadAhead <= 0 {
		cfg.ReadAhead = 20
	}
	if cfg.Health == nil {
		cfg.Health = health.New(health.Config{}, nil, nil)
	}
	return &Proxy{source: source, cfg: cfg, logger: logger.Named("fanout"), metrics: newMetrics(reg)}
}
