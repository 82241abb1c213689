// Package gather asks all peers for what is no series: rules, targets, metadata of
// metrics, exemplars and statistics of their databases, and merges the answers.
//
// All calls behave alike. Peers are asked at the same time. A peer that fails, or is known and
// cannot be asked, is a warning with its address under partial response WARN, else the
// error of the call. Warnings of peers are passed on under WARN and end the call otherwise.
package gather

import (
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/services/querier/internal/endpoints"
)

// Config is what holds for all calls.
type Config struct {
	// ReplicaLabels are removed from rules, targets and exemplars before equal ones are
	// merged.
	ReplicaLabels []string
	// SelectorLabels are the querier's own external labels.
	SelectorLabels labels.Labels
	// ResponseTimeout is how long a peer may take for each message; 0 is for ever.
	ResponseTimeout time.Duration
}

// Gatherer is safe for concurrent use.
type Gatherer struct {
	source endpoints.Source
	cfg    Config
	logger *zap.Logger
}

// New returns a gatherer that asks the peers of source.
func New(source endpoints.Source, cfg Config, logger *zap.Logger) *Gatherer {
	return &Gatherer{source: source, cfg: cfg, logger: logger.Named("gather")}
}
