package storeapi

import (
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/promontory-io/promontory/libs/chunks"
)

// Series is a label set with some or all of its chunks.
//
// Labels are sorted and own their memory. Chunks are ordered by minimum, then
// maximum time and may overlap; their data alias the frame they came in and must
// not be written to. Both may be kept for as long as needed.
type Series struct {
	Labels labels.Labels
	Chunks []chunks.AggrChunk
}

// Stream yields series sorted by label set. A label set may repeat in direct
// succession when its chunks came in several frames; a merged stream never
// repeats one. A Stream serves one goroutine.
type Stream interface {
	// Next moves to the next series; false means the end or an error, see Err.
	Next() bool
	// At is the current series. The value is overwritten by Next, what it
	// points to is not.
	At() *Series
	// Err is why the stream ended early, nil at a regular end.
	Err() error
	// Warnings are what the sources said is missing, complete after the end.
	Warnings() []string
	// Hints are the hints that came along, complete after the end.
	Hints() []*anypb.Any
	// Close ends the stream at any point and frees what it holds. It may be
	// called more than once.
	Close()
}

// sliceStream is a Stream over series in memory.
type sliceStream struct {
	series   []Series
	warnings []string
	hints    []*anypb.Any
	cur      int
}

// NewSliceStream returns a Stream over series, which must be sorted and are not
// copied.
func NewSliceStream(series []Series, warnings []string, hints []*anypb.Any) Stream {
	return &sliceStream{series: series, warnings: warnings, hints: hints, cur: -1}
}

func (s *sliceStream) Next() bool {
	if s.cur+1 >= len(s.series) {
		return false
	}
	s.cur++
	return true
}

func (s *sliceStream) At() *Series         { return &s.series[s.cur] }
func (s *sliceStream) Err() error          { return nil }
func (s *sliceStream) Warnings() []string  { return s.warnings }
func (s *sliceStream) Hints() []*anypb.Any { return s.hints }
func (s *sliceStream) Close()              { s.series = s.series[:0] }
