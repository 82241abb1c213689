package frontend

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/promontory-io/promontory/services/querier/internal/frontend/answer"
	"github.com/promontory-io/promontory/services/querier/internal/frontend/downstream"
	"github.com/promontory-io/promontory/services/querier/internal/frontend/plan"
	"github.com/promontory-io/promontory/services/querier/internal/frontend/results"
)

// part is an interval of a range query: what the cache knows of it, and what it lacks.
type part struct {
	key   string
	entry results.Entry
	known []results.Extent
	gaps  []gap
}

// gap is a range that the querier is asked for, once for each shard.
type gap struct {
	plan.Range

	shards []*piece
}

// piece is an answer of the querier.
type piece struct {
	answer  *answer.Answer
	noStore bool
}

// evaluate answers a range query part by part.
func (f *Frontend) evaluate(ctx context.Context, x *ranges, r plan.Range) (*outcome, error) {
	cuts := r.Split(x.interval)
	f.metrics.split.WithLabelValues(opRange).Add(float64(len(cuts)))
	if len(cuts) == 1 && len(x.shards) == 1 && !x.cached && !f.cfg.ForceStats && !(f.cfg.Range.Downsampled && x.query.AutoResolution) {
		return f.verbatim(ctx, f.ranged, x.call, f.rangeForm(x, cuts[0], ""))
	}
	parts, err := f.lookUp(ctx, x, cuts)
	if err != nil {
		return nil, err
	}
	if err := f.fill(ctx, x, parts); err != nil {
		return nil, err
	}
	return f.assemble(x, parts, r.Step)
}

// lookUp finds out what the cache has.
func (f *Frontend) lookUp(ctx context.Context, x *ranges, cuts []plan.Range) ([]*part, error) {
	parts := make([]*part, len(cuts))
	keys := make([]string, len(cuts))
	for i, cut := range cuts {
		parts[i] = &part{}
		if x.cached {
			parts[i].key = f.rangeKey(x, cut)
			keys[i] = parts[i].key
		}
	}
	if x.cached {
		for i, entry := range f.deps.RangeCache.Get(ctx, keys) {
			parts[i].entry = entry
		}
	}
	for i, cut := range cuts {
		known, gaps, err := parts[i].entry.Find(cut)
		if err != nil {
			// An entry that cannot be read is as good as none.
			parts[i].entry, known, gaps = nil, nil, []plan.Range{cut}
		}
		parts[i].known = known
		parts[i].gaps = x.gaps(gaps)
	}
	if x.cached {
		f.finer(ctx, x, parts)
	}
	return parts, nil
}

// gaps returns ranges that nobody has been asked for yet.
func (x *ranges) gaps(list []plan.Range) (out []gap) {
	for _, r := range list {
		out = append(out, gap{Range: r, shards: make([]*piece, len(x.shards))})
	}
	return out
}

// fill asks the querier for all gaps.
func (f *Frontend) fill(ctx context.Context, x *ranges, parts []*part) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(max(f.cfg.Range.Parallelism, 1))
	for _, p := range parts {
		for i := range p.gaps {
			for k, shard := range x.shards {
				one := &p.gaps[i]
				g.Go(func() error {
					if ctx.Err() != nil {
						return context.Cause(ctx)
					}
					got, err := f.fetch(ctx, f.ranged, x.call, f.rangeForm(x, one.Range, shard))
					one.shards[k] = got
					return err
				})
			}
		}
	}
	return g.Wait()
}

// fetch asks the querier for a part of c and reads its answer. An answer that says no is a [refusal].
func (f *Frontend) fetch(ctx context.Context, caller downstream.Caller, c *call, form url.Values) (*piece, error) {
	reply, err := f.ask(ctx, caller, c, form)
	if err != nil {
		return nil, err
	}
	if !reply.OK() {
		return nil, &refusal{reply: reply}
	}
	a, err := answer.Parse(reply.Body)
	if err != nil {
		return nil, err
	}
	return &piece{answer: a, noStore: noStore(reply.Header) || !harmless(a.Warnings) || !harmless(a.Infos)}, nil
}

// harmless tells whether notes are those of the query engine, which say nothing about data that are missing.
func harmless(notes []string) bool {
	return !slices.ContainsFunc(notes, func(n string) bool {
		return !strings.HasPrefix(n, "PromQL warning: ") && !strings.HasPrefix(n, "PromQL info: ")
	})
}

// assemble puts the answer together and gives to the cache what is new.
func (f *Frontend) assemble(x *ranges, parts []*part, step int64) (*outcome, error) {
	out := &outcome{}
	var all []results.Extent
	for _, p := range parts {
		all = append(all, p.known...)
		out.hits += len(p.known)
		out.parts += len(p.known) + len(p.gaps)
		var fresh []results.Extent
		for _, g := range p.gaps {
			shards := make([]*answer.Answer, len(g.shards))
			complete := true
			for i, s := range g.shards {
				shards[i] = s.answer
				complete = complete && !s.noStore
			}
			a, err := answer.Union(shards, false)
			if err != nil {
				return nil, err
			}
			extent := results.Extent{Start: g.Start, End: g.Last(), Answer: a}
			all = append(all, extent)
			out.noStore = out.noStore || !complete
			if !x.cached || !complete {
				continue
			}
			if old, ok, err := extent.Until(x.fresh, step); err != nil {
				return nil, err
			} else if ok {
				fresh = append(fresh, old)
			}
		}
		if err := f.keep(p, fresh, step); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(all, func(a, b results.Extent) int {
		switch {
		case a.Start < b.Start:
			return -1
		case a.Start > b.Start:
			return 1
		}
		return 0
	})
	answers := make([]*answer.Answer, len(all))
	for i := range all {
		answers[i] = all[i].Answer
	}
	joined, err := answer.Join(answers)
	if err != nil {
		return nil, err
	}
	a := *joined
	if a.Analysis == nil {
		a.Analysis = []byte("{}") // the querier always has the key, the cache does not
	}
	out.answer = &a
	return out, nil
}

// keep gives to the cache what is known of a part.
func (f *Frontend) keep(p *part, fresh []results.Extent, step int64) error {
	if len(fresh) == 0 {
		return nil
	}
	entry, err := p.entry.Add(fresh, step)
	if err != nil {
		return err
	}
	f.deps.RangeCache.Put(p.key, entry)
	return nil
}

// rangeKey is what has to be equal for one answer to serve for another: all that decides on values, and the interval.
func (f *Frontend) rangeKey(x *ranges, cut plan.Range) string {
	q := x.query
	phase := cut.Start % cut.Step
	return f.key(x.call, "range", x.text,
		strconv.FormatInt(cut.Step, 10), strconv.FormatInt(phase, 10),
		strconv.FormatInt(x.interval, 10), strconv.FormatInt(plan.Bucket(cut.Start, x.interval), 10),
		plan.ResolutionClass(x.resolution), q.LookbackDelta.String(), string(q.Engine),
		strconv.FormatBool(q.Dedup), strconv.FormatBool(q.PartialResponse),
		sorted(q.ReplicaLabels), sorted(x.form.Values["storeMatch[]"]))
}

// key puts the parts of a key together, after who asks. No part can be taken for two.
func (f *Frontend) key(c *call, parts ...string) string {
	var b strings.Builder
	put := func(s string) {
		b.WriteString(strconv.Itoa(len(s)))
		b.WriteByte(':')
		b.WriteString(s)
	}
	put(c.org)
	put(c.tenant)
	for _, name := range f.cfg.KeyHeaders {
		put(sortedAsIs(c.http.Header.Values(http.CanonicalHeaderKey(name))))
	}
	for _, p := range parts {
		put(p)
	}
	return b.String()
}

func sorted(list []string) string { return sortedAsIs(slices.Sorted(slices.Values(list))) }

func sortedAsIs(list []string) string {
	quoted := make([]string, len(list))
	for i, s := range list {
		quoted[i] = strconv.Quote(s)
	}
	return strings.Join(quoted, ",")
}

// verbatim passes a request on and its answer back.
func (f *Frontend) verbatim(ctx context.Context, caller downstream.Caller, c *call, form url.Values) (*outcome, error) {
	reply, err := f.ask(ctx, caller, c, form)
	if err != nil {
		return nil, err
	}
	return &outcome{reply: reply, parts: 1}, nil
}
