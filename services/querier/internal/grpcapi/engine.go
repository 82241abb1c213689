// Package grpcapi serves the gRPC services of a querier: Store, Info, Rules, Targets,
// Metadata, Exemplars, Status and Query. With them one querier is a store of another.
package grpcapi

import (
	"context"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"

	"github.com/promontory-io/promontory/libs/promapi"
)

// QuerySpec is one PromQL query.
type QuerySpec struct {
	// Text is the expression.
	Text string
	// Start and End are the range of a range query, both the time of an instant query.
	Start, End time.Time
	// Step is positive for a range query and 0 for an instant query.
	Step time.Duration
	// Engine is the engine asked for, empty for the default.
	Engine promapi.Engine
	// LookbackDelta is that of the request, 0 for the default.
	LookbackDelta time.Duration
	// MaxSourceResolution is the coarsest data that may be served; it may lift the default lookback.
	MaxSourceResolution time.Duration
	// PerStepStats asks for statistics of each step.
	PerStepStats bool
	// Operators says that the tree of operators will be shown: each selector is then read by one of them.
	Operators bool
	// Remote allows peers to evaluate parts of the query, in distributed mode; nil for a query that has to read series here.
	Remote *RemoteSpec
}

// RemoteSpec is what peers are told that evaluate parts of a query, replicas always merged.
type RemoteSpec struct {
	ReplicaLabels   []string
	PartialResponse bool
}

// Engine evaluates PromQL.
type Engine interface {
	// NewQuery parses and prepares spec over q. The caller runs the query by Exec and must Close it when
	// done with the result. An error means that the expression is invalid.
	NewQuery(ctx context.Context, q storage.Queryable, spec QuerySpec) (promql.Query, error)
}
