package results

import (
	"slices"

	"github.com/promontory-io/promontory/services/querier/internal/frontend/answer"
	"github.com/promontory-io/promontory/services/querier/internal/frontend/plan"
)

// Extent is the answer to the steps from Start to End, both inclusive.
type Extent struct {
	Start, End int64
	Answer     *answer.Answer
}

// Entry is the extents under one key: ascending, without overlap.
type Entry []Extent

// maxExtents bounds how many extents an entry has; the longest stay.
const maxExtents = 32

// Find returns what of r the entry knows and the ranges that it does not, each ascending. r is on the steps of the entry.
func (e Entry) Find(r plan.Range) (known []Extent, gaps []plan.Range, err error) {
	return e.find(r, r.Step)
}

// Sample is Find for an entry whose steps are step apart, which divides the step of r; r begins on one of them. Of what the entry
// knows every so manieth point is taken. Extents with notes are passed over: a note may be about a step that is not one of r's.
func (e Entry) Sample(r plan.Range, step int64) (known []Extent, gaps []plan.Range, err error) {
	return e.find(r, step)
}

func (e Entry) find(r plan.Range, step int64) (known []Extent, gaps []plan.Range, err error) {
	at, last, every := r.Start, r.Last(), int64(0)
	if step != r.Step {
		every = r.Step
	}
	for _, x := range e {
		start, end := max(x.Start, at), min(x.End, last)
		if start > end || at > last || every > 0 && len(x.Answer.Warnings)+len(x.Answer.Infos) > 0 {
			continue
		}
		// To the steps of r.
		start = r.Start + (start-r.Start+r.Step-1)/r.Step*r.Step
		end = r.Start + (end-r.Start)/r.Step*r.Step
		if start > end {
			continue
		}
		if start > at {
			gaps = append(gaps, plan.Range{Start: at, End: start - r.Step, Step: r.Step})
		}
		cut, err := x.Answer.Cut(start, end, every)
		if err != nil {
			return nil, nil, err
		}
		known = append(known, Extent{Start: start, End: end, Answer: cut})
		at = end + r.Step
	}
	if at <= last {
		gaps = append(gaps, plan.Range{Start: at, End: last, Step: r.Step})
	}
	return known, gaps, nil
}

// Add returns an entry that knows what e knows and what is new, which ascends and overlaps neither itself nor e. Extents that
// follow each other by one step become one.
func (e Entry) Add(fresh []Extent, step int64) (Entry, error) {
	all := append(slices.Clone(e), fresh...)
	slices.SortFunc(all, func(a, b Extent) int {
		switch {
		case a.Start < b.Start:
			return -1
		case a.Start > b.Start:
			return 1
		}
		return 0
	})
	var out Entry
	for i := 0; i < len(all); {
		k := i + 1
		for k < len(all) && all[k].Start == all[k-1].End+step {
			k++
		}
		parts := make([]*answer.Answer, 0, k-i)
		for _, x := range all[i:k] {
			parts = append(parts, x.Answer)
		}
		joined, err := answer.Join(parts)
		if err != nil {
			return nil, err
		}
		out = append(out, Extent{Start: all[i].Start, End: all[k-1].End, Answer: joined})
		i = k
	}
	for len(out) > maxExtents {
		shortest := 0
		for i := range out {
			if out[i].End-out[i].Start < out[shortest].End-out[shortest].Start {
				shortest = i
			}
		}
		out = slices.Delete(out, shortest, shortest+1)
	}
	return out, nil
}

// Until returns the extent without the steps after end; ok is false where nothing is left.
func (x Extent) Until(end, step int64) (_ Extent, ok bool, err error) {
	if x.End <= end {
		return x, true, nil
	}
	if end < x.Start {
		return Extent{}, false, nil
	}
	end = x.Start + (end-x.Start)/step*step
	cut, err := x.Answer.Cut(x.Start, end, 0)
	return Extent{Start: x.Start, End: end, Answer: cut}, err == nil, err
}
