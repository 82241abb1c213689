package receipt

import (
	"cmp"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
)

// Component types whose announcements mean something special here.
const (
	componentStore   = "store"
	componentQuery   = "query"
	componentReceive = "receive"
	componentUnknown = "unknown-store-api"
)

// Holding is data that a store has: those of one external label set over one stretch of time.
type Holding struct {
	Addr, Component string
	Labels          labels.Labels
	// MinTime and MaxTime are Unix milliseconds, both inclusive.
	MinTime, MaxTime int64
}

// Cover returns gaps with those holdings that make up for them: copies by a replica, whose labels differ in the
// replica labels only, and the blocks of the same producer elsewhere. Only stores that answered whole may be among the
// holdings. A gap that is covered in part is cut where cover begins and ends. The result is sorted by
// address, labels and time.
//
// Labels are believed carefully. Store-gateways and queriers may share one producer's blocks with others, so
// another one with the same labels makes up for nothing, and a replica that is itself missing somewhere is no
// cover. Receivers hold shares of their replicas' data.
func Cover(gaps []Gap, holdings []Holding, replicaLabels []string) []Gap {
	var out []Gap
	strip := stripper(replicaLabels)
	for _, g := range gaps {
		if g.Labels.IsEmpty() || g.MinTime == 0 && g.MaxTime == 0 {
			out = append(out, g)
			continue
		}
		group := strip(g.Labels)
		var by []Holding
		for _, h := range holdings {
			if h.MinTime <= g.MaxTime && h.MaxTime >= g.MinTime && labels.Equal(strip(h.Labels), group) && copies(g, h, gaps) {
				by = append(by, h)
			}
		}
		out = append(out, cut(g, by)...)
	}
	slices.SortStableFunc(out, func(a, b Gap) int {
		return cmp.Or(cmp.Compare(a.Addr, b.Addr), labels.Compare(a.Labels, b.Labels), cmp.Compare(a.MinTime, b.MinTime))
	})
	return out
}

// copies reports whether h, whose labels agree with those of g but for replica labels, can be trusted to hold the same.
func copies(g Gap, h Holding, gaps []Gap) bool {
	if labels.Equal(g.Labels, h.Labels) {
		return ownsItsData(g.Component) && sharesBlocks(h.Component)
	}
	if !ownsItsData(g.Component) && !sharesBlocks(g.Component) || g.Component == componentReceive || h.Component == componentReceive {
		return false
	}
	// The replica's own data may be scattered, and a part of it missing too.
	return !slices.ContainsFunc(gaps, func(other Gap) bool {
		return sharesBlocks(other.Component) && labels.Equal(other.Labels, h.Labels) &&
			other.MinTime <= h.MaxTime && other.MaxTime >= h.MinTime
	})
}

func sharesBlocks(component string) bool {
	return component == componentStore || component == componentQuery
}

// ownsItsData reports whether labels alone name the data of a peer.
func ownsItsData(component string) bool {
	return !sharesBlocks(component) && component != componentUnknown
}

func stripper(replicaLabels []string) func(labels.Labels) labels.Labels {
	if len(replicaLabels) == 0 {
		return func(l labels.Labels) labels.Labels { return l }
	}
	return func(l labels.Labels) labels.Labels {
		return labels.NewBuilder(l).Del(replicaLabels...).Labels()
	}
}

// cut divides g into stretches with and without cover.
func cut(g Gap, by []Holding) []Gap {
	// The places at which cover may change, each the first millisecond of a stretch.
	starts := []int64{g.MinTime}
	for _, h := range by {
		if h.MinTime > g.MinTime {
			starts = append(starts, h.MinTime)
		}
		if h.MaxTime < g.MaxTime {
			starts = append(starts, h.MaxTime+1)
		}
	}
	slices.Sort(starts)
	starts = slices.Compact(starts)
	var out []Gap
	for i, start := range starts {
		part := g
		part.MinTime, part.CoveredBy = start, nil
		if i+1 < len(starts) {
			part.MaxTime = starts[i+1] - 1
		}
		for _, h := range by {
			if h.MinTime <= part.MinTime && h.MaxTime >= part.MaxTime {
				part.CoveredBy = append(part.CoveredBy, h.Addr)
			}
		}
		slices.Sort(part.CoveredBy)
		part.CoveredBy = slices.Compact(part.CoveredBy)
		if last := len(out) - 1; last >= 0 && slices.Equal(out[last].CoveredBy, part.CoveredBy) {
			out[last].MaxTime = part.MaxTime
			continue
		}
		out = append(out, part)
	}
	return out
}
