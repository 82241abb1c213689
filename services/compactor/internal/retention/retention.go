// Package retention decides which blocks are old enough to go. It is pure: blocks, rules
// and a moment in, verdicts out.
//
// A block goes when the end of its data plus the retention of its resolution lies in the
// past. A retention of zero keeps for ever. Policies give blocks whose external labels
// match retentions of their own; the first that matches counts.
package retention

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/downsample"
	"github.com/promontory-io/promontory/services/compactor/internal/plan"
)

// Keep is how long blocks of each resolution are kept; 0 is for ever.
type Keep struct {
	Raw, FiveMinutes, OneHour time.Duration
}

// of returns the retention of a resolution; unknown ones are kept.
func (k Keep) of(resolution int64) time.Duration {
	switch resolution {
	case block.ResolutionRaw:
		return k.Raw
	case block.Resolution5m:
		return k.FiveMinutes
	case block.Resolution1h:
		return k.OneHour
	}
	return 0
}

// Policy is a Keep for the blocks that all matchers match.
type Policy struct {
	Name     string
	Matchers []*labels.Matcher
	Keep     Keep
}

// Rules are all policies and what counts where none matches.
type Rules struct {
	Default  Keep
	Policies []Policy
}

// PolicyYAML is a policy as --retention.policies spells it.
type PolicyYAML struct {
	// Name appears in verdicts and errors.
	Name string `yaml:"name"`
	// Selector is a series selector over external labels: {tenant="a",cluster=~"eu.*"}.
	Selector string         `yaml:"selector"`
	Raw      model.Duration `yaml:"resolution_raw"`
	FiveMin  model.Duration `yaml:"resolution_5m"`
	OneHour  model.Duration `yaml:"resolution_1h"`
}

// ParsePolicies checks policies and turns them into rules. All that is wrong is returned.
func ParsePolicies(in []PolicyYAML) ([]Policy, error) {
	var out []Policy
	var errs []error
	for i, y := range in {
		name := cmp.Or(y.Name, fmt.Sprintf("policy %d", i+1))
		matchers, err := parser.ParseMetricSelector(y.Selector)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: selector %q: %w", name, y.Selector, err))
			continue
		}
		out = append(out, Policy{Name: name, Matchers: matchers, Keep: Keep{
			Raw: time.Duration(y.Raw), FiveMinutes: time.Duration(y.FiveMin), OneHour: time.Duration(y.OneHour),
		}})
	}
	return out, errors.Join(errs...)
}

// Validate refuses rules that would delete data before it can be downsampled, for what
// was meant to be kept at a coarser resolution would be gone.
func (r Rules) Validate(downsampling bool) error {
	errs := []error{r.Default.validate("--retention.resolution-", downsampling)}
	for _, p := range r.Policies {
		errs = append(errs, p.Keep.validate(p.Name+": resolution_", downsampling))
	}
	return errors.Join(errs...)
}

func (k Keep) validate(prefix string, downsampling bool) error {
	var errs []error
	for _, x := range []struct {
		name string
		d    time.Duration
	}{{"raw", k.Raw}, {"5m", k.FiveMinutes}, {"1h", k.OneHour}} {
		if x.d < 0 {
			errs = append(errs, fmt.Errorf("%s%s: %s is negative", prefix, x.name, model.Duration(-x.d)))
		}
	}
	least := func(name string, d time.Duration, span int64, into string) {
		need := time.Duration(span) * time.Millisecond
		if downsampling && d > 0 && d < need {
			errs = append(errs, fmt.Errorf("%s%s: %s is too short: only blocks that span %s are downsampled to %s, so the data would be deleted before and long queries find nothing; "+
				"use at least %s, or 0 to keep for ever, or switch downsampling off", prefix, name, model.Duration(d), model.Duration(need), into, model.Duration(need)))
		}
	}
	least("raw", k.Raw, downsample.MinSpan5m, "5m")
	least("5m", k.FiveMinutes, downsample.MinSpan1h, "1h")
	return errors.Join(errs...)
}

// PolicyFor returns the index of the policy that counts for blocks with these external labels, -1 for the default.
func (r Rules) PolicyFor(external map[string]string) int {
	return slices.IndexFunc(r.Policies, func(p Policy) bool {
		return !slices.ContainsFunc(p.Matchers, func(mt *labels.Matcher) bool { return !mt.Matches(external[mt.Name]) })
	})
}

// keep returns what counts for a block, and the name of the policy.
func (r Rules) keep(m *block.Meta) (Keep, string) {
	if i := r.PolicyFor(m.Thanos.Labels); i >= 0 {
		return r.Policies[i].Keep, r.Policies[i].Name
	}
	return r.Default, "default"
}

// Verdict is a block whose time is over.
type Verdict struct {
	Block *plan.Block
	// Policy is the name of the policy, Keep its retention, Since how long it is over.
	Policy      string
	Keep, Since time.Duration
	// Held says why the block stays all the same, empty if it does not.
	Held string
}

// Details is what the deletion mark says.
func (v Verdict) Details() string {
	return fmt.Sprintf("block exceeding retention of %s", model.Duration(v.Keep))
}

// Expired returns the blocks whose time is over, oldest first. Where downsampling is on, a block
// is held until it is downsampled, if the coarser data is to be kept longer: one that is
// long enough for it, and one that jobs to come will first merge with others. Without that,
// retention would outrun the compaction of a backlog, and leave nothing to be kept.
func Expired(blocks []*plan.Block, r Rules, downsampling bool, awaited plan.Awaited, now time.Time) []Verdict {
	var out []Verdict
	busy := map[string]bool{} // groups that blocks are held in because of jobs to come
	for _, b := range blocks {
		if b.Deleting {
			continue
		}
		keep, policy := r.keep(b.Meta)
		d := keep.of(b.Meta.Thanos.Downsample.Resolution)
		over := now.Sub(time.UnixMilli(b.Meta.MaxTime).Add(d))
		if d <= 0 || over <= 0 {
			continue
		}
		v := Verdict{Block: b, Policy: policy, Keep: d, Since: over}
		if downsampling {
			v.Held = held(b, blocks, keep, awaited)
			busy[b.Meta.GroupKey()] = busy[b.Meta.GroupKey()] || v.Held == heldForJob
		}
		out = append(out, v)
	}
	// That a range is complete shows in the blocks behind it: without them its job would never come.
	for i := range out {
		if out[i].Held == "" && busy[out[i].Block.Meta.GroupKey()] {
			out[i].Held = "others of its group are going to be merged and downsampled first"
		}
	}
	slices.SortFunc(out, func(a, b Verdict) int {
		return cmp.Or(cmp.Compare(a.Block.Meta.MaxTime, b.Block.Meta.MaxTime), a.Block.ID().Compare(b.Block.ID()))
	})
	return out
}

const heldForJob = "it is going to be merged and downsampled first"

func held(b *plan.Block, all []*plan.Block, keep Keep, awaited plan.Awaited) string {
	if b.NoDownsample {
		return ""
	}
	span := b.Meta.MaxTime - b.Meta.MinTime
	longer := func(a, b time.Duration) bool { return a == 0 || a > b }
	switch r := b.Meta.Thanos.Downsample.Resolution; {
	case r == block.ResolutionRaw && span >= downsample.MinSpan5m && longer(keep.FiveMinutes, keep.Raw) && !plan.Covered(all, b, block.Resolution5m):
		return "it is not downsampled to 5m yet"
	case r == block.ResolutionRaw && longer(keep.FiveMinutes, keep.Raw) && awaited.Has(b),
		r == block.Resolution5m && longer(keep.OneHour, keep.FiveMinutes) && awaited.Has(b):
		return heldForJob
	case r == block.Resolution5m && span >= downsample.MinSpan1h && longer(keep.OneHour, keep.FiveMinutes) && !plan.Covered(all, b, block.Resolution1h):
		return "it is not downsampled to 1h yet"
	}
	return ""
}
