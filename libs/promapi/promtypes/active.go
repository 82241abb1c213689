package promtypes

import "time"

// ActiveQuery is a query that is running.
type ActiveQuery struct {
	// ID names it for the call that cancels it.
	ID string `json:"id"`
	// Kind is the call: query, query_range or series; grpc for one of a peer.
	Kind   string `json:"kind"`
	Query  string `json:"query"`
	Tenant string `json:"tenant"`
	// State is queued or running.
	State       string    `json:"state"`
	Began       time.Time `json:"began"`
	TookSeconds float64   `json:"tookSeconds"`
	// Start and End are the range asked for, StepSeconds is 0 but for range queries.
	Start       time.Time `json:"start"`
	End         time.Time `json:"end"`
	StepSeconds float64   `json:"stepSeconds"`
	// Bytes of series were received so far.
	Bytes int64 `json:"bytes"`
}

// ActiveQueries is the data of /api/v1/active_queries, the oldest first.
type ActiveQueries struct {
	Queries []ActiveQuery `json:"queries"`
}
