package promtypes

import "time"

// BuildInfo is the data of /api/v1/status/buildinfo.
type BuildInfo struct {
	Version   string `json:"version"`
	Revision  string `json:"revision"`
	Branch    string `json:"branch"`
	BuildUser string `json:"buildUser"`
	BuildDate string `json:"buildDate"`
	GoVersion string `json:"goVersion"`
}

// RuntimeInfo is the data of our own /api/v1/status/runtimeinfo.
type RuntimeInfo struct {
	StartTime      time.Time `json:"startTime"`
	CWD            string    `json:"CWD"`
	GoroutineCount int       `json:"goroutineCount"`
	GOMAXPROCS     int       `json:"GOMAXPROCS"`
	GOGC           string    `json:"GOGC"`
	GODEBUG        string    `json:"GODEBUG"`
	GOMEMLIMIT     int64     `json:"GOMEMLIMIT"`
}

// Flags is the data of /api/v1/status/flags: values by flag name.
type Flags map[string]string

// TSDBStatus is the data of /api/v1/status/tsdb.
type TSDBStatus struct {
	HeadStats                   HeadStats   `json:"headStats"`
	SeriesCountByMetricName     []Statistic `json:"seriesCountByMetricName"`
	LabelValueCountByLabelName  []Statistic `json:"labelValueCountByLabelName"`
	MemoryInBytesByLabelName    []Statistic `json:"memoryInBytesByLabelName"`
	SeriesCountByLabelValuePair []Statistic `json:"seriesCountByLabelValuePair"`
}

// HeadStats are figures of the newest, still growing part of a TSDB.
type HeadStats struct {
	NumSeries     uint64 `json:"numSeries"`
	NumLabelPairs int    `json:"numLabelPairs"`
	ChunkCount    int64  `json:"chunkCount"`
	// MinTime and MaxTime are Unix milliseconds.
	MinTime int64 `json:"minTime"`
	MaxTime int64 `json:"maxTime"`
}

// Statistic is a name and its figure.
type Statistic struct {
	Name  string `json:"name"`
	Value uint64 `json:"value"`
}
