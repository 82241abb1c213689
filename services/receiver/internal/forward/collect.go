package forward

import (
	"github.com/promontory-io/promontory/services/receiver/internal/quorum"
	"github.com/promontory-io/promontory/services/receiver/internal/verdict"
)

// collector turns answers of groups into answers for series.
type collector struct {
	plan    *plan
	tally   *quorum.Tally
	details map[uint32]verdict.Failure // the gravest of each series that failed somewhere
	errs    []error
}

func (c *collector) count(a answer) {
	if a.err != nil && len(c.errs) < verdict.MaxReasons {
		c.errs = append(c.errs, a.err)
	}
	next := 0 // failures come in order of their places
	place := uint32(0)
	for _, gp := range a.group.parts {
		offset := uint32(c.plan.offsets[gp.part])
		for _, s := range gp.pick {
			kind := a.kind
			for next < len(a.failures) && a.failures[next].Series == place {
				kind = max(kind, a.failures[next].Kind)
				c.detail(offset+s, a.failures[next])
				next++
			}
			c.tally.Add(offset+s, kind)
			place++
		}
	}
}

func (c *collector) detail(series uint32, f verdict.Failure) {
	if c.details == nil {
		c.details = map[uint32]verdict.Failure{}
	}
	old, ok := c.details[series]
	if !ok || f.Kind > old.Kind || f.Kind == old.Kind && old.Reason == "" {
		c.details[series] = f
	}
}

// failures are the series that were not written, in order.
func (c *collector) failures() []verdict.Failure {
	out := c.plan.bad
	badAt := map[uint32]bool{}
	for _, f := range out {
		badAt[f.Series] = true
	}
	errs := c.errs
	for i := range c.plan.parts {
		for s := range c.plan.parts[i].Series {
			series := uint32(c.plan.offsets[i] + s)
			kind := c.tally.Outcome(series)
			if kind == verdict.OK || badAt[series] {
				continue
			}
			sr := &c.plan.parts[i].Series[s]
			f := verdict.Failure{Series: series, Kind: kind, Floats: sr.Floats, Histograms: sr.Histograms, Exemplars: sr.Exemplars}
			if d, ok := c.details[series]; ok && d.Kind == kind {
				if d.Floats+d.Histograms+d.Exemplars > 0 {
					f.Floats, f.Histograms, f.Exemplars = d.Floats, d.Histograms, d.Exemplars
				}
				f.Reason = d.Reason
			}
			if f.Reason == "" && len(errs) > 0 {
				f.Reason, errs = errs[0].Error(), errs[1:]
			}
			out = append(out, f)
		}
	}
	return out
}
