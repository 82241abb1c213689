package receipt

import (
	"cmp"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/promontory-io/promontory/libs/promapi/promtypes"
	"github.com/promontory-io/promontory/libs/storeapi"
)

// JSON makes the receipt of an answer out of all calls that were made for it, in the order of [Stats.All].
func JSON(calls []Store, queued, took time.Duration) promtypes.Receipt {
	out := promtypes.Receipt{
		Version: promtypes.ReceiptVersion, QueuedSeconds: queued.Seconds(), TookSeconds: took.Seconds(),
		Stores: []promtypes.ReceiptStore{}, Missing: []promtypes.ReceiptMissing{},
	}
	for len(calls) > 0 {
		n := 1
		for n < len(calls) && calls[n].Addr == calls[0].Addr {
			n++
		}
		s := store(calls[:n])
		out.Stores = append(out.Stores, s)
		addCounts(&out.Total, s.ReceiptCounts)
		out.Missing = append(out.Missing, missing(calls[:n])...)
		calls = calls[n:]
	}
	out.Coverage = coverage(out.Missing)
	return out
}

// Complete reports whether nothing is missing from the answer that calls were made for.
func Complete(calls []Store) bool {
	return !slices.ContainsFunc(calls, func(s Store) bool { return s.Missing() })
}

func coverage(missing []promtypes.ReceiptMissing) string {
	switch {
	case len(missing) == 0:
		return promtypes.CoverageComplete
	case slices.ContainsFunc(missing, func(m promtypes.ReceiptMissing) bool { return !m.Covered }):
		return promtypes.CoverageIncomplete
	}
	return promtypes.CoverageCovered
}

// store adds up all calls to one store.
func store(calls []Store) promtypes.ReceiptStore {
	first := &calls[0]
	out := promtypes.ReceiptStore{Address: first.Addr, Component: first.Component, LabelSets: first.LabelSets}
	if out.LabelSets == nil {
		out.LabelSets = []labels.Labels{}
	}
	state := Answered
	var resolutions [storeapi.NumResolutions]int64
	for i := range calls {
		c := &calls[i]
		if c.State != Lost {
			out.Requests++
		}
		out.QueuedSeconds = max(out.QueuedSeconds, c.Queued.Seconds())
		out.FirstFrameSeconds = max(out.FirstFrameSeconds, c.FirstFrame.Seconds())
		out.TookSeconds = max(out.TookSeconds, c.Elapsed.Seconds())
		out.Series += c.Series
		out.Chunks += c.Chunks
		out.Samples += c.Samples
		out.Bytes += c.Bytes
		out.Frames += c.Frames
		out.Hedged += c.Hedged
		if c.State > state {
			state, out.Error = c.State, c.Err
		}
		out.Warnings = append(out.Warnings, c.Warnings...)
		for r, n := range c.Resolutions {
			resolutions[r] += n
		}
		gateway(&out, c.Gateway)
	}
	out.State = state.String()
	slices.Sort(out.Warnings)
	out.Warnings = slices.Compact(out.Warnings)
	slices.Sort(out.Blocks)
	out.Blocks = slices.Compact(out.Blocks)
	for r, n := range resolutions {
		if n == 0 {
			continue
		}
		if out.Resolutions == nil {
			out.Resolutions = map[string]int64{}
		}
		out.Resolutions[storeapi.Resolution(r).String()] = n
	}
	return out
}

func gateway(out *promtypes.ReceiptStore, g *Gateway) {
	if g == nil {
		return
	}
	out.Blocks = append(out.Blocks, g.Blocks...)
	addOptional(&out.CacheHits, &g.CacheHits)
	addOptional(&out.CacheMisses, &g.CacheMisses)
	addOptional(&out.BytesFetched, &g.BytesFetched)
}

// missing is what all calls to one store leave open: what several selectors miss alike is said once.
func missing(calls []Store) []promtypes.ReceiptMissing {
	var out []promtypes.ReceiptMissing
	for i := range calls {
		for _, g := range calls[i].Gaps {
			out = append(out, promtypes.ReceiptMissing{
				Address: g.Addr, Component: g.Component, Labels: g.Labels, MinTime: g.MinTime, MaxTime: g.MaxTime,
				Reason: g.Reason, Covered: len(g.CoveredBy) > 0, CoveredBy: g.CoveredBy,
			})
		}
	}
	return joined(out)
}

// joined sorts by address, labels and time, and makes one of those that differ in nothing but the time and touch or overlap.
func joined(list []promtypes.ReceiptMissing) []promtypes.ReceiptMissing {
	slices.SortStableFunc(list, func(a, b promtypes.ReceiptMissing) int {
		return cmp.Or(cmp.Compare(a.Address, b.Address), labels.Compare(a.Labels, b.Labels), cmp.Compare(a.MinTime, b.MinTime), cmp.Compare(a.MaxTime, b.MaxTime))
	})
	out := list[:0]
	for _, m := range list {
		if n := len(out); n > 0 {
			last := &out[n-1]
			if last.Address == m.Address && labels.Equal(last.Labels, m.Labels) && slices.Equal(last.CoveredBy, m.CoveredBy) &&
				(m.MinTime <= last.MaxTime || m.MinTime == last.MaxTime+1) {
				last.MaxTime = max(last.MaxTime, m.MaxTime)
				continue
			}
		}
		out = append(out, m)
	}
	return out
}
