package frontend

import (
	"context"

	"github.com/promontory-io/promontory/services/querier/internal/frontend/plan"
)

// finer fills gaps from the answers to the same query at shorter steps that divide its own, as they are left behind by who
// looked at a shorter range. What is taken from there is not kept again under the longer step.
func (f *Frontend) finer(ctx context.Context, x *ranges, parts []*part) {
	type attempt struct {
		part *part
		step int64
	}
	var keys []string
	var attempts []attempt
	for _, p := range parts {
		if len(p.gaps) == 0 {
			continue
		}
		first := p.gaps[0].Range
		for _, step := range plan.Finer(first.Step) {
			// All steps of a part are in one interval, so any of them names it.
			keys = append(keys, f.rangeKey(x, plan.Range{Start: first.Start, Step: step}))
			attempts = append(attempts, attempt{p, step})
		}
	}
	if len(keys) == 0 {
		return
	}
	for i, entry := range f.deps.RangeCache.Try(ctx, keys) {
		if len(entry) == 0 {
			continue
		}
		p, step := attempts[i].part, attempts[i].step
		var rest []plan.Range
		for _, g := range p.gaps {
			known, gaps, err := entry.Sample(g.Range, step)
			if err != nil {
				known, gaps = nil, []plan.Range{g.Range} // what cannot be read is as good as nothing
			}
			p.known, rest = append(p.known, known...), append(rest, gaps...)
			f.metrics.finer.Add(float64(len(known)))
		}
		p.gaps = x.gaps(rest)
	}
}
