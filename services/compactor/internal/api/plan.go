package api

import (
	"github.com/promontory-io/promontory/services/compactor/internal/plan"
	"github.com/promontory-io/promontory/services/compactor/internal/run"
)

// Plan is the answer to /api/v1/compactor/plan.
type Plan struct {
	// Jobs are in the order in which they are done; those of one round may run at once.
	Jobs     []Job     `json:"jobs"`
	Marks    []Mark    `json:"marks"`
	Problems []Problem `json:"problems"`
	// Retention is what retention marks next, the oldest first.
	Retention []Expired `json:"retention"`
	// Bytes are those that the jobs read.
	Bytes int64 `json:"bytes"`
	// SecondsLeft is an estimate from how fast jobs were so far, or from an assumption
	// where none has ended yet.
	SecondsLeft float64 `json:"secondsLeft"`
	Assumed     bool    `json:"assumed"`
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

// Expired is a block whose retention is over.
type Expired struct {
	Block      string            `json:"block"`
	Labels     map[string]string `json:"labels"`
	Resolution int64             `json:"resolution"`
	// MinTime and MaxTime are Unix milliseconds.
	MinTime int64 `json:"minTime"`
	MaxTime int64 `json:"maxTime"`
	Bytes   int64 `json:"bytes"`
	// Policy is its name, "default" for the flags; KeepSeconds its retention; OverSeconds how long it
	// is over.
	Policy      string  `json:"policy"`
	KeepSeconds float64 `json:"keepSeconds"`
	OverSeconds float64 `json:"overSeconds"`
	// Held says why the block stays for now, empty if it does not.
	Held string `json:"held"`
}

// NewPlan describes an outlook.
func NewPlan(o *run.Outlook) Plan {
	s := o.Summary()
	out := Plan{
		Jobs: []Job{}, Marks: []Mark{}, Problems: []Problem{}, Retention: []Expired{},
		Bytes: s.Bytes, SecondsLeft: s.Left.Seconds(), Assumed: o.Assumed,
	}
	for _, v := range o.Retention {
		m := v.Block.Meta
		out.Retention = append(out.Retention, Expired{
			Block: m.ULID.String(), Labels: m.Thanos.Labels, Resolution: m.Thanos.Downsample.Resolution, MinTime: m.MinTime, MaxTime: m.MaxTime,
			Bytes: v.Block.SizeBytes, Policy: v.Policy, KeepSeconds: v.Keep.Seconds(), OverSeconds: v.Since.Seconds(), Held: v.Held,
		})
	}
	for n, r := range o.Rounds {
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
