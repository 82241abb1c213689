package promtypes

// Analysis is what one operator of a query cost, with those below it. Empty parts are left out, so the zero value is {}.
type Analysis struct {
	Name string `json:"name,omitempty"`
	// ExecutionTime is a Go duration such as "1.5ms".
	ExecutionTime string         `json:"executionTime,omitempty"`
	PeakSamples   int64          `json:"peakSamples,omitempty"`
	TotalSamples  int64          `json:"totalSamples,omitempty"`
	Fanout        []FanoutResult `json:"fanout,omitempty"`
	Children      []Analysis     `json:"children,omitempty"`
}

// FanoutResult is what one endpoint contributed to a selection.
type FanoutResult struct {
	EndpointAddr   string `json:"endpointAddr,omitempty"`
	Duration       string `json:"duration,omitempty"`
	BytesProcessed int64  `json:"bytesProcessed,omitempty"`
	NumResponses   int64  `json:"numResponses,omitempty"`
	Series         int64  `json:"series,omitempty"`
	Chunks         int64  `json:"chunks,omitempty"`
	Samples        int64  `json:"samples,omitempty"`
}

// Explanation is the data of the explain endpoints: the tree of operators of a query.
type Explanation struct {
	Name     string        `json:"name"`
	Children []Explanation `json:"children,omitempty"`
}
