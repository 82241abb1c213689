package api

import (
	"github.com/promontory-io/promontory/services/compactor/internal/plan"
)

// Plan is the answer to /api/v1/compactor/plan.
type Plan struct {
	// Jobs are in the order in which they are done; those of one round may run at once.
	Jobs     []Job     `json:"jobs"`
	Marks    []Mark    `json:"marks"`
	Problems []Problem `json:"problems"`
	Bytes    int64     `json:"bytes"`
	// SecondsLeft is an estimate, 0 where nothing is known to base it on.
	SecondsLeft float64 `json:"secondsLeft"`
}

// Job is one job of a plan.
type Job struct {
	Round      int               `json:"round"`
	Kind       string            `json:"kind"`
	Group      string            `json:"group"`
	Labels     map[string]string `json:"labels"`
	Resolution int64             `json:"resolution"`
	Targets    []int64           `json:"targets"`
	// MinTime and MaxTime are Unix milliseconds.
	MinTime int64    `json:"minTime"`
	MaxTime int64    `json:"maxTime"`
	Bytes   int64    `json:"bytes"`
	Samples uint64   `json:"samples"`
	Overlap bool     `json:"overlap"`
	Sources []string `json:"sources"`
}

// Mark is a no-compact mark to be set.
type Mark struct {
	Block   string `json:"block"`
	Reason  string `json:"reason"`
	Details string `json:"details"`
}

// Problem is blocks that cannot be planned with.
type Problem struct {
	Kind   string   `json:"kind"`
	Group  string   `json:"group"`
	Blocks []string `json:"blocks"`
	Reason string   `json:"reason"`
}

func planOf(rounds []plan.Plan, rate float64) Plan {
	s := plan.Summarize(rounds, rate, 1)
	out := Plan{Jobs: []Job{}, Marks: []Mark{}, Problems: []Problem{}, Bytes: s.Bytes, SecondsLeft: s.Left.Seconds()}
	for n, r := range rounds {
		for i := range r.Jobs {
			j := &r.Jobs[i]
			out.Jobs = append(out.Jobs, Job{
				Round: n, Kind: string(j.Kind), Group: j.Group, Labels: j.Labels, Resolution: j.Resolution, Targets: j.Targets,
				MinTime: j.MinTime, MaxTime: j.MaxTime, Bytes: j.Bytes(), Samples: j.Samples(), Overlap: j.Overlap, Sources: idStrings(j.Sources),
			})
		}
		for _, m := range r.Marks {
			out.Marks = append(out.Marks, Mark{Block: m.ID.String(), Reason: string(m.Reason), Details: m.Details})
		}
		if n > 0 {
			continue
		}
		for _, p := range r.Problems {
			out.Problems = append(out.Problems, Problem{Kind: string(p.Kind), Group: p.Group, Blocks: idStrings(p.Blocks), Reason: p.Reason})
		}
	}
	return out
}

func idStrings(bs []*plan.Block) []string {
	out := make([]string, len(bs))
	for i, b := range bs {
		out[i] = b.ID().String()
	}
	return out
}
