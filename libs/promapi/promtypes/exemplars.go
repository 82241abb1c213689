package promtypes

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"

	"github.com/prometheus/prometheus/model/labels"
)

// SeriesExemplars are the exemplars of one series. The data of /api/v1/query_exemplars is a list of them.
type SeriesExemplars struct {
	SeriesLabels labels.Labels `json:"seriesLabels"`
	Exemplars    []Exemplar    `json:"exemplars"`
}

// Exemplar is one exemplar. In JSON the value is a string and the timestamp a number of seconds.
type Exemplar struct {
	Labels labels.Labels
	Value  float64
	// Timestamp is Unix milliseconds.
	Timestamp int64
}

type exemplarJSON struct {
	Labels    labels.Labels `json:"labels"`
	Value     string        `json:"value"`
	Timestamp json.Number   `json:"timestamp"`
}

// MarshalJSON implements [json.Marshaler].
func (x Exemplar) MarshalJSON() ([]byte, error) {
	format := byte('f')
	if abs := math.Abs(x.Value); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	ts := strconv.FormatInt(x.Timestamp/1000, 10)
	if ms := x.Timestamp % 1000; ms != 0 {
		if ms < 0 {
			ms = -ms
			if x.Timestamp > -1000 {
				ts = "-" + ts
			}
		}
		ts += fmt.Sprintf(".%03d", ms)
	}
	return json.Marshal(exemplarJSON{
		Labels:    x.Labels,
		Value:     strconv.FormatFloat(x.Value, format, -1, 64),
		Timestamp: json.Number(ts),
	})
}

// UnmarshalJSON implements [json.Unmarshaler].
func (x *Exemplar) UnmarshalJSON(b []byte) error {
	var j exemplarJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	v, err := strconv.ParseFloat(j.Value, 64)
	if err != nil {
		return fmt.Errorf("exemplar value: %w", err)
	}
	ts, err := strconv.ParseFloat(j.Timestamp.String(), 64)
	if err != nil {
		return fmt.Errorf("exemplar timestamp: %w", err)
	}
	ms := math.Round(ts * 1000)
	if math.IsNaN(ms) || math.Abs(ms) > math.MaxInt64/2 {
		return fmt.Errorf("exemplar timestamp %s is out of range", j.Timestamp)
	}
	*x = Exemplar{Labels: j.Labels, Value: v, Timestamp: int64(ms)}
	return nil
}
