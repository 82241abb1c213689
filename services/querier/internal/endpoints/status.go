package endpoints

import (
	"time"

	"github.com/prometheus/prometheus/model/labels"
)

// Status is one line of the list of stores that users see.
type Status struct {
	// Name is the address.
	Name string
	// ComponentType groups the list.
	ComponentType string
	LastCheck     time.Time
	// LastError is nil for a healthy peer.
	LastError        error
	LabelSets        []labels.Labels
	MinTime, MaxTime int64
	// Group and Strict are those of [Endpoint].
	Group, Strict bool
}

// Statuses returns one status for each peer of source, in the order of its list.
func Statuses(source Source) []Status {
	list := source.Endpoints()
	out := make([]Status, 0, len(list))
	for i := range list {
		e := &list[i]
		st := Status{
			Name: e.Addr, ComponentType: e.ComponentType, LastCheck: e.LastCheck,
			LastError: e.Err, LabelSets: e.LabelSets,
			Group: e.Group, Strict: e.Strict,
		}
		switch {
		case e.Store != nil:
			st.MinTime, st.MaxTime = e.Store.MinTime, e.Store.MaxTime
		case e.Exemplars != nil:
			st.MinTime, st.MaxTime = e.Exemplars.MinTime, e.Exemplars.MaxTime
		}
		out = append(out, st)
	}
	return out
}
