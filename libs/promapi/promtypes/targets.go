package promtypes

import (
	"time"

	"github.com/prometheus/prometheus/model/labels"
)

// Targets is the data of /api/v1/targets.
type Targets struct {
	ActiveTargets  []ActiveTarget  `json:"activeTargets"`
	DroppedTargets []DroppedTarget `json:"droppedTargets"`
}

// ActiveTarget is a target that is scraped.
type ActiveTarget struct {
	DiscoveredLabels labels.Labels `json:"discoveredLabels"`
	Labels           labels.Labels `json:"labels"`
	ScrapePool       string        `json:"scrapePool"`
	ScrapeURL        string        `json:"scrapeUrl"`
	GlobalURL        string        `json:"globalUrl"`
	LastError        string        `json:"lastError"`
	LastScrape       time.Time     `json:"lastScrape"`
	// LastScrapeDuration is seconds.
	LastScrapeDuration float64 `json:"lastScrapeDuration"`
	// Health is up, down or unknown.
	Health string `json:"health"`
}

// DroppedTarget is a target that relabelling removed.
type DroppedTarget struct {
	DiscoveredLabels labels.Labels `json:"discoveredLabels"`
}

// MetadataEntry is one description of a metric.
type MetadataEntry struct {
	Type string `json:"type"`
	Help string `json:"help"`
	Unit string `json:"unit"`
}

// Metadata is the data of /api/v1/metadata: descriptions by metric name.
type Metadata map[string][]MetadataEntry

// StoreStatus is one endpoint in the data of /api/v1/stores, which is a map from component type to these.
type StoreStatus struct {
	Name      string    `json:"name"`
	LastCheck time.Time `json:"lastCheck"`
	// LastError is null if the last check went well.
	LastError *string         `json:"lastError"`
	LabelSets []labels.Labels `json:"labelSets"`
	// MinTime and MaxTime are Unix milliseconds, both inclusive.
	MinTime int64 `json:"minTime"`
	MaxTime int64 `json:"maxTime"`
	// Group says that the address stands for several replicas, Strict that the store is asked although its last check failed.
	Group  bool `json:"group,omitempty"`
	Strict bool `json:"strict,omitempty"`
	// StoreHealth is what calls to the store have taught; nil leaves the key out.
	StoreHealth *StoreHealth `json:"health,omitempty"`
}

// StoreHealth is how quick a store is, and whether it is asked.
type StoreHealth struct {
	// Breaker is closed while the store is asked, open while it is not because its last calls failed, half-open
	// while one call finds out.
	Breaker string `json:"breaker"`
	// Failures is how many calls in a row failed, LastCallError why.
	Failures      int        `json:"failures"`
	LastCallError string     `json:"lastCallError,omitempty"`
	OpenUntil     *time.Time `json:"openUntil,omitempty"`
	// Calls is how many recent good calls the times to their first messages are of.
	Calls         int     `json:"calls"`
	MedianSeconds float64 `json:"medianSeconds"`
	P95Seconds    float64 `json:"p95Seconds"`
}

// Stores is the data of /api/v1/stores.
type Stores map[string][]StoreStatus
