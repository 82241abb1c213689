package query

import (
	"encoding/json"

	"github.com/prometheus/prometheus/model/labels"
)

// Coverage is what a querier of ours says of how whole an answer is.
type Coverage string

const (
	// Complete is an answer to which all have contributed.
	Complete Coverage = "complete"
	// Covered is an answer from which parts are missing that replicas have given.
	Covered Coverage = "covered"
	// Incomplete is an answer from which something is missing.
	Incomplete Coverage = "incomplete"
)

// Receipt is what a querier says of an answer: the part of docs/format/receipt.md that rules need.
type Receipt struct {
	Coverage Coverage  `json:"coverage"`
	Missing  []Missing `json:"missing"`
}

// Missing is data that is not in an answer.
type Missing struct {
	Address string `json:"address"`
	// Labels are the external labels of the data; none where the store has never told.
	Labels labels.Labels `json:"labels"`
	Reason string        `json:"reason"`
	// Covered tells that replicas of it are in the answer.
	Covered bool `json:"covered"`
}

func (m Missing) String() string { return m.Address + " " + m.Labels.String() + ": " + m.Reason }

// whole reports whether nothing is missing that a replica has not given.
func (r *Receipt) whole() bool { return r != nil && (r.Coverage == Complete || r.Coverage == Covered) }

// excuse makes parts covered that are excused, and the whole where that was all.
func (r *Receipt) excuse(excused func(Missing) bool) {
	if r == nil || r.Coverage != Incomplete || len(r.Missing) == 0 {
		return
	}
	whole := true
	for i := range r.Missing {
		m := &r.Missing[i]
		m.Covered = m.Covered || excused(*m)
		whole = whole && m.Covered
	}
	if whole {
		r.Coverage = Covered
	}
}

// parseReceipt returns nil where there is none that can be read: then warnings are all there is.
func parseReceipt(text json.RawMessage) *Receipt {
	var r Receipt
	if len(text) == 0 || json.Unmarshal(text, &r) != nil {
		return nil
	}
	switch r.Coverage {
	case Complete, Covered, Incomplete:
		return &r
	}
	return nil
}
