package promtypes

import "github.com/prometheus/prometheus/model/labels"

// ReceiptVersion is the version of [Receipt].
const ReceiptVersion = 1

// Values of [Receipt].Coverage.
const (
	// CoverageComplete: every store that could have had a part of the answer gave all of it.
	CoverageComplete = "complete"
	// CoverageCovered: something is missing, and a replica made up for each part of it.
	CoverageCovered = "covered"
	// CoverageIncomplete: something is missing.
	CoverageIncomplete = "incomplete"
)

// Receipt is what an answer cost and what is missing from it; see docs/format/receipt.md.
type Receipt struct {
	Version       int              `json:"version"`
	Coverage      string           `json:"coverage"`
	QueuedSeconds float64          `json:"queuedSeconds"`
	TookSeconds   float64          `json:"tookSeconds"`
	Total         ReceiptCounts    `json:"total"`
	Stores        []ReceiptStore   `json:"stores"`
	Missing       []ReceiptMissing `json:"missing"`
}

// ReceiptCounts is what was received.
type ReceiptCounts struct {
	Series  int64 `json:"series"`
	Chunks  int64 `json:"chunks"`
	Samples int64 `json:"samples"`
	Bytes   int64 `json:"bytes"`
	Frames  int64 `json:"frames"`
}

// ReceiptStore is what one store contributed.
type ReceiptStore struct {
	Address   string          `json:"address"`
	Component string          `json:"component"`
	LabelSets []labels.Labels `json:"labelSets"`
	// State is answered, cut, warned, failed or lost.
	State             string  `json:"state"`
	Requests          int     `json:"requests"`
	QueuedSeconds     float64 `json:"queuedSeconds"`
	FirstFrameSeconds float64 `json:"firstFrameSeconds"`
	TookSeconds       float64 `json:"tookSeconds"`
	ReceiptCounts
	// Resolutions counts chunks by raw, 5m and 1h.
	Resolutions  map[string]int64 `json:"resolutions,omitempty"`
	Blocks       []string         `json:"blocks,omitempty"`
	CacheHits    *int64           `json:"cacheHits,omitempty"`
	CacheMisses  *int64           `json:"cacheMisses,omitempty"`
	BytesFetched *int64           `json:"bytesFetched,omitempty"`
	Hedged       int              `json:"hedged"`
	Error        string           `json:"error,omitempty"`
	Warnings     []string         `json:"warnings,omitempty"`
}

// ReceiptMissing is data of one store, external label set and stretch of time that may be missing.
type ReceiptMissing struct {
	Address   string        `json:"address"`
	Component string        `json:"component"`
	Labels    labels.Labels `json:"labels"`
	// MinTime and MaxTime are Unix milliseconds, both inclusive.
	MinTime   int64    `json:"minTime"`
	MaxTime   int64    `json:"maxTime"`
	Reason    string   `json:"reason"`
	Covered   bool     `json:"covered"`
	CoveredBy []string `json:"coveredBy,omitempty"`
}
