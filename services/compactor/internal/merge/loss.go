package merge

import (
	"github.com/promontory-io/promontory/services/compactor/internal/read"
)

// maxLossDetails bounds how many losses are described; all are counted.
const maxLossDetails = 20

// Loss is what could not be read of a damaged block.
type Loss struct {
	// Entries is how many unreadable stretches the index had, each one or more series.
	Entries int `json:"index_gaps"`
	// Chunks is how many chunks could not be read, Series of how many series.
	Chunks int `json:"chunks"`
	Series int `json:"series"`
	// Details describe the first of them.
	Details []string `json:"details,omitempty"`
}

// Any reports whether anything was lost.
func (l *Loss) Any() bool { return l.Entries+l.Chunks > 0 }

func (l *Loss) addIndex(err error) {
	l.Entries++
	l.describe(err)
}

func (l *Loss) addChunk(err error, firstOfSeries bool) {
	l.Chunks++
	if firstOfSeries {
		l.Series++
	}
	l.describe(err)
}

func (l *Loss) describe(err error) {
	if len(l.Details) >= maxLossDetails {
		return
	}
	if c, ok := read.AsCorrupt(err); ok {
		l.Details = append(l.Details, c.Error())
		return
	}
	l.Details = append(l.Details, err.Error())
}
